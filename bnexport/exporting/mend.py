# SPDX-License-Identifier: Apache-2.0
"""The steps that make a wrongly frozen graph a training graph again."""

from __future__ import annotations

from bnexport.analysis.dependence import FREE, Dependence
from bnexport.batchnorm.averages import Averages
from bnexport.errors import TransformError
from bnexport.graph import ops
from bnexport.graph.variables import variable_of
from bnexport.model.changes import changes_by
from bnexport.transforms.inference.inline_functions import InlineFunctions
from bnexport.transforms.inference.replace_inputs import ReplaceInputs
from bnexport.transforms.repair.restore_updates import RestoreUpdates
from bnexport.transforms.repair.separate_loops import SeparateLoops
from bnexport.transforms.repair.state_shapes import StateShapes
from bnexport.transforms.repair.thaw_variables import ThawVariables


def mend(model, keep, averages=()):
  """Gives a frozen graph its variables and updates back.

  Args:
    model: opened as a `frozen_graph`; is edited. Its history says what was
      mended before, and afterwards all that was.
    keep: names and scopes of norms that mean to use the batch.
    averages: names and scopes of the checkpoint's keys that are averages.

  Returns:
    Whether anything was mended.

  Raises:
    TransformError: nothing but names tells the averages of a norm.
  """
  told = model.history + _done(ReplaceInputs(), model)
  told += changes_by("mend", _unknown(model))
  # What follows looks into functions; that they are inlined mends nothing.
  InlineFunctions().apply(model)
  for transform in (
    SeparateLoops(),
    ThawVariables(),
    StateShapes(),
  ):
    told += _done(transform, model)
  is_alone = model.request is None or not model.request.training
  if is_alone:
    _refuse_last(model)
  told += _done(RestoreUpdates(keep, averages), model)
  model.history = told
  if is_alone:
    _refuse_unordered(model)
  return bool(told)


def _refuse_last(model):
  """Raises where a variable holds what the last batch had of a statistic.

  What averages such a variable waits for nothing that the outputs need, so
  freezing cuts it off.
  """
  needed = model.needed()
  if not any(
    model.graph.op(name) in ops.ASSIGN for name in model.graph.names()
  ):
    return
  averages = Averages.read(model.graph, needed)
  for average in averages.all:
    if average.statistic.node in needed and averages.is_last(average):
      raise TransformError(
        f"mend variable '{average.variable}'",
        f"it holds what the last batch had of '{average.statistic}', and "
        "freezing may have cut off what averages it",
        "pass --checkpoint=PREFIX with its .meta beside it",
      )


def _refuse_unordered(model):
  """Raises where a write may come before or after what reads the variable.

  Freezing a resource variable leaves out what its reads wait for. Writes that
  depend on the batch train; one that is the same in each run prepares.
  """
  graph = model.graph
  writes = [name for name in graph.names() if graph.op(name) in ops.UPDATES]
  if not writes:
    return
  dependence, read = Dependence(graph, graph.topological()), model.needed()
  for name in writes:
    handle, *values = graph.data_inputs(name)
    variable = variable_of(graph, handle)
    if (
      variable in read
      and graph.op(variable) == "VarHandleOp"
      and all(dependence(ref) == FREE for ref in values)
    ):
      raise TransformError(
        f"mend variable '{variable}'",
        f"freezing left out whether it is read before '{name}' writes it",
        "pass --checkpoint=PREFIX with its .meta beside it",
      )


def _done(transform, model):
  return changes_by(transform.name, transform.apply(model))


def _unknown(model):
  """Says which nodes keep TensorFlow from importing the file."""
  return [
    f"removed '{node.name}': TensorFlow does not know its op '{node.op}'"
    for node in model.graph
    if node.op not in model.graph.library and node.op not in model.signatures
  ]


def is_same(original, model):
  """Whether rewriting changed nothing of what the outputs need.

  What they only wait for may go without a word, but for updates: there is no
  variable left that these could write.

  Args:
    original: the Model before.
    model: the Model afterwards.
  """
  awaited = original.needed(control=True)
  if any(original.graph.op(name) in ops.UPDATES for name in awaited):
    return False
  for name in original.needed():
    if name not in model.graph:
      return False
    before, after = original.graph.node(name), model.graph.node(name)
    if before.op in ops.VARIABLES:
      if after.op != "Const":
        return False
    elif (
      before.op != after.op
      or original.graph.data_inputs(name) != model.graph.data_inputs(name)
      or _attributes(before) != _attributes(after)
    ):
      return False
  return True


def _attributes(node):
  return {k: v for k, v in node.attr.items() if not k.startswith("_")}
