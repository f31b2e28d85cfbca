"""The training graph itself as a reference, run by TensorFlow.

It shares as little as it can with the export: conditionals are run, not
folded; variables are variables; the phase and the stored averages are fed.
"""

from __future__ import annotations

import numpy as np

from bnexport import ops
from bnexport.comparison import first_line
from bnexport.errors import ComparisonError, Error
from bnexport.graph import TensorRef
from bnexport.nodes import bool_attr, static_shape
from bnexport.tf1 import session, tf1
from bnexport.transforms.remove_dropout import RemoveDropout
from bnexport.transforms.remove_noise import RemoveNoise
from bnexport.variables import Frames, read, variable_of


class TrainingGraph:
  """The forward pass of a training graph, with the averages in their place."""

  what = (
    "the training graph run by TensorFlow, with the phase and the stored "
    "averages fed"
  )

  def __init__(self, original, model):
    """Prepares; nothing is run before `answers`.

    Args:
      original: a Model with the graph as it was before it was decided.
      model: the exported Model: says what was decided and stored.
    """
    self._original = original
    self._decided = model.decided
    self._stored = model.stored
    self._settled = model.settled
    self._averages_kept = model.averages
    self._is_random = model.is_noise_removed
    self._session = None

  def answers(self, feeds):
    """Outputs for feeds by node name.

    Raises:
      ComparisonError: TensorFlow can't run the training graph.
    """
    try:
      if self._session is None:
        self._open()
      # What only the training part needs has no effect on the answers.
      feeds = dict(self._unfed, **feeds)
      feeds = {name + ":0": value for name, value in feeds.items()}
      feeds.update(self._settings)
      feeds.update(self._averages(feeds))
      self._restore()
      return self._session.run(self._outputs, feeds)
    except (
      Error,
      tf1.errors.OpError,
      ValueError,
      KeyError,
      TypeError,
      RuntimeError,
    ) as error:
      raise ComparisonError(
        "the training graph does not run here (%s)" % first_line(error)
      ) from error

  def _open(self):
    if self._is_random:
      raise ComparisonError("its norms draw random numbers")
    original = self._original
    graph = original.graph
    for transform in (RemoveDropout(), RemoveNoise()):
      transform.apply(original)
    for old, new in self._settled.items():
      graph.redirect(old, new, original.needed())
    for ref, variable in self._stored.items():
      node = graph.node(ref.node)
      if node.op in ops.FUSED_NORMS:
        node.attr["is_training"].CopyFrom(bool_attr(False))
        graph.set_input(ref.node, ref.index + 2, read(graph, variable))
    _drop_updates(graph, self._averages_kept)
    roots = [ref.node for ref in original.outputs]
    graph.keep(graph.ancestors(roots + list(original.initializers)))
    self._outputs = [_name(ref) for ref in original.outputs]
    graph_def = graph.to_graph_def()
    for node in graph_def.node:
      node.attr.pop("_output_shapes", None)
    imported = tf1.Graph()
    with imported.as_default():
      tf1.import_graph_def(graph_def, name="")
      self._session = session(imported)
      self._assigns = list(self._loaders(imported, original))
      self._restore()
      if original.initializers:
        self._session.run(list(original.initializers))
    self._settings = {
      name + ":0": _shaped(graph, name, value)
      for name, value in self._decided.items()
      if name in graph and graph.op(name) in ops.PLACEHOLDERS | {"Const"}
    }
    self._statistics = {
      ref: variable
      for ref, variable in self._stored.items()
      if ref.node in graph and graph.op(ref.node) not in ops.FUSED_NORMS
    }
    frames = Frames(graph, graph.topological())
    if any(frames.of(ref.node) for ref in self._statistics):
      raise ComparisonError("nothing can be fed inside a loop")
    self._unfed = {
      node.name: _default_feed(graph, node.name)
      for node in graph
      if node.op in ("Placeholder", "PlaceholderV2")
    }

  def _loaders(self, imported, original):
    """Yields operations that set the variables, with what they are fed."""
    for node in original.graph:
      if node.op not in ops.VARIABLES:
        continue
      tensor = imported.get_tensor_by_name(node.name + ":0")
      holder = tf1.placeholder(node.attr["dtype"].type)
      if node.op == "VarHandleOp":
        assign = tf1.raw_ops.AssignVariableOp(resource=tensor, value=holder)
      else:
        assign = tf1.raw_ops.Assign(
          ref=tensor, value=holder, validate_shape=False
        )
      yield assign, holder, node.name

  def _restore(self):
    # Every run of a training graph may update its variables.
    for assign, holder, name in self._assigns:
      self._session.run(assign, {holder: self._value(name)})

  def _value(self, name):
    if name in self._decided:
      return np.asarray(self._decided[name])
    return self._original.values[name]

  def _averages(self, feeds):
    """Stored averages in the shapes of the statistics they stand for."""
    refs = list(self._statistics)
    shapes = self._session.run([_name(ref) for ref in refs], feeds)
    fed = {}
    for ref, like in zip(refs, shapes):
      value = self._original.values[self._statistics[ref]]
      if value.size == like.size:
        value = value.reshape(like.shape)
      fed[_name(ref)] = np.broadcast_to(value, like.shape).astype(like.dtype)
    return fed


def _drop_updates(graph, averages):
  """Lets nothing wait for updates of the averages.

  Where an update is not in a conditional it races with reads of its variable
  also at inference, and a run would not answer twice the same.
  """
  for node in graph:
    if (
      node.op in ops.UPDATES
      and variable_of(graph, graph.inputs(node.name)[0]) in averages
    ):
      edge = TensorRef(node.name, 0, True)
      for reader in graph.readers_of(edge):
        graph.set_inputs(
          reader, [ref for ref in graph.inputs(reader) if ref != edge]
        )


def _shaped(graph, name, value):
  shape = static_shape(graph, TensorRef(name)) or ()
  return np.full([max(size, 1) for size in shape], value)


def _default_feed(graph, name):
  dtype = tf1.as_dtype(graph.node(name).attr["dtype"].type)
  value = b"" if dtype == tf1.string else 1
  filled = _shaped(graph, name, value)
  return filled.astype(dtype.as_numpy_dtype)


def _name(ref: TensorRef):
  return "%s:%d" % (ref.node, ref.index)
