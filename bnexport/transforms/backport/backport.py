# SPDX-License-Identifier: Apache-2.0
"""A graph that an older TensorFlow reads."""

from __future__ import annotations

import collections
import dataclasses
from typing import ClassVar, List

from bnexport.errors import TransformError
from bnexport.graph import op_history
from bnexport.model import Model
from bnexport.transforms.backport import rules
from bnexport.transforms.backport.backport_graph import BackportGraph


@dataclasses.dataclass(frozen=True)
class Backport:
  """Leaves no op, attribute or type that an older TensorFlow lacks.

  Ops are replaced by older ones that compute the same, attributes that say
  what the older op does anyway are dropped, and the graph's version is
  lowered. Bodies of functions are treated alike, as far as one node can take
  the place of another. An op that an older TensorFlow has may still lack a
  kernel for some types or ranks there; of those, norms of float16 and Softmax
  of other ranks than 2 are taken care of.

  `_output_shapes` goes too: TensorFlow infers shapes anew, and up to 1.7
  refuses to import what does not match its own. Other attributes that begin
  with an underscore stay, every TensorFlow lets them pass.

  Before: a = AddV2(x, b)   y = LeakyRelu(a) {alpha=0.2}
  After:  a = Add(x, b)   y/scaled = Mul(a, y/alpha)
          y = Maximum(a, y/scaled)

  Refuses what has no older form, all of it at once; nothing is changed then.
  Run first: inline_functions, strip_unused_nodes, and convert_layout where
  NCHW convolutions are dilated.

  Attributes:
    tf: the oldest TensorFlow to read the graph. One whose ops are not on
      record counts as the one before it that is; see op_history.
  """

  name: ClassVar[str] = "backport"
  tf: str = "1.4"

  def apply(self, model: Model) -> List[str]:
    op_history.counts_as(self.tf)
    # On a copy, so that a refusal leaves the model as it was.
    copy = dataclasses.replace(model, graph=model.graph.clone())
    target = BackportGraph(copy, self.tf)
    done = _lower(target, self.tf)
    stripped = _strip(copy.graph, self.tf)
    left = list(op_history.newer_than(copy.graph, self.tf))
    if left:
      raise _refusal(left, target.refused, self.tf)
    told = [
      f"rewrote {count} {op} for TF {self.tf}" for op, count in done.items()
    ]
    if stripped:
      told.append(
        f"dropped {stripped} attributes that TF {self.tf} does not know and "
        "that change nothing"
      )
    told += _lower_versions(copy.graph.versions, self.tf)
    if told:
      model.graph = copy.graph
    else:
      _drop_shapes(model.graph)
    return told


def _lower(target, version):
  """Replaces ops; returns how many of each, those of functions included."""
  done = collections.Counter()
  for node in target.graph:
    op = node.op
    rule = rules.find(node, version)
    if rule is not None and rule(target, node):
      done[op] += 1
  for function in target.graph.library.values():
    for node in function.node_def:
      op = node.op
      rule = rules.find(node, version)
      if rule is None:
        continue
      if rules.lower_in_function(function, node):
        done[op] += 1
      else:
        path = f"{function.signature.name}/{node.name}"
        target.refused[path] = (
          "it lies in a function, run inline_functions first"
        )
  return done


def _strip(graph, version):
  """Drops attributes that are void there; returns how many it knew not."""
  _drop_shapes(graph)
  count = 0
  for node, _ in graph.every_node():
    for key in _void_attributes(node, version):
      del node.attr[key]
      count += 1
  return count


def _drop_shapes(graph):
  for node, _ in graph.every_node():
    node.attr.pop("_output_shapes", None)


def _void_attributes(node, version):
  if not op_history.knows(version, node.op):
    return []
  newer = {found.attribute for found in op_history.newer_in_node(node, version)}
  return [
    key
    for key in node.attr
    if not key.startswith("_")
    and not op_history.knows_attribute(version, node.op, key)
    and (key not in newer or (node.op, key) in op_history.HINTS)
  ]


def _lower_versions(versions, version):
  """Makes the graph one that a TensorFlow's importer accepts.

  `producer` decides how a newer TensorFlow understands a graph, and what is
  in it now is what `version` writes. `min_consumer` can be lowered since
  nothing is left that needs more.
  """
  producer, _ = op_history.graph_versions(version)
  if versions.producer <= producer and versions.min_consumer <= producer:
    return []
  versions.producer = min(versions.producer, producer)
  versions.min_consumer = min(versions.min_consumer, producer)
  return [f"lowered the graph's version to {producer}, that of TF {version}"]


def _refusal(left, refused, version):
  """The error: the first thing that has no older form, and how many more."""
  first = left[0]
  fact = f"{first.what} of node '{first.node}'"
  if first.attribute is not None:
    fact += f" ({first.op})"
  if first.since is None:
    fact += " is in no TensorFlow on record"
  elif op_history.is_older(version, first.since):
    fact += f" is newer (TF {first.since})"
  else:
    fact += " is gone there"
  fact += " and has no older form"
  if first.node in refused:
    fact += ": " + refused[first.node]
  if len(left) > 1:
    fact += f" (and {len(left) - 1} more)"
  known = op_history.known_versions()
  if not all(n.since and op_history.is_older(version, n.since) for n in left):
    advice = "cut it away with --input_node"
  else:
    enough = max((newer.since for newer in left), key=known.index)
    advice = f"pass --target_tf={enough}, or cut it away with --input_node"
  return TransformError(f"backport to TF {version}", fact, advice)
