# SPDX-License-Identifier: Apache-2.0
"""Variables are read by value, whatever handed their references on."""

import numpy as np
import pytest
from judges.transforming import answers, checkpoint, model_of, spelled

from bnexport.errors import TransformError
from bnexport.transforms.inference.read_variables import ReadVariables

REF = "v = VariableV2() {shape=[3]}   p = Const() {value=<bool true>}"
HANDLE = """
  h = VarHandleOp() {shape=[3,2], dtype=float, shared_name="h"}
  p = Const() {value=<bool true>}
"""


def applied(statements, saved=None):
  model = model_of(statements, saved=saved)
  ReadVariables().apply(model)
  model.graph.lint()
  return model.graph


@pytest.mark.parametrize(
  "statements, changed",
  [
    ("s = RefSwitch(v, p)   y = Relu(s)", "Switch(v/read, p)"),
    ('s = RefEnter(v) {frame_name="f"}   y = Relu(s)', "Enter(v/read)"),
    ("s = RefIdentity(v)   y = Relu(s)", "Identity(v/read)"),
  ],
)
def test_references_are_handed_on_as_values(statements, changed):
  graph = applied(REF + statements)
  assert spelled(graph, "s") == changed
  assert spelled(graph, "v/read") == "Identity(v)"


def test_chain_of_references_is_read_once():
  graph = applied(
    REF + "s = RefSwitch(v, p)   m = RefMerge(s, s:1)   y = Relu(m)"
  )
  assert spelled(graph, "m") == "Merge(s, s:1)"
  assert [r for r in graph.readers("v")] == ["v/read"]


def test_plain_reads_stay():
  statements = REF + "i = Identity(v)   y = Relu(i)"
  assert spelled(applied(statements), "i") == "Identity(v)"
  statements = HANDLE + "r = ReadVariableOp(h)   y = Relu(r)"
  assert spelled(applied(statements), "r") == "ReadVariableOp(h)"


def test_handles_are_switched_as_values():
  graph = applied(
    HANDLE + "s = Switch(h, p)   r = ReadVariableOp(s:1)   y = Relu(r)"
  )
  assert spelled(graph, "s") == "Switch(h/Read/ReadVariableOp, p)"
  assert spelled(graph, "r") == "Identity(s:1)"


GATHERS = {
  "rows": ("i = Const() {value=<int32 [2] 2 0>}   y = ResourceGather(h, i)"),
  "batches": """
    i = Const() {value=<int32 [3,1] 1 0 1>}
    y = ResourceGather(h, i) {batch_dims=1}
  """,
  "elements": """
    i = Const() {value=<int32 [2,2] 2 1 0 0>}   y = ResourceGatherNd(h, i)
  """,
  "shape": "y = VariableShape(h)",
}


@pytest.mark.parametrize("how", GATHERS)
def test_what_takes_a_handle_takes_the_value(tmp_path, how):
  saved = checkpoint(tmp_path, {"h": [[1, 2], [3, 4], [5, 6]]})
  model = model_of(HANDLE + GATHERS[how], saved=saved)
  (before,) = answers(model)
  ReadVariables().apply(model)
  assert "h" not in [r.node for r in model.graph.inputs("y")]
  (after,) = answers(model)
  assert after.dtype == before.dtype
  np.testing.assert_array_equal(after, before)


def test_other_uses_of_a_handle_are_refused():
  with pytest.raises(TransformError, match="'h'.*VarIsInitializedOp.*'y'"):
    applied(HANDLE + "y = VarIsInitializedOp(h)")


def test_handles_of_tables_stay():
  graph = applied("""
    t = HashTableV2() {key_dtype=string, value_dtype=int64}
    k = Placeholder() {dtype=string}   d = Const() {value=<int64 0>}
    y = LookupTableFindV2(t, k, d)
  """)
  assert spelled(graph, "y") == "LookupTableFindV2(t, k, d)"
