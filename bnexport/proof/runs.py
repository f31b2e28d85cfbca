# SPDX-License-Identifier: Apache-2.0
"""Runs: what answers feeds, and a graph that TensorFlow imports to do so."""

from __future__ import annotations

import abc
import gc
from typing import (
  Callable,
  Dict,
  Iterable,
  List,
  Mapping,
  Optional,
  Tuple,
  Type,
)

import numpy as np

from bnexport.errors import FEED, ComparisonError, Error, OutOfTime, first_line
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.importing import import_graph, import_to_run
from bnexport.graph.variables import assignment
from bnexport.proof import held
from bnexport.proof.differences import tolerance
from bnexport.proof.draws import Draws
from bnexport.proof.tracking import Tracked
from bnexport.tf1 import session, tf1

# Bytes of a graph from which on it is not left to Python when they are freed.
_LARGE = 1 << 26


def tf_errors() -> Tuple[Type[Exception], ...]:
  """What TensorFlow raises of a graph or of feeds that it does not take."""
  # Asked for where something was raised: it takes importing TensorFlow.
  return (tf1.errors.OpError, ValueError, TypeError, KeyError, RuntimeError)


class Run(abc.ABC):
  """One thing that answers feeds: an export, or what it is held against.

  It is opened at its first use, answers the same feeds the same way each time,
  and is closed by whoever made it; `with` closes it too.

  Attributes:
    what: names it in reports, such as `the rebuilt model in its session`.
    outputs: the tensors that `run` gives, by name.
    draws: the Draws that random ops give; None where they draw anew.
  """

  what: str
  outputs: List[str]
  draws: Optional[Draws] = None

  @property
  @abc.abstractmethod
  def graph(self) -> Graph:
    """The Graph that is run, for who walks its tensors.

    Raises:
      ComparisonError: it can't be opened.
    """

  @abc.abstractmethod
  def fetch(
    self, refs: Iterable, feeds: Mapping[str, np.ndarray]
  ) -> List[np.ndarray]:
    """Arrays of any tensors, by name or TensorRef.

    Args:
      refs: nodes or tensors of `graph`.
      feeds: arrays by node name.

    Raises:
      ComparisonError: it can't be run on these feeds.
    """

  def run(self, feeds: Mapping[str, np.ndarray]) -> List[np.ndarray]:
    """Arrays of the outputs; see `fetch`."""
    return self.fetch(self.outputs, feeds)

  def drawn(self, feeds: Mapping) -> Mapping[str, np.ndarray]:
    """Feeds with what random ops draw beside them."""
    if self.draws is None:
      return feeds
    beside = self.draws.beside(feeds)
    return {**{n: v for n, v in beside.items() if n in self.graph}, **feeds}

  def tracked(self, graph: Graph) -> Optional[Tracked]:
    """The statistics that this Run keeps, seen from an export's Graph.

    None where it updates nothing.
    """
    return None

  @abc.abstractmethod
  def close(self) -> None:
    """Gives sessions and weights back; it may be opened again."""

  def __enter__(self):
    return self

  def __exit__(self, *raised):
    self.close()


class ImportedGraph(Run):
  """A GraphDef that TensorFlow imports, and runs with nothing but feeds.

  Attributes:
    settings: what is fed where feeds say nothing, by node name.
    imported: TensorFlow's graph.
  """

  def __init__(
    self,
    graph_def,
    outputs,
    initializers=(),
    restore: Optional[Callable] = None,
    what="the graph, imported again",
    settings: Optional[Dict[str, object]] = None,
  ):
    """Imports the graph.

    Args:
      graph_def: the graph.
      outputs: TensorRefs or names that `run` gives.
      initializers: nodes to run once.
      restore: gives a session's variables their values, or None.
      what: names it in reports.
      settings: arrays by node name, which feeds may replace.

    Raises:
      ComparisonError: TensorFlow does not take it.
    """
    self.what = what
    self.outputs = [str(ref) for ref in outputs]
    self.settings = settings or {}
    self._graph = None
    self._graph_def = graph_def
    try:
      skeleton, constants = held.apart(graph_def)
      self.imported = import_to_run(skeleton)
      self._session = session(self.imported)
      held.assign(self._session, constants)
      if restore is not None:
        restore(self._session)
      if initializers:
        self._session.run(list(initializers))
    except tf_errors() as error:
      raise _not_imported(error) from error

  @property
  def graph(self):
    if self._graph is None:
      self._graph = Graph(self._graph_def, copy=False)
    return self._graph

  @property
  def coarsest(self):
    """NumPy dtype of the coarsest numbers the graph computes with."""
    dtypes = {
      output.dtype.base_dtype
      for operation in self.imported.get_operations()
      for output in operation.outputs
    }
    found = [
      d.as_numpy_dtype
      for d in (tf1.bfloat16, tf1.float16, tf1.float32)
      if d in dtypes
    ]
    return np.dtype(found[0] if found else np.float64)

  @property
  def rounding(self):
    """The most that rounding may be taken to do, relative to the answers."""
    return tolerance(self.coarsest)

  def fetch(self, refs, feeds):
    # Its reference may need what it does not.
    feeds = self.drawn(feeds)
    there = {name: feeds[name] for name in feeds if self._has(name)}
    return run_session(self._session, refs, {**self.settings, **there})

  def _has(self, name):
    try:
      return (
        self.imported.get_operation_by_name(TensorRef.parse(name).node)
        is not None
      )
    except KeyError:
      return False

  def close(self):
    self._session.close()


def refuse_unimportable(graph_def) -> None:
  """Raises ComparisonError where TensorFlow does not take a graph as it is."""
  try:
    import_graph(graph_def)
  except tf_errors() as error:
    raise _not_imported(error) from error
  if graph_def.ByteSize() > _LARGE:
    gc.collect()  # a tf.Graph refers to itself


def _not_imported(error) -> ComparisonError:
  return ComparisonError(
    "import the graph",
    first_line(error),
    "see what python -m bnexport.inspect finds in it",
  )


class LaterRun(Run):
  """A Run that is made at its first use."""

  def __init__(self, make: Callable[[], Run], what, outputs):
    """Prepares.

    Args:
      make: makes the Run.
      what: names it in reports.
      outputs: names of the tensors that `run` gives.
    """
    self.what, self.outputs = what, outputs
    self._make, self._made = make, None

  def _open(self):
    if self._made is None:
      self._made = self._make()
    return self._made

  @property
  def graph(self):
    return self._open().graph

  def fetch(self, refs, feeds):
    made = self._open()
    made.draws = self.draws
    return made.fetch(refs, feeds)

  def close(self):
    if self._made is not None:
      self._made.close()
      self._made = None


def restore_variables(model, running, values=None):
  """Gives the variables of a session's graph the values that a Model has.

  Args:
    model: the Model of the graph; of its variables, those that the outputs
      need are set.
    running: the session.
    values: other values of some, by name.
  """
  values = values or {}
  graph = model.graph
  with running.graph.as_default():
    for name in model.needed(control=True):
      if graph.op(name) in ops.VARIABLES and name in (model.values or ()):
        assign, holder = assignment(running.graph, graph.node(name))
        value = values[name] if name in values else model.values[name]
        running.run(assign, {holder: np.asarray(value)})


def run_session(running, refs, feeds, what="run the graph"):
  """A session's values of tensors on feeds, by name or TensorRef.

  Raises:
    ComparisonError: TensorFlow can't run it.
    OutOfTime: the limit of time ended it.
  """
  try:
    return running.run(
      [tensor_name(ref) for ref in refs],
      {tensor_name(ref): value for ref, value in feeds.items()},
    )
  except tf_errors() as error:
    raise failure(what, error) from error


def failure(what, error) -> Error:
  """The Error that says why TensorFlow can't run something."""
  if isinstance(error, tf1.errors.DeadlineExceededError):
    return OutOfTime(
      what, first_line(error), "pass --proof_timeout=SECONDS for more"
    )
  fact = error.fact if isinstance(error, Error) else first_line(error)
  return ComparisonError(what, fact, FEED)


def tensor_name(ref):
  """A tensor's name as a session takes it, `node:0`."""
  ref = TensorRef.parse(str(ref))
  return f"{ref.node}:{ref.index}"
