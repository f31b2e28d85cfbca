# SPDX-License-Identifier: Apache-2.0
"""Kernels that do what scale * x + shift did, and what they can't do."""

import numpy as np
import pytest

from bnexport.batchnorm import folding
from bnexport.batchnorm.folding import Affine, CannotFold

SCALE, SHIFT = np.array([2.0, -0.5]), np.array([0.25, 3.0])
X = np.array([[1.0, -2.0], [0.5, 4.0], [-3.0, 0.0]])


def at(affine, x):
  return affine.scale * x + affine.shift


def test_one_affine_map_and_then_another():
  first = Affine(SCALE, SHIFT, np.array([1.0, 2.0]))
  second = Affine(np.array([-3.0, 0.1]), np.array([1.0, -1.0]))
  both = first.then(second)
  np.testing.assert_allclose(at(both, X), at(second, at(first, X)))
  # What is scaled is as much larger or smaller.
  np.testing.assert_allclose(both.spread, [3.0, 0.2])
  assert second.then(second).spread is None
  np.testing.assert_allclose(second.then(first).spread, first.spread)


def test_norm_is_that_of_the_paper():
  gamma, beta = np.array([2.0, -0.5]), np.array([0.25, -1.0])
  mean, variance = np.array([1.5, -3.0]), np.array([4.0, 0.7])
  made = folding.norm(gamma, beta, mean, variance, 0.01)
  expected = gamma * (X - mean) / np.sqrt(variance + 0.01) + beta
  np.testing.assert_allclose(at(made, X), expected)
  np.testing.assert_allclose(made.spread, [2.25, 1.5])


@pytest.mark.parametrize(
  "shape, axis, is_one",
  [
    ((2,), 1, True),
    ((1, 2), 1, True),
    ((), 1, True),
    ((2, 1), 0, True),
    ((2, 1), 1, False),
    ((3,), 1, False),
    ((1,), 1, True),
    ((1, 1, 2), 1, False),
  ],
)
def test_operands_that_are_one_number_a_channel(shape, axis, is_one):
  array = np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)
  if is_one:
    vector = folding.per_channel(array, 2, axis, 2)
    assert vector.tolist() == np.broadcast_to(array.reshape(-1), 2).tolist()
  else:
    with pytest.raises(CannotFold):
      folding.per_channel(array, 2, axis, 2)


@pytest.mark.parametrize("width", [3, 4])
def test_fewer_numbers_than_channels_are_refused(width):
  with pytest.raises(CannotFold, match=f"2 numbers for {width} channels"):
    folding.per_channel(SCALE, 2, 1, width)


@pytest.mark.parametrize(
  "shift, dtype, is_refused",
  [
    (1e6, "float32", True),
    (1.0, "float32", False),
    (100.0, "float16", True),
    (1.0, "float16", False),
  ],
)
def test_what_is_taken_away_may_not_drown_what_is_left(
  shift, dtype, is_refused
):
  affine = Affine(np.ones(1), np.array([shift]), np.ones(1))
  if is_refused:
    with pytest.raises(CannotFold, match=dtype):
      folding.check_cancellation(affine, dtype)
  else:
    folding.check_cancellation(affine, dtype)
  # It is measured by what is left.
  folding.check_cancellation(affine._replace(spread=np.array([1e8])), dtype)


def test_infinite_scales_are_refused():
  folding.check_finite(Affine(SCALE, SHIFT))
  with pytest.raises(CannotFold, match="its shift is nan in channel 1"):
    folding.check_finite(Affine(SCALE, np.array([0.0, np.nan])))


def test_channels_of_groups_take_the_scale_of_their_group():
  """A grouped kernel has as many inputs as one group of channels has."""
  random = np.random.RandomState(3)
  kernel = random.normal(size=(1, 1, 2, 6))  # three groups of two channels
  x = random.normal(size=(5, 6))
  affine = Affine(random.normal(size=6), random.normal(size=6))
  made, lacking = folding.absorb_inputs(kernel, 2, (3,), affine, "float64")

  def grouped(kernel, x):
    parts = [
      x[:, 2 * i : 2 * i + 2] @ kernel[0, 0, :, 2 * i : 2 * i + 2]
      for i in range(3)
    ]
    return np.concatenate(parts, axis=1)

  np.testing.assert_allclose(
    grouped(made, x) + lacking, grouped(kernel, at(affine, x))
  )


@pytest.mark.parametrize(
  "shape, in_axis, out_axes",
  [
    ((1, 1, 2, 5), 2, (3,)),  # five outputs are no three groups
    ((1, 1, 4, 6), 2, (3,)),  # six channels are no fours
    ((1, 1, 6, 2), 3, (2,)),  # a transposed kernel has no groups
    ((1, 1, 2, 1), 2, (2, 3)),  # each channel by itself
  ],
)
def test_kernels_that_do_not_fit_are_refused(shape, in_axis, out_axes):
  affine = Affine(np.ones(6), np.ones(6))
  with pytest.raises(CannotFold, match="x has 6 channels and the kernel"):
    folding.absorb_inputs(np.ones(shape), in_axis, out_axes, affine, "float64")


TINY = 2.0**-126


@pytest.mark.parametrize(
  "number, before, is_held",
  [
    (1.0, None, True),
    (TINY * 2.0**23, None, True),
    (TINY, None, True),
    (TINY * 0.75, None, False),
    (0.0, None, True),
    # What had no precision before loses none.
    (TINY * 0.75, TINY * 0.5, True),
    (TINY * 0.75, 1.0, False),
  ],
)
def test_numbers_too_small_for_float32(number, before, is_held):
  wide, before = np.array([[number]]), before and np.array([[before]])
  if is_held:
    made = folding.narrow(wide, "float32", (1,), before)
    assert made.dtype == np.float32 and made == np.float32(number)
  else:
    with pytest.raises(CannotFold, match="as small"):
      folding.narrow(wide, "float32", (1,), before)


def test_small_numbers_beside_large_ones_are_lost_without_a_word():
  wide = np.array([[1.0, TINY / 2]])
  assert folding.narrow(wide, "float32", (0,)).shape == (1, 2)
  with pytest.raises(CannotFold):
    folding.narrow(wide, "float32", (1,))
  # Beside what is not much larger they count.
  with pytest.raises(CannotFold):
    folding.narrow(wide * [[2.0**-116, 1.0]], "float32", (0,))


def test_numbers_too_large_are_refused():
  with pytest.raises(CannotFold, match="can't hold the numbers"):
    folding.narrow(np.array([1e39]), "float32", None)
  with pytest.raises(CannotFold):
    folding.narrow(np.array([-1e39]), "float32", None)
  assert folding.narrow(np.array([1e39]), "float64", None) == 1e39


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(
  "shape, out_axes",
  [((3, 3, 4, 5), (3,)), ((3, 2, 4, 3), (2, 3)), ((5, 4), (0,))],
)
def test_scaled_kernels_are_products_rounded_once(dtype, shape, out_axes):
  random = np.random.RandomState(5)
  kernel = random.normal(size=shape)
  if dtype != "bfloat16":
    kernel = kernel.astype(dtype)
  sizes = [n if i in out_axes else 1 for i, n in enumerate(shape)]
  scale = random.normal(size=int(np.prod(sizes)))
  made = folding.scale_outputs(kernel, out_axes, scale, dtype)
  wide = kernel.astype(np.float64) * scale.reshape(sizes)
  expected = folding.narrow(wide, dtype, out_axes, kernel)
  assert made.dtype == expected.dtype
  np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("out_axes", [(0,), (1,), (0, 1)])
def test_what_is_refused_before_a_kernel_is_made(dtype, out_axes):
  """The same kernels as where it is made and looked at."""
  numbers = [0.0, 1.0, -3.0, 1e-7, 1e-38, -1e-41, 7e4, -3e38, 1e39]
  numbers += [np.nan, np.inf, -np.inf]
  refused = {True: 0, False: 0}
  for first in numbers:
    for factor in (0.0, 1.0, -0.3, 1e-4, 1e-38, 1e39):
      with np.errstate(all="ignore"):
        kernel = np.array([[first, 1.0], [0.5, -first], [0.0, 2.0 * first]])
        if dtype != "bfloat16":
          kernel = kernel.astype(dtype)
        sizes = [n if i in out_axes else 1 for i, n in enumerate(kernel.shape)]
        scale = np.full(int(np.prod(sizes)), factor)
        wide = kernel.astype(np.float64) * factor
      told = [
        _is_refused(folding.check_outputs, kernel, out_axes, scale, dtype),
        _is_refused(folding.scale_outputs, kernel, out_axes, scale, dtype),
        _is_refused(folding.narrow, wide, dtype, out_axes, kernel),
      ]
      assert told == told[:1] * 3, (first, factor, told)
      refused[told[0]] += 1
  assert min(refused.values()) > 10


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_are_scaled_as_whole_kernels(dtype):
  random = np.random.RandomState(5)
  kernel = random.normal(size=(3, 3, 4, 5)).astype(dtype)
  scale = random.normal(size=5)
  rows = np.split(kernel.reshape(-1, 5), [1, 7, 30])
  assert folding.can_scale_rows(rows, scale, dtype)
  made = np.concatenate(list(folding.scale_rows(rows, scale, dtype)))
  expected = folding.scale_outputs(kernel, (3,), scale, dtype)
  assert made.dtype == dtype
  np.testing.assert_array_equal(made, expected.reshape(-1, 5))
  small = {"float16": 1e-5, "float32": 1e-38, "float64": 1e-307}[dtype]
  assert not folding.can_scale_rows(rows, scale * small, dtype)
  rows[2][0, 0] = np.nan
  with pytest.raises(CannotFold, match="can't hold the numbers"):
    folding.can_scale_rows(rows, scale, dtype)


def _is_refused(function, *arguments):
  try:
    function(*arguments)
  except CannotFold:
    return True
  return False
