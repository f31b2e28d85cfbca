# SPDX-License-Identifier: Apache-2.0
"""The examination of a graph file: its overview and its findings."""

from __future__ import annotations

import dataclasses
import os
from typing import Dict, List

from bnexport import checks, text
from bnexport.checks.rule import NOTE, Finding
from bnexport.checks.subject import Source, Subject
from bnexport.errors import GraphError, SourceError, nearest
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures, in_scope
from bnexport.model.checkpoint import Checkpoint, find_prefix
from bnexport.model.model import find_tensors
from bnexport.report import terminal
from bnexport.report.overview import overview
from bnexport.sources import keras_model, saved_model
from bnexport.sources.files import read_proto
from bnexport.sources.signature import by_signature
from bnexport.tf1 import tf1

# Tensors with more elements are abbreviated where nodes are shown.
_LARGEST = 16
_FLAG = "--output_node"


@dataclasses.dataclass
class Examination:
  """The overview of a graph and the findings about it.

  Attributes:
    subject: the Subject.
    seen: what `overview.overview` returned.
    findings: Findings, in the order of the catalogue.
  """

  subject: Subject
  seen: Dict
  findings: List[Finding]

  @property
  def stand_against(self):
    """Findings that stand against using the graph."""
    return [f for f in self.findings if f.severity != NOTE]

  def facts(self):
    """Everything, as one object of plain values."""
    return dict(
      self.seen, findings=[dataclasses.asdict(f) for f in self.findings]
    )

  def text(self):
    """Everything, for a terminal."""
    return terminal.examination(self.facts())

  def show(self, name):
    """A node, or the nodes of a scope, as text.

    Raises:
      GraphError: the graph has neither, or can't be opened.
    """
    graph = self.subject.graph
    if graph is None:
      raise GraphError(
        f"show '{name}'",
        "the graph does not open",
        "see the findings without --show",
      )
    nodes = [node for node in graph if in_scope(node.name, name)]
    if not nodes:
      raise GraphError(
        f"show '{name}'",
        "no node has that name or scope",
        nearest(name, graph.names()),
      )
    return text.dumps(nodes, largest=_LARGEST, brief=True)


def look(
  graph_def=None,
  checkpoint=None,
  meta_graph=None,
  saved_model_dir=None,
  keras_file=None,
  tags=(),
  signature=None,
  outputs=(),
  target_tf=None,
):
  """Examines the files that a user names; no graph is imported or run.

  Args:
    graph_def: a GraphDef's file, or None.
    checkpoint: prefix, file or directory of a checkpoint, or None.
    meta_graph: the training graph where it is not beside the checkpoint.
    saved_model_dir: a SavedModel, or None.
    keras_file: a Keras file, or None.
    tags: of the SavedModel's graph.
    signature: of the SavedModel.
    outputs: names of the outputs; guessed where there are none.
    target_tf: version of the TensorFlow that is to read it, or None.

  Returns:
    An Examination.

  Raises:
    SourceError: a file is missing or unsound, or an output is not in the graph.
    GraphError: the graph does not open, and no rule tells why.
  """
  values = None
  signatures, inputs, kind, assets = Signatures(), (), None, {}
  named = [name.strip() for name in outputs]
  prefix = None if checkpoint is None else find_prefix(checkpoint)
  if saved_model_dir is not None:
    saved = by_signature(
      saved_model.read(saved_model_dir, tags, signature), named
    )
    proto, signatures, prefix = (
      saved.graph_def,
      saved.signatures,
      saved.variables,
    )
    path, kind, assets = saved_model_dir, "SavedModel", saved.assets
    inputs = list(saved.inputs.values())
    outputs = list(saved.outputs.values())
    named = outputs if named else named
  elif keras_file is not None:
    model, _ = keras_model.load(keras_file, named)
    proto, values = model.graph.to_graph_def(), model.values
    path, kind, inputs = keras_file, "Keras model", list(model.input_keys)
    outputs = [str(ref) for ref in model.outputs]
    named = outputs if named else named
  elif graph_def is not None:
    path = graph_def
    proto = read_proto(path, tf1.GraphDef, "the graph")
  else:
    path = meta_graph or _beside(prefix)
    meta = read_proto(path, tf1.MetaGraphDef, "the training graph")
    proto = meta.graph_def
    signatures = Signatures(meta.meta_info_def.stripped_op_list.op)
  if not proto.node:
    raise SourceError(
      f"inspect '{path}'",
      "it holds no graph",
      "give the file that TensorFlow wrote",
    )
  _refuse_unknown(named, proto)
  source = Source(
    graph_def=graph_def,
    checkpoint=None if saved_model_dir else prefix,
    meta_graph=meta_graph,
    saved_model=saved_model_dir,
    keras=keras_file,
    assets=assets,
    size=_size(path),
  )
  subject = Subject(proto, source, signatures, prefix, outputs, target_tf)
  if values is not None:
    subject.values = values
  if subject.graph is not None:
    # Nodes that can't be mended are not in the graph, and have a finding.
    there = [n for n in named if TensorRef.parse(n).node in subject.graph]
    find_tensors(subject.graph, signatures, there, _FLAG)
  findings = checks.run(subject)
  if subject.graph is None and not findings:
    raise GraphError(
      f"inspect '{path}'",
      subject.error.fact,
      "no command mends that, write the graph again",
    )
  return Examination(
    subject, _overview(subject, path, kind, inputs, outputs), findings
  )


def _beside(prefix):
  """The training graph that Saver.save writes beside a checkpoint.

  Raises:
    SourceError: there is none.
  """
  path = prefix + ".meta"
  if not tf1.gfile.Exists(path):
    raise SourceError(
      f"inspect checkpoint '{prefix}'",
      f"it holds {len(Checkpoint(prefix).shapes)} tensors and no graph, and "
      f"'{path}' is not there",
      "give the training graph with --meta_graph=FILE or --graph_def=FILE",
    )
  return path


def _refuse_unknown(names, graph_def):
  nodes = {node.name for node in graph_def.node} if names else ()
  for name in names:
    if TensorRef.parse(name).node not in nodes:
      raise SourceError(
        f"find {_FLAG} '{name}'",
        "the graph has no such node",
        nearest(name, nodes),
      )


def _size(path):
  if tf1.gfile.IsDirectory(path):
    path = os.path.join(path, "saved_model.pb")
  return tf1.gfile.Stat(path).length if tf1.gfile.Exists(path) else None


def _overview(subject, path, kind, inputs, outputs):
  graph, flow = subject.graph, None
  if graph is None:  # it does not open; its file has a size all the same
    graph, kind = Graph(tf1.GraphDef()), "broken graph"
  else:
    flow = subject.flow
    kind = kind or ("frozen graph" if subject.is_frozen else None)
  said = overview(
    graph,
    file=path,
    size=subject.source.size,
    kind=kind,
    values=subject.values,
    signatures=subject.signatures,
    inputs=inputs,
    outputs=[name for name in outputs if TensorRef.parse(name).node in graph],
    flow=flow,
  )
  # Those of the file: mending has changed the graph.
  said["ops"] = subject.ops
  return said
