# SPDX-License-Identifier: Apache-2.0
"""Groups of what is alike: patterns, how few there are, lines, cost."""

import doctest
import fnmatch
import random

import pytest
from judges.counting import assert_linear

from bnexport.report import grouping

pytestmark = pytest.mark.newest(
  "groups of names, which no TensorFlow has a part in"
)


def shown(names, most, **how):
  return [
    (str(group), len(group.items))
    for group in grouping.groups(names, most, **how)
  ]


def test_the_documentation():
  assert doctest.testmod(grouping).attempted >= 4
  assert doctest.testmod(grouping).failed == 0


@pytest.mark.parametrize(
  "names, pattern",
  [
    (["net/norm"], "net/norm"),
    (["conv2d", "conv2d_1", "conv2d_2"], "conv2d*"),
    (["norm_1", "norm_2"], "norm_*"),
    (["block35_1/bn", "block35_2/bn"], "block35_*/bn"),
    (["block35_1/bn", "block17_1/bn"], "block*_1/bn"),
    (["res2a_branch2a/bn", "res5c_branch1/bn"], "res*_branch*/bn"),
    (["a/reduce_norm/x", "a/expand_norm/x"], "a/*_norm/x"),
    (["a/norm_x/k", "a/norm_y/k"], "a/norm_*/k"),
    (["tower_0/bn:1", "tower_1/bn:1"], "tower_*/bn:1"),
    (["a/b", "a/b/c", "a/d"], "a/..."),
    (["a/x/norm", "a/x/y/norm"], "a/x/.../norm"),
    (["resnet50/v2", "resnet50/v3"], "resnet50/v*"),
    (["x", "y"], "*"),
    (["same", "same"], "same"),
  ],
)
def test_patterns(names, pattern):
  assert grouping.pattern(names) == pattern
  assert grouping.pattern(names[::-1]) == pattern


def test_all_names_fit_their_pattern():
  """Random names; `*` and `...` mean what they say."""
  chosen = random.Random(1)
  parts = [
    "net",
    "block1",
    "block12",
    "a_norm",
    "b_norm",
    "bn",
    "bn_1",
    "res2a",
  ]
  for _ in range(300):
    names = [
      "/".join(chosen.choice(parts) for _ in range(chosen.randint(1, 5)))
      for _ in range(chosen.randint(1, 6))
    ]
    pattern = grouping.pattern(names)
    glob = pattern.replace("/...", "...").replace(".../", "...")
    glob = glob.replace("...", "*")
    for name in names:
      assert fnmatch.fnmatchcase(name, glob), (names, pattern)


def test_few_items_stand_by_themselves():
  names = ["norm", "norm_1", "norm_2"]
  assert shown(names, 3) == [("norm", 1), ("norm_1", 1), ("norm_2", 1)]
  assert shown(names, 2) == [("norm*", 3)]
  assert grouping.groups([], 3) == []


def test_groups_are_as_fine_as_they_may_be():
  names = [
    f"net/stage{stage}/block{block}/{part}_norm/bn"
    for stage in range(4)
    for block in range(3)
    for part in ("reduce", "expand")
  ] + ["net/stem_norm/bn"]
  assert shown(names, 3) == [
    ("net/stage*/block*/reduce_norm/bn", 12),
    ("net/stage*/block*/expand_norm/bn", 12),
    ("net/stem_norm/bn", 1),
  ]
  assert shown(names, 2) == [
    ("net/stage*/block*/*_norm/bn", 24),
    ("net/stem_norm/bn", 1),
  ]
  assert shown(names, 1) == [("net/.../bn", 25)]


def test_scopes_of_any_depth_are_grouped_by_their_start():
  names = [
    f"net/{part}/{'deep/' * (i % 5)}n{i % 3}"
    for part in ("Repeat", "Mixed")
    for i in range(40)
  ]
  assert shown(names, 2) == [
    ("net/Repeat/.../n*", 40),
    ("net/Mixed/.../n*", 40),
  ]


def test_kinds_are_never_in_one_group():
  items = [(f"norm_{i}", i % 3) for i in range(30)]
  found = grouping.groups(items, 1, lambda i: i[0], lambda i: i[1])
  assert [len(group.items) for group in found] == [10, 10, 10]
  for group in found:
    assert len({kind for _, kind in group.items}) == 1


def test_items_keep_their_order():
  names = [f"{'ab'[i % 2]}/n{i}" for i in range(20)]
  first, second = grouping.groups(names, 2)
  assert first.names == names[::2] and second.names == names[1::2]


# Lines.


def lines(texts, most=3, **how):
  return grouping.lines(texts, most, **how)


def test_the_same_of_many_names_is_said_once():
  texts = [
    f"norm 'n/b{i}/bn': variance 0 in {8 * i} of {8 * i} channels"
    for i in range(1, 5)
  ]
  assert lines(texts) == [
    (
      "norm 'n/b*/bn': variance 0 in 8 to 32 of 8 to 32 channels (4 alike)",
      4,
    )
  ]


def test_other_words_are_other_lines():
  texts = [f"'n{i}' is {'low' if i % 2 else 'high'}" for i in range(6)]
  assert lines(texts) == [
    ("'n*' is high (3 alike)", 3),
    ("'n*' is low (3 alike)", 3),
  ]


def test_names_that_have_nothing_in_common_stay_apart_where_there_is_room():
  texts = ["decided 'mode' = 1", "decided 'keep_prob' = 2"]
  texts += [f"folded 'n{i}'" for i in range(9)]
  assert [count for _, count in lines(texts)] == [1, 1, 9]


def test_names_and_numbers_are_not_mixed_up():
  texts = ["uses 'a1'", "uses 'a2'", "uses 3", "uses 4"]
  assert lines(texts, 2) == [
    ("uses 'a*' (2 alike)", 2),
    ("uses 3 to 4 (2 alike)", 2),
  ]


@pytest.mark.parametrize(
  "texts, said",
  [
    (["1.4.1 here", "1.8.0 here"], "* here (2 alike)"),
    (["BN203 at 1e-05", "BN203 at 2e-03"], "BN203 at 1e-05 to 2e-03 (2 alike)"),
    (["it's 1 of 'a 1'", "it's 2 of 'a 1'"], None),
  ],
)
def test_numbers(texts, said):
  ((found, count),) = lines(texts, 1)
  assert count == 2
  if said is not None:
    assert found == said


def test_texts_without_names_and_numbers():
  assert lines(["a", "a", "b", "a"], 2) == [("a (3 alike)", 3), ("b", 1)]


# Cost.


@pytest.mark.parametrize(
  "make",
  [
    lambda i: f"net/stage{i % 9}/block{i}/norm",
    lambda i: "/".join("abcdefgh"[(i >> k) % 8] * (k + 1) for k in range(8)),
    lambda i: f"{i:x}".translate(str.maketrans("0123456789", "ghijklmnop")),
  ],
  ids=["numbers", "deep", "different words"],
)
def test_cost_is_linear(make):
  def prepare(count):
    names = [make(i) for i in range(count)]
    told = [f"norm '{name}' is {i}" for i, name in enumerate(names)]
    return lambda: (grouping.groups(names, 8), lines(told, 8))

  assert_linear(prepare, 1500, 12000)
