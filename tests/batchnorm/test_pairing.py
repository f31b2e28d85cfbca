# SPDX-License-Identifier: Apache-2.0
"""The keys of a checkpoint that names tell to be a norm's averages."""

import pytest

from bnexport.batchnorm.pairing import Pairing, squeezed

KEYS = {
  "a/bn/moving_mean": (4,),
  "a/bn/moving_variance": (4,),
  "a/bn/gamma": (4,),
  "b/bn/moving_mean": (4,),
  "b/bn/moving_variance": (4,),
  "c/bn/moving_mean": (6,),
  "c/bn/moving_variance": (6,),
  "c/w": (3, 3, 4, 6),
}


def of(shape, anchors, statistics=(), keys=KEYS, taken=()):
  return Pairing(keys, set(taken)).of(shape, anchors, statistics)


@pytest.mark.parametrize("scope", ["a", "b"])
def test_keys_of_the_innermost_common_scope(scope):
  assert tuple(of((4,), [f"{scope}/bn/gamma"])) == (
    [f"{scope}/bn/moving_mean"],
    [f"{scope}/bn/moving_variance"],
  )


def test_size_alone_tells_where_there_is_one_of_it():
  assert tuple(of((6,), ["elsewhere/gamma"])) == (
    ["c/bn/moving_mean"],
    ["c/bn/moving_variance"],
  )


def test_size_alone_does_not_tell_of_two():
  assert tuple(of((4,), ["elsewhere/gamma"])) == ([], [])


def test_keys_that_are_equally_near_are_all_given():
  keys = {
    "bn/mean_1": (4,),
    "bn/mean_2": (4,),
    "bn/variance": (4,),
  }
  means, variances = of((4,), ["bn/gamma"], keys=keys)
  assert means == ["bn/mean_1", "bn/mean_2"] and variances == ["bn/variance"]


def test_shadows_are_named_for_what_they_average():
  keys = {
    "n/moments/Squeeze/ExponentialMovingAverage": (4,),
    "n/moments/Squeeze_1/ExponentialMovingAverage": (4,),
  }
  names = ["n/moments/Squeeze", "n/moments/Squeeze_1"]
  assert of((4,), ["n/gamma"], names, keys) == [[key] for key in keys]


def test_constants_of_the_graph_and_slots_of_optimizers_are_no_averages():
  keys = dict(KEYS)
  keys["a/bn/moving_mean/Momentum"] = (4,)
  means, _ = of((4,), ["a/bn/gamma"], keys=keys)
  assert means == ["a/bn/moving_mean"]
  means, _ = of((4,), ["a/bn/gamma"], taken=["a/bn/moving_mean"])
  assert "a/bn/moving_mean" not in means


def test_axes_of_one_do_not_count():
  assert squeezed((1, 1, 1, 4)) == (4,)
  keys = {"bn/mean": (1, 1, 1, 4), "bn/variance": (1, 4)}
  assert tuple(of((4,), ["bn/gamma"], keys=keys)) == (
    ["bn/mean"],
    ["bn/variance"],
  )
