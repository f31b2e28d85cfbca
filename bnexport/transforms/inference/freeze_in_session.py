# SPDX-License-Identifier: Apache-2.0
"""Freezing by TensorFlow itself: a session and its graph_util."""

from __future__ import annotations

from bnexport.errors import SourceError, first_line
from bnexport.graph import Graph, ops
from bnexport.graph.importing import import_graph
from bnexport.graph.variables import assignment, own_read
from bnexport.model.stream import to_graph_def
from bnexport.tf1 import session, tf1
from bnexport.transforms.inference.freeze_variables import refuse_unusable


def freeze(model, denylist=()):
  """Restores the variables into a session and makes them constants there.

  The graph is then what `convert_variables_to_constants` makes of it; the
  same as what `freeze_variables` makes, by another way.

  Args:
    model: gets another graph, of nothing but what the outputs need.
    denylist: variables that stay variables.

  Returns:
    What was done, a line each.

  Raises:
    SourceError: the checkpoint lacks a variable, or TensorFlow does not take
      the graph.
  """
  graph = model.graph
  roots = [ref.node for ref in model.outputs] + list(model.initializers)
  graph.keep(graph.ancestors(roots))
  variables = [node.name for node in graph if node.op in ops.VARIABLES]
  frozen = [name for name in variables if name not in denylist]
  refuse_unusable(model, frozen)
  for name in frozen:
    if graph.op(name) == "VarHandleOp":
      own_read(graph, name)
  graph_def = to_graph_def(model)
  try:
    converted = _converted(model, graph_def, frozen, roots, list(denylist))
  except (tf1.errors.OpError, ValueError, KeyError, TypeError) as error:
    raise SourceError(
      "freeze in a session",
      first_line(error),
      "pass --engine=stream",
    ) from error
  model.graph = Graph(converted)
  model.graph.versions.CopyFrom(graph.versions)
  return [f"froze {len(frozen)} variables in a session"]


def _converted(model, graph_def, frozen, roots, denylist):
  """What `convert_variables_to_constants` makes of a GraphDef."""
  # TensorFlow writes defaults of attributes into what it imports.
  taken = tf1.GraphDef()
  taken.CopyFrom(graph_def)
  imported = import_graph(taken)
  with imported.as_default(), session(imported) as running:
    for name in frozen:
      assign, holder = assignment(imported, model.graph.node(name))
      running.run(assign, {holder: model.values[name]})
    return tf1.graph_util.convert_variables_to_constants(
      running, graph_def, roots, variable_names_blacklist=denylist
    )
