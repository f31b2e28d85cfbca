# SPDX-License-Identifier: Apache-2.0
"""The proof: it holds for right graphs, and falls for each way of wrong."""

import numpy as np
import pytest

from bnexport.errors import ComparisonError
from bnexport.graph import TensorRef
from bnexport.proof import feeding, made_up
from bnexport.proof.comparison import DIFFERS, NOT_PROVEN, prove
from bnexport.proof.differences import difference, tolerance
from bnexport.proof.runs import ImportedGraph, Run
from bnexport.tf1 import tf1

OUTPUT = (TensorRef("y"),)


def graph_of(build, shape=(None, 3), dtype=tf1.float32):
  """A GraphDef with the placeholder `x` and the output `y`."""
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(dtype, shape, name="x")
    tf1.identity(build(x), name="y")
  return graph.as_graph_def()


class Answers(Run):
  """A reference that computes with NumPy, and has no graph."""

  what = "NumPy"

  def __init__(self, function):
    self.function = function

  @property
  def graph(self):
    raise ComparisonError("walk NumPy", "it has no graph")

  def fetch(self, refs, feeds):
    raise ComparisonError("walk NumPy", "it has no tensors")

  def close(self):
    pass

  def run(self, feeds):
    return [np.asarray(self.function(feeds["x"]))]


class CanNot(Answers):
  what = "nothing that runs"

  def __init__(self):
    super().__init__(None)

  def run(self, feeds):
    raise ComparisonError("run the reference", "it does not run")


def doubled(x):
  return x * 2


DOUBLED = Answers(lambda x: x * np.float32(2))


# difference() and tolerance().


@pytest.mark.parametrize(
  "dtype, limit",
  [
    (np.float16, 2e-2),
    (np.float32, 1e-4),
    (np.float64, 1e-9),
    (np.int32, 0),
    (np.bool_, 0),
    (np.object_, 0),
    (np.complex64, 8e-2),
  ],
)
def test_tolerance(dtype, limit):
  assert tolerance(dtype) <= limit
  assert tolerance(np.dtype(dtype)) == tolerance(dtype)
  assert (tolerance(dtype) == 0) == (limit == 0)


def test_tolerance_of_bfloat16():
  assert 0 < tolerance(tf1.bfloat16.as_numpy_dtype) <= 8e-2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_rounding_is_accepted_and_more_is_not(dtype, scale):
  b = (np.linspace(-1, 1, 7) * scale).astype(dtype)
  rounded = (b * (1 + 0.5 * tolerance(dtype))).astype(dtype)
  wrong = b.copy()
  wrong[0] += dtype(3 * tolerance(dtype) * scale)
  assert difference("y", b, b).holds
  assert difference("y", b, b).largest == 0
  assert difference("y", rounded, b).holds
  assert not difference("y", wrong, b).holds
  assert difference("y", wrong, b).output == "y"


def test_small_answers_are_compared_absolutely():
  b = np.full(3, 1e-3, np.float32)
  assert difference("y", b + np.float32(5e-5), b).holds
  assert not difference("y", b + np.float32(5e-4), b).holds


_F = np.array([1, np.nan, np.inf, -2], np.float32)


@pytest.mark.parametrize(
  "value, reference",
  [
    (np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)),
    (np.ones((1, 3), np.float32), np.ones(3, np.float32)),
    (np.float32(1), np.ones(1, np.float32)),
    (np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float32)),
    (np.ones(3, np.float32), np.ones(3, np.float64)),
    (np.ones(3, np.int32), np.ones(3, np.int64)),
    (_F, np.where(np.isnan(_F), np.float32(0), _F)),
    (np.where(np.isnan(_F), np.float32(0), _F), _F),
    (np.where(np.isinf(_F), np.float32(9), _F), _F),
    (_F, np.where(np.isinf(_F), np.float32(9), _F)),
    (_F, np.where(np.isinf(_F), -_F, _F)),
    (_F, _F[[0, 2, 1, 3]]),
    (np.where(_F == 1, np.float32(1.1), _F), _F),
    (np.array([1, 2]), np.array([1, 3])),
    (np.array([True, False]), np.array([True, True])),
    (np.array([b"a", b"b"], object), np.array([b"a", b"c"], object)),
    (np.array([1 + 1j], np.complex64), np.array([1 + 2j], np.complex64)),
    (np.array([2**53 + 1]), np.array([2**53])),
    (np.array([2**64 - 1], np.uint64), np.array([2**64 - 2], np.uint64)),
  ],
)
def test_difference_is_seen(value, reference):
  assert not difference("y", value, reference).holds
  assert difference("y", value, value).holds
  assert difference("y", reference, reference).holds


def test_nothing_is_equal_to_nothing():
  empty = np.zeros((0, 3), np.float32)
  assert difference("y", empty, empty.copy()).holds


# Runner.


def test_runner_runs_on_the_input_alone():
  runner = ImportedGraph(graph_of(doubled), OUTPUT)
  x = np.ones((2, 3), np.float32)
  assert runner.run({"x": x})[0].tolist() == (2 * x).tolist()
  with pytest.raises(ComparisonError) as raised:
    runner.run({})
  assert str(raised.value).startswith("cannot run the graph: ")
  assert "\n" not in str(raised.value)
  with pytest.raises(ComparisonError):
    runner.run({"z": x})
  with pytest.raises(ComparisonError):
    runner.run({"x": x[0, 0]})
  runner.close()


def test_runner_refuses_what_tensorflow_does():
  graph_def = graph_of(doubled)
  graph_def.node.add(name="z", op="NoSuchOp")
  with pytest.raises(ComparisonError) as raised:
    ImportedGraph(graph_def, OUTPUT)
  assert "NoSuchOp" in str(raised.value)
  assert "\n" not in str(raised.value)


# prove().


def test_right_graph_is_proven():
  proof = prove(graph_of(doubled), OUTPUT, DOUBLED)
  assert proof.holds
  assert proof.reference == "NumPy"
  assert proof.batch is True
  assert proof.repeats is True
  assert [d.output for d in proof.differences] == ["y"]
  assert proof.feeds["x"][1:] == (3,)
  assert proof.feeds["x"][0] > 1


@pytest.mark.parametrize("factor", [[2, np.nan, 2], [np.nan] * 3, [np.inf] * 3])
def test_answers_that_are_no_numbers_prove_nothing(factor):
  def build(x):
    return x * np.float32(factor)

  proof = prove(
    graph_of(build), OUTPUT, Answers(lambda x: x * np.float32(factor))
  )
  assert not proof.holds and "no numbers" in proof.missing


def test_a_mask_of_minus_infinity_is_an_answer():
  mask = np.float32([0, -np.inf, 0])
  right = Answers(lambda x: x + mask)
  assert prove(graph_of(lambda x: x + mask), OUTPUT, right).holds


@pytest.mark.parametrize(
  "wrong",
  [
    lambda x: x * 2.01,
    lambda x: x * 2 + 0.01,
    lambda x: tf1.to_double(x * 2),
    lambda x: (x * 2)[:, :2],
    lambda x: x * 2 / 0,
    tf1.abs,
  ],
  ids=["scale", "offset", "dtype", "shape", "inf", "abs"],
)
def test_wrong_graph_is_not_proven(wrong):
  proof = prove(graph_of(wrong), OUTPUT, DOUBLED)
  assert not proof.holds
  assert not proof.differences[0].holds


def test_second_output_counts():
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 3], name="x")
    tf1.identity(x * 2, name="y")
    tf1.identity(x * 2.1, name="z")
  reference = Answers(DOUBLED.function)
  reference.run = lambda feeds: [feeds["x"] * np.float32(2)] * 2
  proof = prove(graph.as_graph_def(), OUTPUT + (TensorRef("z"),), reference)
  assert [d.holds for d in proof.differences] == [True, False]
  assert not proof.holds


def centered(x):
  return x - tf1.reduce_mean(x, 0, keepdims=True)


def test_graph_that_depends_on_its_batch_is_not_proven():
  """A reference of stored values, which the whole batch happens to match."""
  mean = []

  def stored(x):
    mean.append(x.mean(0, keepdims=True))
    return x - mean[0]

  proof = prove(graph_of(centered), OUTPUT, Answers(stored))
  assert proof.differences[0].holds
  assert proof.batch is False
  assert not proof.holds


def test_model_that_depends_on_its_batch_itself():
  reference = Answers(lambda x: x - x.mean(0, keepdims=True))
  proof = prove(graph_of(centered), OUTPUT, reference)
  assert proof.holds
  assert proof.batch is None
  assert any("rest of its batch" in note for note in proof.notes)


@pytest.mark.parametrize("bound", ["least", "largest"])
def test_a_range_that_made_up_numbers_stay_within(bound):
  """What they are is clipped to the range of the batch, if that is wider."""

  def clipped(x):
    if bound == "least":
      return tf1.maximum(x, tf1.minimum(tf1.reduce_min(x), -8.0) + 8.0)
    return tf1.minimum(x, tf1.maximum(tf1.reduce_max(x), 8.0) - 8.0)

  def stored(x):
    return np.maximum(x, 0) if bound == "least" else np.minimum(x, 0)

  proof = prove(graph_of(clipped), OUTPUT, Answers(stored))
  assert proof.differences[0].holds
  assert proof.is_swayed and proof.batch is False and not proof.holds


def test_a_model_whose_batch_chooses_a_branch():
  """It answers so itself; whether it should is not for the proof to say."""

  def chosen(x):
    return 1 - x if np.max(np.abs(x)) > 8 else x

  graph_def = graph_of(
    lambda x: tf1.cond(
      tf1.reduce_max(tf1.abs(x)) > 8.0, lambda: 1 - x, lambda: x + 0
    )
  )
  proof = prove(graph_def, OUTPUT, Answers(chosen))
  assert proof.is_swayed and proof.batch is True and proof.holds


def test_norms_that_keep_their_batch():
  reference = Answers(lambda x: x - x.mean(0, keepdims=True))
  proof = prove(graph_of(centered), OUTPUT, reference, keeps_batch=True)
  assert proof.holds
  assert proof.batch is None
  assert any("batch statistics" in note for note in proof.notes)


def test_nothing_is_claimed_of_a_random_graph():
  """It may be meant, but then no answer says anything."""
  graph_def = graph_of(lambda x: x + tf1.random_normal(tf1.shape(x)))
  for reference in (None, Answers(lambda x: x)):
    proof = prove(graph_def, OUTPUT, reference)
    assert proof.repeats is not True
    assert proof.batch is not True
    assert proof.reference.startswith("nothing") or not proof.holds
    assert any("random" in note for note in proof.notes)


def test_graph_that_counts_its_runs_is_not_proven():
  def counting(x):
    tf1.disable_resource_variables()
    count = tf1.get_variable("count", initializer=tf1.zeros([]))
    return x + tf1.assign_add(count, 1.0)

  graph_def = graph_of(counting)
  proof = prove(graph_def, OUTPUT, None, initializers=["count/Assign"])
  assert proof.repeats is False
  assert not proof.holds


def test_reference_that_does_not_run():
  proof = prove(graph_of(doubled), OUTPUT, CanNot())
  assert proof.differences == []
  assert proof.verdict == "NOT PROVEN"
  assert "does not run" in proof.missing


def test_graph_that_no_input_fits():
  def picky(x):
    with tf1.control_dependencies([tf1.Assert(tf1.shape(x)[0] > 99, ["no"])]):
      return tf1.identity(x)

  proof = prove(graph_of(picky), OUTPUT, Answers(lambda x: x))
  assert proof.verdict == "NOT PROVEN" and proof.reference == ""
  assert proof.repeats is None
  assert any("--feeds" in note for note in proof.notes)


def test_own_feeds_are_used():
  x = np.full((100, 3), 3, np.float32)
  proof = prove(graph_of(doubled), OUTPUT, DOUBLED, feeds={"x": x})
  assert proof.holds
  assert proof.feeds == {"x": (100, 3)}
  masked = Answers(lambda x: np.where(x == 3, 7, x * 2).astype(np.float32))
  assert not prove(graph_of(doubled), OUTPUT, masked, feeds={"x": x}).holds


def test_fixed_batch():
  proof = prove(graph_of(doubled, (4, 3)), OUTPUT, DOUBLED)
  assert proof.holds
  assert proof.batch  # beside other rows
  assert proof.feeds == {"x": (4, 3)}


def test_graph_that_does_not_import():
  graph_def = graph_of(doubled)
  graph_def.node.add(name="z", op="NoSuchOp")
  with pytest.raises(ComparisonError):
    prove(graph_def, OUTPUT, DOUBLED)


@pytest.mark.parametrize("column", [0, 1])
def test_what_is_not_a_number_differs_in_any_column(column):
  reference = np.ones((3, 2), np.float32)
  value = reference.copy()
  value[1, column] = np.nan
  found = difference("y", value, reference)
  assert not found.holds and found.largest == np.inf


@pytest.mark.parametrize(
  "dtype",
  [tf1.float16, tf1.float64, tf1.int32, tf1.uint8, tf1.bool, tf1.string],
)
def test_made_up_feeds_of_each_type(dtype):
  graph_def = graph_of(tf1.identity, dtype=dtype)
  proof = prove(graph_def, OUTPUT, Answers(lambda x: x))
  assert proof.holds, proof
  assert len(proof.differences) == 1


@pytest.mark.parametrize("side", [5, 8, 32, 224])
def test_made_up_feeds_find_the_size(side):
  def flat(x):
    x = tf1.reshape(x, [-1, side * side * 3])
    return tf1.matmul(x, tf1.ones([side * side * 3, 2]))

  graph_def = graph_of(flat, (None, None, None, 3))
  feeds = {f["x"].shape for f in made_up.made_up_feeds(graph_def)}
  assert any(shape[1:] == (side, side, 3) for shape in feeds)


def test_made_up_feeds_repeat():
  graph_def = graph_of(doubled)
  one, two = [
    next(iter(made_up.made_up_feeds(graph_def)))["x"] for _ in range(2)
  ]
  assert one.tolist() == two.tolist()
  assert np.ptp(one) > 0.1


def dead(x):
  """Nothing but zeros for values near 0, as a network of pixels may be."""
  return tf1.nn.relu(x / 255.0 - 0.2)


def test_made_up_feeds_look_for_an_answer_that_is_alive():
  graph_def = graph_of(dead)
  alike = Answers(
    lambda x: np.maximum(x / np.float32(255) - np.float32(0.2), 0)
  )
  proof = prove(graph_def, OUTPUT, alike)
  assert proof.holds and proof.arrays["x"].max() > 200


def test_answers_that_are_all_the_same_prove_nothing():
  graph_def = graph_of(dead)
  zero = Answers(lambda x: np.zeros_like(x))
  feeds = {"x": np.random.RandomState(1).randn(4, 3).astype(np.float32)}
  proof = prove(graph_def, OUTPUT, zero, feeds)
  assert all(d.holds for d in proof.differences)
  assert proof.verdict == NOT_PROVEN
  assert "the same answer" in proof.missing


@pytest.mark.parametrize(
  "answer, alive",
  [
    (np.float32([[1, 2], [1, 2]]), False),
    (np.float32([[1, 2], [1, 3]]), True),
    (np.int32([1, 1]), True),  # a class may be all rows'
    (np.float32([1, 1, 1]), True),  # no rows
  ],
)
def test_is_alive(answer, alive):
  assert feeding.is_alive({"x": np.eye(2, 3)}, [answer]) == alive


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_noise_that_the_reference_does_not_have_differs(scale):
  """Also where it is little, as under a softmax of many classes."""

  def noisy(x):
    return tf1.nn.softmax(scale * (x + tf1.random_normal(tf1.shape(x))))

  def quiet(x):
    powers = np.exp(np.float32(scale) * x)
    return powers / powers.sum(1, keepdims=True)

  proof = prove(graph_of(noisy), OUTPUT, Answers(quiet))
  assert proof.repeats is False
  assert proof.verdict == DIFFERS
