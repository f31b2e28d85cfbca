# SPDX-License-Identifier: Apache-2.0
"""The training graph itself as a reference, run by TensorFlow.

It shares as little as it can with the export: conditionals are run, not
folded; variables are variables; the phase and the stored averages are fed.
"""

from __future__ import annotations

import contextlib
import copy

import numpy as np

from bnexport.batchnorm.forms import NORM_OPS, op_form
from bnexport.batchnorm.stored import StoredValues
from bnexport.errors import ComparisonError, Error, OutOfTime
from bnexport.graph import TensorRef, ops
from bnexport.graph.contexts import Contexts
from bnexport.graph.importing import import_to_run
from bnexport.graph.nodes import (
  constant,
  in_scope,
  static_shape,
  type_attr,
)
from bnexport.graph.variables import (
  assignment,
  is_only_read,
  variable_dtype,
)
from bnexport.graph.writes import write_of, written_variable
from bnexport.proof import noise, tracking
from bnexport.proof.channels_last import run_channels_last
from bnexport.proof.filling import filled, shaped
from bnexport.proof.held import parts
from bnexport.proof.runs import Run, failure, tensor_name, tf_errors
from bnexport.proof.trust import ALLOW, unsafe_op
from bnexport.text import Emitter
from bnexport.tf1 import session, tf1

_WHAT = "run the training graph"
# Norms that are one op read a vector.
_FLAT = """
  sizes = Const(^value) {value=<int32 [1] -1>}
  fed = Reshape(value, sizes)
"""


class TrainingGraph(Run):
  """The forward pass of a training graph, with the averages in their place."""

  what = (
    "the training graph run by TensorFlow, with the phase and the stored "
    "averages fed"
  )

  def __init__(
    self,
    original,
    model,
    trains=False,
    keep=(),
    other=None,
    has_noise=False,
    stored=None,
    keep_random=None,
  ):
    """Prepares; nothing is imported before it is asked.

    Args:
      original: a Model with the graph as it was before it was decided; it is
        not touched.
      model: the exported Model: says what was decided and stored.
      trains: whether it is run as training runs it instead: bools that were
        decided have the other value, norms their batch statistics. Dropout
        and noise stay out all the same, so that it answers twice the same.
      keep: scopes of norms that mean to use the batch: the phase has its
        training value there.
      other: other values of placeholders and flags than were decided, by node
        name. Where one was decided, norms have their batch statistics, as
        where it trains.
      has_noise: whether dropout and noise stay in.
      stored: other Stored values than were taken, by the statistic.
      keep_random: random ops that go on drawing; None for what was decided.
    """
    self.outputs = [str(ref) for ref in original.outputs]
    self._graph = None
    self._original, self._model = original, model
    decided = model.decisions.values
    if trains:
      other = {
        name: np.logical_not(value)
        for name, value in decided.items()
        if np.asarray(value).dtype == bool
      }
    self._trains = trains or any(name in decided for name in other or ())
    self._decided = {**decided, **(other or {})}
    self._has_noise = has_noise
    self._stored = {**model.decisions.stored, **(stored or {})}
    self._settled = model.decisions.corrections
    self._averages_kept = model.decisions.averages
    if keep_random is None:
      keep_random = model.decisions.random_kept
    self._keep_random = keep_random
    self._moments = model.decisions.moments
    self._keep = tuple(keep)
    self._session = None

  def otherwise(
    self, other=None, has_noise=False, stored=None, keep_random=None
  ):
    """The same with other decisions; see `__init__`."""
    made = TrainingGraph(
      self._original,
      self._model,
      keep=self._keep,
      other=other,
      has_noise=has_noise,
      stored=stored,
      keep_random=keep_random,
    )
    made.draws = self.draws
    return made

  @property
  def graph(self):
    if self._graph is None:
      with self._run_errors():
        self._open()
    return self._graph

  def fetch(self, refs, feeds):
    with self._run_errors():
      assert self.graph is not None  # it is open now
      feeds = self.drawn(feeds)
      # What only the training part needs has no effect on the answers.
      feeds = dict(filled(self._graph, self._unfed, feeds), **feeds)
      feeds = {name + ":0": value for name, value in feeds.items()}
      feeds.update(self._settings)
      feeds.update(self._averages(feeds))
      names = [tensor_name(ref) for ref in refs]
      self._restore()
      found = self._session.run(names, feeds)
      if self._random:
        self._restore()
        self._refuse_random(found, self._session.run(names, feeds))
      return found

  def _refuse_random(self, found, again):
    """Raises where noise that has no known mean shows in the answers."""
    if not all(np.array_equal(a, b) for a, b in zip(found, again)):
      raise ComparisonError(
        _WHAT,
        f"what '{self._random[0]}' is on average is not told by its values",
        f"pass --set={self._random[0]}=VALUE",
      )

  def tracked(self, graph):
    decisions = self._model.decisions
    known = (decisions.averages - decisions.unused) | {
      name for stored in self._stored.values() for name in stored.variables
    }
    found = tracking.tracked(self._original.graph, graph, known)
    for ref in list(found.tensors):
      if any(in_scope(ref.node, scope) for scope in self._keep):
        del found.tensors[ref]
    if self._keep:
      found.unread.clear()  # the averages of what was kept
    return found

  def close(self):
    if self._session is not None:
      self._session.close()
      self._session = self._graph = None

  @contextlib.contextmanager
  def _run_errors(self):
    try:
      yield
    except (ComparisonError, OutOfTime):
      raise
    except (Error, *tf_errors()) as error:
      raise failure(_WHAT, error) from error

  def _open(self):
    original = copy.copy(self._original)
    original.warnings = []
    original.graph = self._original.graph.clone()
    self._rewrite(original)
    self._refuse_unsafe(original)
    self._import(original)
    graph = original.graph
    self._settings = {
      name + ":0": shaped(graph, name, value)
      for name, value in self._decided.items()
      if name in graph and graph.op(name) in ops.PLACEHOLDERS | {"Const"}
    }
    self._unfed = [
      node.name for node in graph if node.op in ("Placeholder", "PlaceholderV2")
    ]
    # Set last: a session that was half prepared is no use.
    self._graph = graph

  def _rewrite(self, original):
    """Makes the forward pass of what is run; the phase stays to be fed."""
    graph = original.graph
    self._random = []
    if not self._has_noise:
      self._random = noise.expect(
        original, self._decided, self._keep_random, self._moments
      )
    _keep_training(graph, self._keep, self._model.decisions.values)
    self._statistics = {}
    if not self._trains:
      self._use_averages(original)
      contexts = Contexts(graph, graph.topological())
      for ref, stored in self._stored.items():
        if ref.node not in graph or graph.op(ref.node) in NORM_OPS:
          continue
        is_inside = contexts.is_inside(ref)
        if is_inside and stored.is_whole:
          self._carry_average(original, contexts, ref, stored.variable)
          continue
        value = stored.variable
        if not stored.is_whole:
          frame = contexts.frame(ref.node)
          values = StoredValues(graph, contexts, original.signatures)
          value = values.emit(stored, f"{ref.node}/fed", frame)
        if is_inside:
          self._use_value(original, ref, value)
        else:
          self._statistics[ref] = value
    _drop_updates(graph, self._averages_kept)
    run_channels_last(graph)
    roots = [ref.node for ref in original.outputs]
    needed = graph.ancestors(roots + list(original.initializers))
    self._statistics = {
      ref: value
      for ref, value in self._statistics.items()
      if ref.node in needed
    }
    computed = [ref.node for ref in self._computed()]
    graph.keep(graph.ancestors(list(needed) + computed))

  def _refuse_unsafe(self, original):
    unsafe = unsafe_op(original.graph, original.outputs, original.initializers)
    if unsafe is not None and not original.is_trusted:
      raise ComparisonError(_WHAT, unsafe, ALLOW)

  def _import(self, original):
    graph_def = original.graph.to_graph_def()
    for node in graph_def.node:
      node.attr.pop("_output_shapes", None)
    imported = import_to_run(graph_def)
    with imported.as_default():
      self._session = session(imported)
      loaders = list(self._loaders(imported, original))
      sizes = [_size(original.graph, name) for _, _, name in loaders]
      for part in parts(sizes):
        self._assign([loaders[i] for i in part])
      # Weights are read once.
      self._assigns = [
        one for one in loaders if not is_only_read(original.graph, one[2])
      ]
      if original.initializers:
        self._session.run(list(original.initializers))

  def _carry_average(self, original, contexts, ref, variable):
    """Puts a stored average in the place of a statistic in a loop or branch.

    Nothing can be fed there, or not in every run; the shape is the statistic's
    own.
    """
    graph = original.graph
    dtype = _dtype(original, ref)
    value = np.ravel(original.values[variable])
    like = static_shape(graph, ref)
    if like is not None and -1 not in like and np.prod(like) == value.size:
      value = value.reshape(like)
    stored = constant(graph, f"{ref.node}/fed", value, dtype)
    stored = contexts.carry(stored, dtype, contexts.frame(ref.node))
    self._use_value(original, ref, stored)

  def _use_value(self, original, ref, value):
    """Gives the readers of a statistic a value, of the statistic's shape."""
    graph = original.graph
    readers = graph.readers_of(ref)
    kind = {"T": type_attr(_dtype(original, ref))}
    zeros = graph.add("ZerosLike", f"{ref.node}/zeros", [ref], kind)
    made = graph.add(
      "Add", f"{ref.node}/instead", [TensorRef(zeros.name), value], kind
    )
    graph.substitute({ref: TensorRef(made.name)}, readers)

  def _use_averages(self, original):
    """Norms that are ops read the averages; spelled out ones are fed them."""
    graph, needed = original.graph, original.needed()
    for old, new in self._settled.items():
      graph.substitute({old: new}, needed)
    contexts = Contexts(graph, graph.topological())
    values = StoredValues(graph, contexts, original.signatures)
    for ref, stored in self._stored.items():
      form = op_form(graph.op(ref.node))
      if form is not None:
        form.to_inference(graph.node(ref.node))
        slot = form.slot(form.outputs[ref.index])
        frame = contexts.frame(ref.node)
        value = values.emit(stored, f"{ref.node}/fed", frame)
        if not stored.is_whole:
          value = Emitter(graph).emit(ref.node, _FLAT, value=value)["fed"]
        graph.set_input(ref.node, slot, value)
        # What an op hands out then is no statistic of the batch, nor the
        # stored one.
        graph.substitute({ref: value}, needed)

  def _loaders(self, imported, original):
    """Yields operations that set the variables, with what they are fed."""
    for node in original.graph:
      if node.op not in ops.VARIABLES:
        continue
      assign, holder = assignment(imported, node)
      yield assign, holder, node.name

  def _restore(self):
    # Every run of a training graph may update its variables.
    self._assign(self._assigns)

  def _assign(self, assigns):
    values = {holder: self._value(name) for _, holder, name in assigns}
    self._session.run([assign for assign, _, _ in assigns], values)

  def _value(self, name):
    if name in self._decided:
      return np.asarray(self._decided[name])
    return self._original.values[name]

  def _averages(self, feeds):
    """Stored averages in the shapes of the statistics they stand for."""
    names = [tensor_name(ref) for ref in self._statistics]
    shapes = self._session.run(names, feeds)
    computed = {}
    if self._computed():
      self._restore()
      computed = self._session.run(
        {ref: tensor_name(ref) for ref in self._computed()}, feeds
      )
    fed = {}
    for name, stored, like in zip(names, self._statistics.values(), shapes):
      value = computed.get(stored)
      if value is None:
        value = self._original.values[stored]
      if value.size == like.size:
        value = value.reshape(like.shape)
      fed[name] = np.broadcast_to(value, like.shape).astype(like.dtype)
    return fed

  def _computed(self):
    """The tensors of stored statistics that are not a variable as it is."""
    return [v for v in self._statistics.values() if isinstance(v, TensorRef)]


def _drop_updates(graph, averages):
  """Lets nothing wait for updates of the averages.

  Where an update is not in a conditional it races with reads of its variable
  also at inference, and a run would not answer twice the same.
  """
  dropped = {
    node.name
    for node in graph
    if node.op in ops.UPDATES and written_variable(graph, node.name) in averages
  }
  # A reader once: a train step may wait for hundreds of them.
  for reader in {r for name in dropped for r in graph.readers(name)}:
    refs = graph.inputs(reader)
    left = [r for r in refs if not (r.control and r.node in dropped)]
    if not left:
      # In a loop, this is what tells its frame.
      written = write_of(graph, refs[0].node).value
      left = [TensorRef(written.node, 0, True)]
    if left != refs:
      graph.set_inputs(reader, left)


def _keep_training(graph, scopes, decided):
  """Gives the phase its training value inside some scopes."""
  if not scopes:
    return
  for phase, value in decided.items():
    if phase not in graph or np.asarray(value).dtype != bool:
      continue
    trains = None
    for name in graph.readers(phase):
      if not any(in_scope(name, scope) for scope in scopes):
        continue
      if trains is None:
        trains = constant(graph, phase + "/trains", np.bool_(not value))
      for slot, ref in enumerate(graph.data_inputs(name)):
        if ref.node == phase:
          graph.set_input(name, slot, trains)


def _size(graph, variable):
  """The bytes of a variable, as far as its node states them."""
  shape = static_shape(graph, TensorRef(variable)) or ()
  return (
    int(np.prod(shape)) * tf1.as_dtype(variable_dtype(graph, variable)).size
  )


def _dtype(model, ref):
  node = model.graph.node(ref.node)
  return model.signatures.output_dtypes(node)[ref.index]
