# SPDX-License-Identifier: Apache-2.0
"""The examination of a graph file: its overview and its findings."""

from __future__ import annotations

import dataclasses
from typing import Dict, List

from bnexport import checks, sources, text
from bnexport.checks.rule import NOTE, Finding
from bnexport.checks.subject import Subject
from bnexport.errors import GraphError, SourceError, nearest
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import in_scope
from bnexport.model.model import find_tensors
from bnexport.report import facts, screen, terminal
from bnexport.report.layout import WIDTH
from bnexport.report.overview import overview
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
    return dict(self.seen, findings=list(map(facts.finding, self.findings)))

  def text(self):
    """Everything, as text."""
    return terminal.examination(self.facts())

  def lines(self, width=WIDTH):
    """The same in short, as layout.Lines of some width."""
    return screen.examination(self.facts(), width)

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


def look(request, target_tf=None):
  """Looks at what a user names; nothing of it is imported or run.

  Args:
    request: a Request; its outputs are guessed where there are none.
    target_tf: the TensorFlow that is to read the graph, or None.

  Returns:
    An Examination.

  Raises:
    SourceError: a file is missing or unsound, or an output is not in the graph.
    GraphError: the graph does not open, and no rule tells why.
  """
  contents = sources.read(request)
  if not contents.graph_def.node:
    raise SourceError(
      f"inspect '{contents.origin}'",
      "it holds no graph",
      "give the file that TensorFlow wrote",
    )
  named = contents.outputs if request.outputs else ()
  _refuse_unknown(named, contents.graph_def)
  subject = Subject(contents, request, target_tf)
  if subject.graph is not None:
    # Nodes that can't be mended are not in the graph, and have a finding.
    there = [n for n in named if TensorRef.parse(n).node in subject.graph]
    find_tensors(subject.graph, contents.signatures, there, _FLAG)
  findings = checks.run(subject)
  if subject.graph is None and not findings:
    raise GraphError(
      f"inspect '{contents.origin}'",
      subject.error.fact,
      "no command mends that, write the graph again",
    )
  return Examination(subject, _overview(subject, contents), findings)


def _refuse_unknown(names, graph_def):
  nodes = {node.name for node in graph_def.node} if names else ()
  for name in names:
    if TensorRef.parse(name).node not in nodes:
      raise SourceError(
        f"find {_FLAG} '{name}'",
        "the graph has no such node",
        nearest(name, nodes),
      )


def _overview(subject, contents):
  graph, flow, kind = subject.graph, None, contents.label
  if graph is None:  # what can be said of a graph that does not open
    graph, kind = Graph(tf1.GraphDef()), "broken graph"
  else:
    flow = subject.flow
    kind = kind or ("frozen graph" if subject.is_frozen else None)
  said = overview(
    graph,
    subject.values,
    subject.signatures,
    contents.inputs,
    [n for n in contents.outputs if TensorRef.parse(n).node in graph],
    flow,
    subject.norms_of,
  )
  if kind is not None:
    said["kind"] = kind
  # The ops are those of the file: mending has changed the graph.
  said.update(file=contents.origin, size=subject.size, ops=subject.ops)
  return said
