# SPDX-License-Identifier: Apache-2.0
"""Finding checkpoints, and the values of a graph's variables in them."""

import os

import numpy as np
import pytest
from judges.transforming import checkpoint

from bnexport import text
from bnexport.errors import SourceError
from bnexport.graph import Graph, ops
from bnexport.graph.nodes import tensor_attr
from bnexport.model.checkpoint import Checkpoint, Values, slice_shape
from bnexport.model.prefixes import find_prefix
from bnexport.model.savers import (
  Saved,
  restored_keys,
  saver_keys,
  scopes_between,
)
from bnexport.tf1 import ObjectGraph, session, tf1

VARIABLES = """
  v = VariableV2() {shape=[2]}   v/read = Identity(v)
  h = VarHandleOp() {shape=[2], dtype=float, shared_name="scope/h"}
  h/read = ReadVariableOp(h) {dtype=float}
"""
SAVER = """
  prefix = Const() {value=<string "model">}
  names = Const() {value=<string [2] "key/v" "key/h">}
  slices = Const() {value=<string [2] "" "4 2,2">}
  save = SaveV2(prefix, names, slices, v/read, h/read)
"""


@pytest.fixture
def saved(tmp_path):
  """A checkpoint with an index, and the path of its directory."""
  return checkpoint(tmp_path, {"v": [1, 2], "scope/h": [3, 4], "other": 5})


def values(saved, statements=VARIABLES, held=()):
  return Values(saved, Graph(text.loads(statements)), held)


# Paths.


@pytest.mark.parametrize(
  "path",
  [
    "model.ckpt",
    "model.ckpt.index",
    "model.ckpt.meta",
    "model.ckpt.data-00000-of-00001",
  ],
)
def test_any_file_of_a_checkpoint_means_it(saved, tmp_path, path):
  assert find_prefix(str(tmp_path / path)) == saved.prefix


def test_directory_means_its_latest(tmp_path):
  older = checkpoint(tmp_path, {"v": 1}, "older.ckpt").prefix
  latest = checkpoint(tmp_path, {"v": 2}, "latest.ckpt").prefix
  for named in (older, latest):
    name = os.path.basename(named)
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{name}"\n')
    assert find_prefix(str(tmp_path)) == named
    assert find_prefix(str(tmp_path / "checkpoint")) == named


def test_directory_that_was_moved(saved, tmp_path):
  state = tmp_path / "checkpoint"
  state.write_text('model_checkpoint_path: "/data/runs/7/model.ckpt"\n')
  assert find_prefix(str(tmp_path)) == saved.prefix
  state.write_text('model_checkpoint_path: "/data/runs/7/other.ckpt"\n')
  with pytest.raises(SourceError) as refused:
    find_prefix(str(tmp_path))
  assert "names '/data/runs/7/other.ckpt', which is not" in str(refused.value)
  assert f"such as '{saved.prefix}'" in str(refused.value)


def test_directory_without_its_checkpoint_file(saved, tmp_path):
  assert find_prefix(str(tmp_path)) == saved.prefix
  checkpoint(tmp_path, {"v": 2}, "another.ckpt")
  with pytest.raises(SourceError, match="no `checkpoint` file.*'.*model.ckpt'"):
    find_prefix(str(tmp_path))
  (tmp_path / "empty").mkdir()
  with pytest.raises(SourceError, match="give the prefix that Saver.save"):
    find_prefix(str(tmp_path / "empty"))


def test_missing_checkpoint_offers_what_is_near(saved, tmp_path):
  wrong = str(tmp_path / "modle.ckpt")
  with pytest.raises(SourceError) as refused:
    find_prefix(wrong)
  assert f"there is no '{wrong}.index'" in str(refused.value)
  assert f"did you mean '{saved.prefix}'?" in str(refused.value)


def test_damaged_checkpoint_is_refused(saved):
  with open(saved.prefix + ".index", "rb+") as f:
    f.truncate(10)
  with pytest.raises(
    SourceError, match="cannot read checkpoint '.*model.ckpt'"
  ):
    Checkpoint(saved.prefix)


def test_damaged_values_are_refused_when_they_are_read(saved):
  with open(saved.prefix + ".data-00000-of-00001", "rb+") as f:
    f.truncate(3)
  again = Checkpoint(saved.prefix)
  assert "v" in again and again.shapes["v"] == [2]
  with pytest.raises(SourceError, match="cannot read 'v' of checkpoint"):
    again.read("v")


# Tensors.


@pytest.mark.parametrize(
  "spec, rows, columns",
  [
    ("4 3 0,2:-", slice(0, 2), slice(None)),
    ("4 3 2,2:-", slice(2, 4), slice(None)),
    ("4 3 -:1,2", slice(None), slice(1, 3)),
    ("4 3 3,1:0,1", slice(3, 4), slice(0, 1)),
    ("", slice(None), slice(None)),
  ],
)
def test_slices_of_a_tensor(tmp_path, spec, rows, columns):
  whole = np.arange(12, dtype=np.float32).reshape(4, 3)
  part = checkpoint(tmp_path, {"w": whole}).read("w", spec)
  np.testing.assert_array_equal(part, whole[rows, columns])
  assert not spec or slice_shape(spec) == part.shape


def test_strings_keep_the_zeros_at_their_end(tmp_path):
  assert checkpoint(tmp_path, {"s": b"ab\0\0"}).read("s").item() == b"ab\0\0"


# Values of variables.


def test_names_and_shared_names_are_keys(saved):
  found = values(saved)
  assert "v" in found and "h" in found and "w" not in found
  assert found["v"].tolist() == [1, 2] and found["h"].tolist() == [3, 4]
  assert found.shape("v") == (2,) and found.shape("w") is None


def test_keys_of_the_savers_go_first(tmp_path):
  saved = checkpoint(
    tmp_path, {"key/v": [7, 8], "v": [1, 2], "key/h": [0, 1, 2, 3]}
  )
  found = values(saved, VARIABLES + SAVER)
  assert found["v"].tolist() == [7, 8]
  assert found["h"].tolist() == [2, 3]  # the slice that the Saver says
  assert found.shape("h") == (2,)


def test_keys_of_a_saver_that_the_checkpoint_lacks(saved):
  """The name is tried then."""
  assert values(saved, VARIABLES + SAVER)["v"].tolist() == [1, 2]


def test_what_the_file_holds_goes_before_the_checkpoint(saved):
  tensor = tensor_attr(np.float32([5, 6])).tensor
  found = values(saved, held={"v": tensor})
  assert found["v"].tolist() == [5, 6] and found.shape("v") == (2,)
  found = values(saved)
  found.hold("v", tensor)
  assert found["v"].tolist() == [5, 6]


def test_what_is_preferred_goes_before_all(saved):
  found = values(saved, held={"v": tensor_attr(np.float32([5, 6])).tensor})
  found.prefer("v", Saved("scope/h", ""))
  assert found["v"].tolist() == [3, 4]
  found.prefer("v", Saved("v", ""))
  assert found["v"].tolist() == [1, 2]


def test_missing_values_are_refused(saved):
  with pytest.raises(
    SourceError, match="does not hold it; did you mean 'other'"
  ):
    values(saved)["othr"]
  with pytest.raises(SourceError, match="pass --checkpoint=PREFIX"):
    values(None)["v"]


def test_names_of_objects_count_where_there_is_no_saver(tmp_path):
  """As tf.train.Checkpoint writes them."""
  names = tmp_path / "names"
  names.mkdir()
  with tf1.Graph().as_default() as graph, session(graph) as running:
    v = tf1.get_variable("v", initializer=[1.0, 2.0], use_resource=True)
    running.run(tf1.global_variables_initializer())
    made = tf1.train.Checkpoint(weights=v)
    with running.as_default():
      prefix = made.save(str(names / "model"), session=running)
  saved = Checkpoint(prefix)
  assert "v" not in saved
  assert saved.key_of("v") == "weights/.ATTRIBUTES/VARIABLE_VALUE"
  assert saved.key_of("w") is None
  assert values(saved)["v"].tolist() == [1, 2]
  # A graph with a Saver knows its own keys.
  assert "v" not in values(saved, VARIABLES + SAVER)


def test_name_of_two_objects_tells_no_key(tmp_path):
  """Eager code may give one name to variables of two objects."""
  objects = ObjectGraph()
  for name, key in (("v", "a/v"), ("v", "b/v"), ("w", "b/w")):
    objects.nodes.add().attributes.add(full_name=name, checkpoint_key=key)
  stored = {
    "_CHECKPOINTABLE_OBJECT_GRAPH": objects.SerializeToString(),
    "a/v": [1, 2],
    "b/v": [3, 4],
  }
  saved = checkpoint(tmp_path, stored)
  assert saved.key_of("w") == "b/w"
  assert saved.key_of("v") is None
  assert "v" not in values(saved)


# Savers.


def test_keys_and_slices_of_savers():
  assert saver_keys(Graph(text.loads(VARIABLES + SAVER))) == {
    "v": [Saved("key/v", "")],
    "h": [Saved("key/h", "4 2,2")],
  }


@pytest.mark.parametrize(
  "op, first", [("Save", ""), ("SaveSlices", "slices, ")]
)
def test_savers_of_format_v1(op, first):
  slices = 'slices = Const() {value=<string [1] "">}' if first else ""
  graph = Graph(
    text.loads(
      VARIABLES
      + 'prefix = Const() {value=<string "m">}'
      + '  names = Const() {value=<string [1] "k">}   '
      + slices
      + f"  save = {op}(prefix, names, {first}v/read)"
    )
  )
  assert saver_keys(graph) == {"v": [Saved("k", "")]}


def test_variables_of_two_savers_have_two_keys():
  second = (
    SAVER.replace("key/", "k2/")
    .replace(" =", "2 =")
    .replace("(prefix, names, slices,", "(prefix2, names2, slices2,")
  )
  found = saver_keys(Graph(text.loads(VARIABLES + SAVER + second)))
  assert [saved.key for saved in found["v"]] == ["key/v", "k2/v"]


def test_the_own_savers_keys_go_first():
  """Another one may warm-start a part from another model's names."""
  second = (
    SAVER.replace("key/", "k2/")
    .replace(" =", "2 =")
    .replace("(prefix, names, slices,", "(prefix2, names2, slices2,")
  )
  graph = Graph(text.loads(VARIABLES + SAVER + second))
  found = saver_keys(graph, own="save2:0")
  assert [saved.key for saved in found["v"]] == ["k2/v", "key/v"]


def test_a_malformed_saver_saves_what_it_can():
  graph_def = text.loads(VARIABLES + SAVER)
  save = next(node for node in graph_def.node if node.op in ops.SAVES)
  refs = list(save.input)
  save.input[:] = refs[:1]
  assert saver_keys(Graph(graph_def)) == {}
  for op in ("RestoreV2", "Assign"):
    graph_def = text.loads(VARIABLES + RESTORED)
    node = next(node for node in graph_def.node if node.op == op)
    del node.input[1:]
    assert not any(restored_keys(Graph(graph_def)).values())
  graph_def = text.loads(VARIABLES + SAVER)
  save = next(node for node in graph_def.node if node.op in ops.SAVES)
  save.input[:] = refs + refs[-1:] * 3
  whole = saver_keys(Graph(text.loads(VARIABLES + SAVER)))
  assert saver_keys(Graph(graph_def)) == whole


RESTORED = """
  prefix = Const() {value=<string "other">}
  names = Const() {value=<string [2] "base/a" "base/v">}
  slices = Const() {value=<string [2] "" "">}
  restore = RestoreV2(prefix, names, slices) {dtypes=(float, float)}
  value = Identity(restore:1)   init = Assign(v, value)
"""


def test_keys_that_the_graph_restores_from(tmp_path):
  """They count where the checkpoint has no key that is the variable's own."""
  graph = Graph(text.loads(VARIABLES + RESTORED))
  assert restored_keys(graph) == {"v": [Saved("base/v", "")]}
  own = checkpoint(tmp_path, {"v": [1, 2], "base/v": [3, 4]}, "own.ckpt")
  assert Values(own, graph).find("v") == Saved("v", "")
  other = checkpoint(tmp_path, {"base/v": [3, 4]}, "other.ckpt")
  np.testing.assert_array_equal(Values(other, graph)["v"], [3, 4])


@pytest.mark.parametrize("scopes", [("net/", "base/"), ("base/", "net/")])
def test_scopes_are_mapped_either_way(tmp_path, scopes):
  graph = Graph(text.loads("net/v = VariableV2() {shape=[2]}"))
  found = checkpoint(tmp_path, {"base/v": [3, 4], "net/w": [1, 2]})
  assert "net/v" not in Values(found, graph)
  there = Values(found, graph, scopes=(scopes,))
  np.testing.assert_array_equal(there["net/v"], [3, 4])


def test_mapped_key_goes_before_the_own_one(tmp_path):
  graph = Graph(text.loads("v = VariableV2() {shape=[2]}"))
  found = checkpoint(tmp_path, {"v": [1, 2], "base/v": [3, 4]})
  there = Values(found, graph, scopes=(("", "base/"),))
  assert there.find("v") == Saved("base/v", "")
  there = Values(found, graph, scopes=(("other/", "base/"),))
  assert there.find("v") == Saved("v", "")


@pytest.mark.parametrize(
  "names, keys, scopes",
  [
    (["a/v", "a/w"], ["b/v", "b/w"], ("a/", "b/")),
    (["a/v", "a/w"], ["v", "w"], ("a/", "")),
    (["v", "w"], ["x/y/v", "x/y/w", "z/v"], ("", "x/y/")),
    (["a/v", "a/w"], ["b/v", "c/w"], None),
    (["a/v"], ["bv"], None),
    (["a/b/v", "a/c/w"], ["d/b/v", "d/c/w"], ("a/", "d/")),
  ],
)
def test_scopes_between_names_and_keys(names, keys, scopes):
  assert scopes_between(names, keys) == scopes
