# SPDX-License-Identifier: Apache-2.0
"""Proof: an exported graph, imported again, against a reference."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Dict, List, Optional

import numpy as np

from bnexport.errors import FEED, ComparisonError, first_line
from bnexport.graph import Graph, ops
from bnexport.graph.nodes import called_functions
from bnexport.tf1 import op_def, session, tf1

# How far two right answers may be apart, relative to the largest element (at
# least 1): rounding in sums of some thousands of products.
TOLERANCE = {np.float16: 2e-2, np.float32: 1e-4, np.float64: 1e-9}
_BFLOAT16 = 8e-2
_ROWS = 4
# Sizes tried for dimensions that a graph leaves open: networks halve images
# some times, and crop or flatten to fixed sizes.
_SIZES = (64, 32, 224, 8, 128, 299, 16, 256, 5, 1)
# What to do about an op that reaches out of its graph.
ALLOW = (
  "pass --allow_unsafe_ops if you trust the graph, or cut it out with "
  "--input_node"
)


def tolerance(dtype):
  """Largest relative difference that is rounding, for a NumPy dtype."""
  if np.dtype(dtype).kind not in "fc" and np.dtype(dtype).name != "bfloat16":
    return 0.0
  return TOLERANCE.get(np.dtype(dtype).type, _BFLOAT16)


@dataclasses.dataclass(frozen=True)
class Difference:
  """How far apart two answers of one output are.

  Attributes:
    output: name of the tensor.
    largest: largest absolute difference; infinite where shapes differ or one
      is not a number.
    scale: largest magnitude of the reference, at least 1.
    limit: largest difference that is taken for rounding.
    magnitude: largest magnitude of the reference as it is.
  """

  output: str
  largest: float
  scale: float
  limit: float
  magnitude: float = 1.0

  @property
  def holds(self):
    return self.largest <= self.limit

  def __str__(self):
    return (
      f"{self.output}: largest difference {self.largest:.2g}, limit "
      f"{self.limit:.2g}"
    )


def difference(output, value, reference, least=0.0):
  """Compares two arrays.

  Args:
    output: the tensor's name.
    value: an array.
    reference: what it should be.
    least: largest relative difference that is rounding where arrays of this
      dtype were computed from coarser ones.
  """
  value, reference = np.asarray(value), np.asarray(reference)
  if value.shape != reference.shape or value.dtype != reference.dtype:
    return Difference(output, np.inf, 1.0, 0.0)
  if not value.size:
    return Difference(output, 0.0, 1.0, 0.0)
  if value.dtype.kind not in "fiuc":
    if value.dtype.name != "bfloat16":
      return Difference(output, float((value != reference).any()), 1.0, 0.0)
  if value.dtype.kind in "iu":
    # Exact; float64 would round large ones.
    wrong = value != reference
    apart = np.abs(value.astype(np.float64) - reference.astype(np.float64))
    largest = max(1.0, float(np.max(apart))) if wrong.any() else 0.0
    return Difference(output, largest, 1.0, 0.0)
  wide = np.complex128 if value.dtype.kind == "c" else np.float64
  a, b = value.astype(wide), reference.astype(wide)
  finite = np.isfinite(b)
  # As text, since a nan is not equal to a nan.
  if a[~finite].astype(str).tolist() != b[~finite].astype(str).tolist():
    return Difference(output, np.inf, 1.0, 0.0)
  if not finite.any():
    return Difference(output, 0.0, 1.0, 0.0)
  magnitude = float(np.max(np.abs(b[finite])))
  scale = max(1.0, magnitude)
  largest = float(np.max(np.abs(a[finite] - b[finite])))
  largest = largest if largest == largest else np.inf
  limit = max(tolerance(value.dtype), least) * scale
  return Difference(output, largest, scale, limit, magnitude)


@dataclasses.dataclass
class Comparison:
  """What was proven of an exported graph.

  Attributes:
    reference: what it was compared with, or why it could not be.
    differences: one for each output.
    batch: whether one row answers alone as it does within a batch; None
      where it was not looked at, with the reason in `notes`.
    repeats: whether a second run answered the same.
    feeds: shapes of what was fed.
    arrays: what was fed, by node name; None where nothing was.
    is_made_up: whether it was made up rather than given.
    is_run: whether the graph was imported and may be run here.
    notes: what else to know, a line each.
  """

  reference: str = ""
  differences: List[Difference] = dataclasses.field(default_factory=list)
  batch: Optional[bool] = None
  repeats: Optional[bool] = None
  feeds: Dict[str, tuple] = dataclasses.field(default_factory=dict)
  arrays: Optional[Dict[str, np.ndarray]] = None
  is_made_up: bool = False
  is_run: bool = True
  notes: List[str] = dataclasses.field(default_factory=list)

  @property
  def holds(self):
    return (
      self.is_run
      and all(d.holds for d in self.differences)
      and self.batch is not False
      and self.repeats is not False
    )


class Runner:
  """A GraphDef, imported; runs with nothing but feeds."""

  what: str  # what reports call it, where it is a reference

  def __init__(self, graph_def, outputs, initializers=(), restore=None):
    """Imports the graph.

    Args:
      graph_def: the graph.
      outputs: what `answers` gives.
      initializers: nodes to run once.
      restore: gives a session's variables their values, or None.

    Raises:
      ComparisonError: TensorFlow does not take it.
    """
    self._graph = tf1.Graph()
    self._outputs = [_tensor_name(o) for o in outputs]
    try:
      with self._graph.as_default():
        tf1.import_graph_def(graph_def, name="")
      self._session = session(self._graph)
      if restore is not None:
        restore(self._session)
      if initializers:
        self._session.run(list(initializers))
    except (tf1.errors.OpError, ValueError, KeyError, TypeError) as error:
      raise ComparisonError(
        "import the graph",
        first_line(error),
        "see what python -m bnexport.inspect finds in it",
      ) from error

  @property
  def rounding(self):
    """Relative rounding of the coarsest numbers the graph computes with."""
    dtypes = {
      output.dtype
      for operation in self._graph.get_operations()
      for output in operation.outputs
    }
    coarse = dtypes & {tf1.float16, tf1.bfloat16}
    return max((tolerance(d.as_numpy_dtype) for d in coarse), default=0.0)

  def answers(self, feeds):
    """The outputs for feeds by node name.

    Raises:
      ComparisonError: TensorFlow can't run it.
    """
    return self.fetch(self._outputs, feeds)

  def fetch(self, names, feeds):
    """Any tensors, by name, for feeds by node name.

    Raises:
      ComparisonError: TensorFlow can't run it.
    """
    try:
      return self._session.run(
        [_tensor_name(name) for name in names],
        {_tensor_name(k): v for k, v in feeds.items()},
      )
    except (tf1.errors.OpError, ValueError, TypeError, KeyError) as error:
      raise ComparisonError("run the graph", first_line(error), FEED) from error

  def close(self):
    self._session.close()


def _tensor_name(ref):
  text = str(ref)
  return text if ":" in text else text + ":0"


def refuse_unsafe(graph, names, is_allowed=False):
  """Raises ComparisonError where a run would reach out of the graph.

  Args:
    graph: a Graph.
    names: of the nodes that would run; the functions they call count too.
    is_allowed: whether the user trusts the graph.
  """
  said = None if is_allowed else _unsafe_op(graph, names)
  if said is not None:
    raise ComparisonError(
      "run the graph",
      said,
      ALLOW,
    )


def unsafe_op(graph, outputs, initializers):
  """Says which op keeps a graph of the user's from being run, or None.

  Files that fill lookup tables are part of a model.

  Args:
    graph: a Graph.
    outputs: TensorRefs that a run would give.
    initializers: nodes that are run before.
  """
  names = graph.ancestors([ref.node for ref in outputs] + list(initializers))
  return _unsafe_op(
    graph, [n for n in names if graph.op(n) not in ops.TABLE_INITIALIZERS]
  )


def _unsafe_op(graph, names):
  """Says which op of some nodes reaches out of the graph, or None."""
  nodes = [graph.node(name) for name in names]
  bodies = (f.node_def for f in called_functions(graph, nodes))
  for node in itertools.chain(nodes, *bodies):
    what = ops.reaches(node)
    if what is not None:
      return f"'{node.name}' is a {node.op} and reaches {what}"
  return None


def unsafe_model(model):
  """Says which op keeps a Model from being run, or None; see `unsafe_op`."""
  if model.is_trusted:
    return None
  return unsafe_op(model.graph, model.outputs, model.initializers)


def made_up_feeds(graph_def, rows=_ROWS):
  """Yields feeds to try: random values in the placeholders' shapes.

  Feeds are dicts of arrays by node name. Open first dimensions get `rows`
  rows; other open ones the same size each, another size in each try.
  """
  placeholders = [
    n for n in graph_def.node if n.op in ops.PLACEHOLDERS and not n.input
  ]
  is_open = any(_open_sizes(node) for node in placeholders)
  for size in _SIZES if is_open else (1,):
    random = np.random.RandomState(7)
    yield {
      node.name: _made_up(node, rows, size, random) for node in placeholders
    }


def _open_sizes(node):
  shape = node.attr["shape"].shape
  return shape.unknown_rank or any(d.size < 0 for d in shape.dim[1:])


def _made_up(node, rows, size, random):
  shape = node.attr["shape"].shape
  sizes = [d.size for d in shape.dim]
  if shape.unknown_rank or "shape" not in node.attr:
    sizes = [rows, size, size, 3]
  if len(sizes) > 4:
    size = max(size // 4, 1)  # a video of 64 in each direction takes minutes
  sizes = [
    d if d >= 0 else (rows if i == 0 else size) for i, d in enumerate(sizes)
  ]
  dtype = tf1.as_dtype(node.attr["dtype"].type)
  if dtype.is_floating or dtype.is_complex:
    values = random.randn(*sizes) if sizes else np.float64(1.0)
    return np.asarray(values).astype(dtype.as_numpy_dtype)
  if dtype == tf1.bool:
    return random.rand(*sizes) > 0.5
  if dtype == tf1.string:
    return np.full(sizes, b"", dtype=object)
  return random.randint(0, 2, sizes).astype(dtype.as_numpy_dtype)


def prove(
  graph_def,
  outputs,
  reference,
  feeds=None,
  initializers=(),
  keeps_batch=False,
  restore=None,
  is_trusted=False,
):
  """Imports a graph again and compares what it answers.

  Args:
    graph_def: the exported graph, as read from its file.
    outputs: TensorRefs to compare.
    reference: has `what`, a text, and `answers(feeds)`; or None.
    feeds: arrays by node name; made up where it is None.
    initializers: nodes to run first.
    keeps_batch: whether norms use the batch on purpose.
    restore: gives a session's variables their values, or None.
    is_trusted: whether to run it also where ops reach out of the graph.

  Raises:
    ComparisonError: the exported graph can't be imported.
  """
  if not is_trusted:
    graph = Graph(graph_def, copy=False)
    unsafe = unsafe_op(graph, outputs, initializers)
    if unsafe is not None:
      Runner(graph_def, ()).close()
      said = f"nothing: {unsafe}; {ALLOW}"
      return Comparison(reference=said, is_run=False)
  runner = Runner(graph_def, outputs, initializers, restore)
  proof = Comparison()
  try:
    if feeds:
      refuse_other_names(graph_def, feeds)
      answers = run_given(runner, feeds)
    else:
      tried = made_up_feeds(graph_def)
      feeds, answers = first_that_runs(runner, tried, proof)
      proof.is_made_up = True
    if answers is None:
      return proof
    random = [n.name for n in graph_def.node if ops.is_random(n.op)]
    if random:
      _note_feeds(proof, feeds)
      proof.reference = "nothing: the graph draws random numbers"
      proof.notes.append(
        f"answers differ from run to run: ops like '{random[0]}' are part of "
        "the model"
      )
      return proof
    examine(proof, runner, outputs, reference, feeds, answers, keeps_batch)
  finally:
    runner.close()
  return proof


def examine(
  proof,
  runner,
  outputs,
  reference,
  feeds,
  answers,
  keeps_batch=False,
  is_strict=False,
):
  """Asks all questions of a graph that runs.

  Args:
    proof: a Comparison; gets the answers.
    runner: a Runner.
    outputs: TensorRefs to compare.
    reference: see `prove`.
    feeds: arrays by node name.
    answers: the runner's answers for them.
    keeps_batch: whether norms use the batch on purpose.
    is_strict: whether rows that depend on the rest of their batch count
      against the graph also where there is nothing to compare with.
  """
  _note_feeds(proof, feeds)
  if not all(
    np.isfinite(a).all() for a in answers if np.asarray(a).dtype.kind == "f"
  ):
    proof.notes.append(
      "some answers are not finite for these inputs; pass "
      "real ones with --feeds=FILE.npz"
    )
  again = [
    difference(str(o), a, b)
    for o, a, b in zip(outputs, runner.answers(feeds), answers)
  ]
  proof.repeats = all(d.holds for d in again)
  _compare_with(reference, outputs, feeds, answers, proof, runner.rounding)
  if keeps_batch:
    proof.notes.append(
      "rows were not looked at alone: norms keep their batch statistics"
    )
  else:
    _look_at_rows(runner, reference, feeds, answers, proof, is_strict)


def _note_feeds(proof, feeds):
  proof.arrays = feeds
  proof.feeds = {name: np.shape(value) for name, value in feeds.items()}


def run_given(runner, feeds):
  """The answers for a user's feeds.

  Raises:
    ComparisonError: the graph does not run on them.
  """
  try:
    return runner.answers(feeds)
  except ComparisonError as error:
    raise ComparisonError(
      error.what, error.fact, "give feeds of the inputs' shapes and dtypes"
    ) from error


def unknown_op(graph):
  """A Comparison of a Graph with an op that is not registered, or None."""
  for node in graph:
    if node.op not in graph.library and op_def(node.op) is None:
      return Comparison(
        reference=f"nothing: this TensorFlow does not know op {node.op} of "
        f"'{node.name}'; prove the graph with python -m bnexport.validate "
        "where it is registered",
        is_run=False,
      )
  return None


def import_only(graph_def):
  """A Comparison of a graph that is too large to run beside its reference.

  Raises:
    ComparisonError: the graph can't be imported.
  """
  Runner(graph_def, ()).close()
  return Comparison(
    reference="nothing: it was imported, without its weights, and not run; "
    "--validate proves it with as much memory as it takes"
  )


def refuse_other_names(graph_def, feeds):
  """Raises ComparisonError where feeds and inputs are not the same."""
  inputs = [node.name for node in graph_def.node if node.op in ops.PLACEHOLDERS]
  unknown = [name for name in feeds if name not in inputs]
  if unknown:
    raise ComparisonError(
      "run the graph with the feeds",
      f"'{unknown[0]}' is no input of it",
      "give arrays named %s" % (", ".join((f"'{name}'" for name in inputs)),),
    )


def first_that_runs(runner, tried, proof):
  """The first feeds that a graph runs on, and its answers; or two None.

  Args:
    runner: a Runner.
    tried: iterable of feeds.
    proof: a Comparison; is told why nothing runs.
  """
  said = None
  for feeds in tried:
    try:
      return feeds, runner.answers(feeds)
    except ComparisonError as error:
      said = said or error.fact
  proof.reference = "nothing: no made-up input fits the graph"
  proof.notes.append(
    f"not run: {said}; pass --feeds=FILE.npz with arrays by input name"
  )
  return None, None


def _compare_with(reference, outputs, feeds, answers, proof, rounding):
  if reference is None:
    proof.reference = "nothing"
    return
  try:
    expected = reference.answers(feeds)
  except ComparisonError as error:
    proof.reference = f"nothing: {error.fact}"
    return
  proof.reference = reference.what
  proof.differences = [
    difference(str(o), a, b, rounding)
    for o, a, b in zip(outputs, answers, expected)
  ]


def _look_at_rows(runner, reference, feeds, answers, proof, is_strict):
  """One row alone has to answer as it does within the batch."""
  rows = {np.shape(v)[0] for v in feeds.values() if np.ndim(v)}
  if len(rows) != 1 or rows == {1}:
    proof.notes.append(
      "rows were not looked at alone: the inputs have no batch in common"
    )
    return
  size = rows.pop()
  row = {k: v[:1] if np.ndim(v) else v for k, v in feeds.items()}
  by_row = [
    i for i, a in enumerate(answers) if np.ndim(a) and np.shape(a)[0] == size
  ]
  try:
    alone = runner.answers(row)
  except ComparisonError:
    proof.notes.append(
      "rows were not looked at alone: the graph fixes the size of its batch"
    )
    return
  apart = [difference("row", alone[i], answers[i][:1]) for i in by_row]
  proof.batch = all(d.holds for d in apart)
  if proof.batch or not proof.differences:
    if not proof.batch and not is_strict:
      proof.batch = None
      proof.notes.append("answers of a row depend on the rest of its batch")
    return
  try:
    same = [
      difference("row", alone[i], value)
      for i, value in enumerate(reference.answers(row))
      if i in by_row
    ]
  except ComparisonError:
    return
  if all(d.holds for d in same):
    proof.batch = None
    proof.notes.append(
      "answers of a row depend on the rest of its batch, in "
      "the model itself too"
    )
