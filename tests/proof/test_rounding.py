# SPDX-License-Identifier: Apache-2.0
"""The measured limit: rounding passes it, and small faults do not."""

import numpy as np
import pytest

from bnexport import text
from bnexport.proof.differences import by_column, difference, precision
from bnexport.proof.rounding import changed, measured, movement
from bnexport.proof.runs import ImportedGraph

RANDOM = np.random.RandomState(5)
X = RANDOM.randn(4, 64).astype(np.float32)
WEIGHTS = RANDOM.randn(64, 1000).astype(np.float32)

DENSE = """
x = Placeholder() {shape=[?,64]}
w = Const() {value=<float [64,1000] 0>}
logits = MatMul(x, w)
y = %s
"""
NORM = """
x = Placeholder() {shape=[?,4]}
mean = Const() {value=<float [4] 0.5 -0.25 0.125 1>}
variance = Const() {value=<float [4] 1.25 0.75 2 1>}
epsilon = Const() {value=<float [] %s>}
centred = Sub(x, mean)
wide = AddV2(variance, epsilon)
factor = Rsqrt(wide)
y = Mul(centred, factor)
"""


def opened(source, weights=None):
  graph_def = text.loads(source)
  for node in graph_def.node:
    if node.name == "w":
      node.attr["value"].tensor.ClearField("float_val")
      node.attr["value"].tensor.tensor_content = weights.tobytes()
  return ImportedGraph(graph_def, ["y"])


def dense(last, weights=WEIGHTS):
  return opened(DENSE % last, weights)


def apart(one, other, x=X):
  """The Difference of two graphs, held to what the first one's rounding is."""
  feeds = {"x": x}
  with one, other:
    answers = one.run(feeds)
    (moved,) = measured(one, ["y"], feeds, answers)
    return difference("y", answers[0], other.run(feeds)[0], moved=moved)


@pytest.mark.parametrize(
  "last", ["Identity(logits)", "Softmax(logits)", "Relu(logits)"]
)
def test_the_order_of_a_sum_is_rounding(last):
  x = X[:, ::-1].copy()
  feeds = {"x": X}
  with dense(last) as one, dense(last, WEIGHTS[::-1].copy()) as other:
    answers = one.run(feeds)
    (moved,) = measured(one, ["y"], feeds, answers)
    found = difference("y", answers[0], other.run({"x": x})[0], moved=moved)
  assert found.holds and found.limit < 1e-5 * np.abs(answers[0]).max()


@pytest.mark.parametrize("last", ["Identity(logits)", "Softmax(logits)"])
def test_a_weight_that_is_a_thousandth_off_is_none(last):
  right = WEIGHTS / np.float32(10)
  wrong = right.copy()
  wrong[3, 500] *= 1.001
  assert not apart(dense(last, right), dense(last, wrong)).holds


def test_answers_of_many_classes_are_held_to_their_own_range():
  """A constant of 1e-4 would let 3 % of the largest of them pass."""
  small = WEIGHTS / np.float32(100)
  found = apart(
    dense("Softmax(logits)", small), dense("Softmax(logits)", small * 0.99)
  )
  assert not found.holds and found.largest < 1e-4


def test_a_wrong_epsilon_is_none():
  x = X[:, :4]
  assert not apart(opened(NORM % 1e-3), opened(NORM % 1e-5), x).holds
  assert apart(opened(NORM % 1e-3), opened(NORM % 1e-3), x).holds


def test_small_differences_of_large_numbers_round_more():
  source = """
  x = Placeholder() {shape=[?,64]}
  w = Const() {value=<float [64,1000] 0>}
  large = Add(x, one)
  one = Const() {value=<float [64] %s>}
  there = MatMul(large, w)
  back = MatMul(one2, w)
  one2 = Const() {value=<float [1,64] %s>}
  y = Sub(there, back)
  """

  def limit(size):
    values = " ".join([str(size)] * 64)
    with opened(source % (values, values), WEIGHTS) as run:
      answers = run.run({"x": X})
      return measured(run, ["y"], {"x": X}, answers)[0].max()

  assert limit(1000.0) > 100 * limit(0.1)


def test_boxes_do_not_hide_scores():
  answer = np.float32([[600, 0.5], [-300, 0.25]])
  wrong = answer + np.float32([[0, 1e-3], [0, 0]])
  moved = np.float64([1e-3, 1e-6])
  assert difference("y", wrong, answer).holds
  assert not difference("y", wrong, answer, moved=moved).holds
  assert difference("y", answer[:, ::-1], answer[:, ::-1], moved=moved).holds


def test_the_worst_column_is_told():
  answer = np.float32([[1, 1, 1]])
  wrong = answer + np.float32([[1e-3, 2e-3, 1e-3]])
  found = difference("y", wrong, answer, moved=np.float64([1e-3, 1e-2, 1e-6]))
  assert found.largest == pytest.approx(1e-3, rel=1e-3)
  assert found.limit < 1e-5


def test_integers_are_exact_where_rounding_does_not_reach_them():
  one, other = np.int32([3, 4, 5]), np.int32([3, 4, 6])
  assert not difference("y", one, other, moved=np.float64(0)).holds
  assert difference("y", one, other, moved=np.float64(1)).holds
  assert not difference("y", one, other + 1, moved=np.float64(1)).holds


def test_numbers_change_by_units_in_the_last_place():
  with dense("Identity(logits)") as run:
    feeds = {"x": X}
    for other in changed(run, ["y"], feeds):
      assert sorted(other) == ["w", "x"]
      for name, value in (("x", X), ("w", WEIGHTS)):
        relative = np.abs(other[name] / value.astype(np.float64) - 1)
        assert 0 < relative.max() <= 10 * precision(np.float32)


def test_whole_numbers_and_scalars_stay():
  source = """
  x = Placeholder() {dtype=int32, shape=[?,3]}
  two = Const() {value=<float [] 2>}
  wide = Cast(x) {DstT=float}
  y = Pow(wide, two)
  """
  feeds = {"x": np.int32([[-1, 2, 3]])}
  with opened(source) as run:
    for other in changed(run, ["y"], feeds):
      assert list(other) == ["x"] and (other["x"] == feeds["x"]).all()
    assert (measured(run, ["y"], feeds, run.run(feeds))[0] == 0).all()


def test_movement_that_is_no_number_allows_what_the_constant_does():
  before, after = np.float32([[1, 2]]), np.float32([[1, np.nan]])
  moved = movement(before, after)
  assert moved.tolist() == [0, np.inf]
  found = difference("y", before + np.float32([[0, 0.5]]), before, moved=moved)
  assert not found.holds and found.limit == pytest.approx(2e-4)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 2, 3), (0, 3)])
def test_columns(shape):
  array = np.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape)
  assert by_column(array).shape == (shape[-1:] if len(shape) > 1 else ())
  assert np.max(by_column(array), initial=0) == np.max(array, initial=0)
