# SPDX-License-Identifier: Apache-2.0
"""The training graph itself as a reference, run by TensorFlow.

It shares as little as it can with the export: conditionals are run, not
folded; variables are variables; the phase and the stored averages are fed.
"""

from __future__ import annotations

import contextlib
import copy

import numpy as np

from bnexport.errors import FEED, ComparisonError, Error, first_line
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import bool_attr, static_shape
from bnexport.graph.variables import Frames, assignment, read, variable_of
from bnexport.proof.runs import TF_ERRORS, Run, tensor_name
from bnexport.proof.trust import ALLOW, unsafe_op
from bnexport.tf1 import session, tf1
from bnexport.transforms.inference.remove_dropout import RemoveDropout
from bnexport.transforms.inference.remove_noise import RemoveNoise

_WHAT = "run the training graph"


class TrainingGraph(Run):
  """The forward pass of a training graph, with the averages in their place."""

  what = (
    "the training graph run by TensorFlow, with the phase and the stored "
    "averages fed"
  )

  def __init__(self, original, model, trains=False):
    """Prepares; nothing is imported before it is asked.

    Args:
      original: a Model with the graph as it was before it was decided; it is
        not touched.
      model: the exported Model: says what was decided and stored.
      trains: whether it is run as training runs it instead: bools that were
        decided have the other value, norms their batch statistics. Dropout
        and noise stay out all the same, so that it answers twice the same.
    """
    self.outputs = [str(ref) for ref in original.outputs]
    self._graph = None
    self._original = original
    self._trains = trains
    self._decided = model.decided
    self._stored = model.stored
    self._settled = model.settled
    self._averages_kept = model.averages
    self._is_random = model.is_noise_removed
    self._session = None

  @property
  def graph(self):
    if self._graph is None:
      with self._run_errors():
        self._open()
    return self._graph

  def fetch(self, refs, feeds):
    with self._run_errors():
      assert self.graph is not None  # it is open now
      # What only the training part needs has no effect on the answers.
      feeds = dict(self._unfed, **feeds)
      feeds = {name + ":0": value for name, value in feeds.items()}
      feeds.update(self._settings)
      feeds.update(self._averages(feeds))
      self._restore()
      return self._session.run([tensor_name(ref) for ref in refs], feeds)

  def close(self):
    if self._session is not None:
      self._session.close()
      self._session = self._graph = None

  @contextlib.contextmanager
  def _run_errors(self):
    try:
      yield
    except ComparisonError:
      raise
    except (Error, *TF_ERRORS) as error:
      raise ComparisonError(_WHAT, first_line(error), FEED) from error

  def _open(self):
    if self._is_random:
      raise ComparisonError(_WHAT, "its norms draw random numbers", FEED)
    original = copy.copy(self._original)
    original.warnings = []
    graph = original.graph = original.graph.clone()
    for transform in (RemoveDropout(), RemoveNoise()):
      transform.apply(original)
    if not self._trains:
      self._use_averages(original)
    _drop_updates(graph, self._averages_kept)
    roots = [ref.node for ref in original.outputs]
    graph.keep(graph.ancestors(roots + list(original.initializers)))
    unsafe = unsafe_op(graph, original.outputs, original.initializers)
    if unsafe is not None and not original.is_trusted:
      raise ComparisonError(_WHAT, unsafe, ALLOW)
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
      name + ":0": _shaped(graph, name, self._phase(value))
      for name, value in self._decided.items()
      if name in graph and graph.op(name) in ops.PLACEHOLDERS | {"Const"}
    }
    self._statistics = {
      ref: variable
      for ref, variable in self._stored.items()
      if not self._trains
      and ref.node in graph
      and graph.op(ref.node) not in ops.FUSED_NORMS
    }
    frames = Frames(graph, graph.topological())
    if any(frames.of(ref.node) for ref in self._statistics):
      raise ComparisonError(_WHAT, "nothing can be fed inside a loop", FEED)
    self._unfed = {
      node.name: _default_feed(graph, node.name)
      for node in graph
      if node.op in ("Placeholder", "PlaceholderV2")
    }
    # Set last: a session that was half prepared is no use.
    self._graph = graph

  def _use_averages(self, original):
    """Fused norms read the averages; spelled out ones are fed them."""
    graph = original.graph
    for old, new in self._settled.items():
      graph.redirect(old, new, original.needed())
    for ref, variable in self._stored.items():
      node = graph.node(ref.node)
      if node.op in ops.FUSED_NORMS:
        node.attr["is_training"].CopyFrom(bool_attr(False))
        # Counts in training only, and TensorFlow 1 does not know it.
        node.attr.pop("exponential_avg_factor", None)
        graph.set_input(ref.node, ref.index + 2, read(graph, variable))

  def _phase(self, value):
    """A decided value, or what it is in training."""
    if self._trains and np.asarray(value).dtype == bool:
      return not value
    return value

  def _loaders(self, imported, original):
    """Yields operations that set the variables, with what they are fed."""
    for node in original.graph:
      if node.op not in ops.VARIABLES:
        continue
      assign, holder = assignment(imported, node)
      yield assign, holder, node.name

  def _restore(self):
    # Every run of a training graph may update its variables.
    for assign, holder, name in self._assigns:
      self._session.run(assign, {holder: self._value(name)})

  def _value(self, name):
    if name in self._decided:
      return np.asarray(self._phase(self._decided[name]))
    return self._original.values[name]

  def _averages(self, feeds):
    """Stored averages in the shapes of the statistics they stand for."""
    refs = list(self._statistics)
    shapes = self._session.run([tensor_name(ref) for ref in refs], feeds)
    fed = {}
    for ref, like in zip(refs, shapes):
      value = self._original.values[self._statistics[ref]]
      if value.size == like.size:
        value = value.reshape(like.shape)
      fed[tensor_name(ref)] = np.broadcast_to(value, like.shape).astype(
        like.dtype
      )
    return fed


def _drop_updates(graph, averages):
  """Lets nothing wait for updates of the averages.

  Where an update is not in a conditional it races with reads of its variable
  also at inference, and a run would not answer twice the same.
  """
  dropped = {
    node.name
    for node in graph
    if node.op in ops.UPDATES
    and variable_of(graph, graph.inputs(node.name)[0]) in averages
  }
  # A reader once: a train step may wait for hundreds of them.
  for reader in {r for name in dropped for r in graph.readers(name)}:
    refs = graph.inputs(reader)
    left = [r for r in refs if not (r.control and r.node in dropped)]
    if left != refs:
      graph.set_inputs(reader, left)


def _shaped(graph, name, value):
  shape = static_shape(graph, TensorRef(name)) or ()
  return np.full([max(size, 1) for size in shape], value)


def _default_feed(graph, name):
  dtype = tf1.as_dtype(graph.node(name).attr["dtype"].type)
  value = b"" if dtype == tf1.string else 1
  filled = _shaped(graph, name, value)
  return filled.astype(dtype.as_numpy_dtype)
