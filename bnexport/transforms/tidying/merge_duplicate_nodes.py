# SPDX-License-Identifier: Apache-2.0
"""Merging of nodes that compute the same."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, ClassVar, Dict, List

from bnexport.graph import ops
from bnexport.graph.nodes import functions_of
from bnexport.model import Model
from bnexport.transforms.tidying.names import protected


@dataclasses.dataclass(frozen=True)
class MergeDuplicateNodes:
  """Keeps one of several nodes that have op, inputs, attributes and device.

  Placeholders, inputs and outputs, ops that keep a state or draw random
  numbers, ops that this TensorFlow does not know, and calls of functions are
  never merged. Functions' nodes stay.

  Before: a = Neg(x)   b = Neg(x)   y = Add(a, b)
  After:  a = Neg(x)   y = Add(a, a)
  """

  name: ClassVar[str] = "merge_duplicate_nodes"

  def apply(self, model: Model) -> List[str]:
    graph, merged = model.graph, 0
    first: Dict[Any, str] = {}
    kept = protected(model)
    for name in graph.topological():
      node = graph.node(name)
      if name in kept or not _can_merge(model, node):
        continue
      # Inputs come first in this order, so theirs are merged already.
      other = first.setdefault(_key(node), name)
      if other != name:
        reads = graph.reads(name)
        graph.substitute({ref: ref._replace(node=other) for ref in reads})
        graph.remove([name])
        merged += 1
    return [f"merged {merged} nodes with equal ones"] if merged else []


def _can_merge(model, node):
  if node.op in ops.PLACEHOLDERS or node.op not in model.signatures:
    return False
  if any(name in model.graph.library for name in functions_of(node)):
    return False
  return not model.signatures[node.op].is_stateful


def _key(node):
  """A digest of all of a node but its name."""
  nameless = type(node)()
  nameless.CopyFrom(node)
  nameless.ClearField("name")
  # It tells where the node was made.
  nameless.ClearField("experimental_debug_info")
  return hashlib.sha256(nameless.SerializeToString(deterministic=True)).digest()
