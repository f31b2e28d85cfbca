# SPDX-License-Identifier: Apache-2.0
"""Which part of a variable is written or read, and how."""

import pytest
from judges.norms import graph_of

from bnexport.graph import TensorRef
from bnexport.graph.writes import (
  are_apart,
  part_key,
  part_read,
  write_of,
  written_variable,
)

TEXT = """
v = VariableV2() {shape=[4,2]}
h = VarHandleOp() {shape=[4,2], dtype=float, shared_name="h"}
t = Placeholder() {dtype=int32, shape=[]}
s = Placeholder() {dtype=int32, shape=[]}
one = Const() {value=<int32 [1] 1>}
two = Const() {value=<int32 [1] 2>}
three = Const() {value=<int32 [1] 3>}
last = Const() {value=<int32 [1] -1>}
d = Const() {value=<float [2] 1 2>}
f = Const() {value=<float [1,2] 1 2>}
axis = Const() {value=<int32 0>}
packed = Pack(t)
other = Pack(s)
wide = ExpandDims(t, axis)
both = Pack(t, s)
"""


def graph(text):
  return graph_of(TEXT + text)


@pytest.mark.parametrize(
  "update, change, value, is_whole",
  [
    ("Assign(v, d)", "Update", "d", True),
    ("AssignAddVariableOp(h, d)", "Add", "d", True),
    ("AssignSub(v, d)", "Sub", "d", True),
    ("ScatterMul(v, two, f)", "Mul", "f", False),
    ("ResourceScatterNdUpdate(h, packed, d)", "Update", "d", False),
    ("StridedSliceAssign(v, one, two, one, f)", "Update", "f", False),
  ],
)
def test_write(update, change, value, is_whole):
  write = write_of(graph(f"u = {update}"), "u")
  assert (write.change, write.value) == (change, TensorRef(value))
  assert (write.part is None) == is_whole


def test_variable_behind_another_update():
  text = "a = Assign(v, d)   i = Identity(a)   u = AssignAdd(a, d)"
  assert written_variable(graph(text), "u") == "v"


SHRUNK = "{shrink_axis_mask=1}"


@pytest.mark.parametrize(
  "write, read",
  [
    ("ScatterUpdate(v, two, f)", "Gather(v, two)"),
    ("ScatterUpdate(v, two, f)", f"StridedSlice(v, two, three, one) {SHRUNK}"),
    ("ScatterUpdate(v, two, f)", "StridedSlice(v, two, three, one)"),
    ("ScatterAdd(v, t, d)", f"StridedSlice(v, packed, three, one) {SHRUNK}"),
    ("ScatterAdd(v, packed, f)", "GatherV2(v, t, axis)"),
    ("ScatterSub(v, wide, f)", "Gather(v, packed)"),
    ("ResourceScatterUpdate(h, t, d)", "ResourceGather(h, t)"),
    ("ScatterNdAdd(v, packed, d)", "GatherNd(v, packed)"),
    ("ScatterNdAdd(v, both, d)", "GatherNd(v, both)"),
    (
      f"StridedSliceAssign(v, packed, other, one, d) {SHRUNK}",
      "Gather(v, t)",
    ),
    (
      "StridedSliceAssign(v, packed, other, one, d)",
      "StridedSlice(v, packed, other, one)",
    ),
  ],
)
def test_same_part(write, read):
  made = graph(f"u = {write}   r = {read}")
  key = part_key(made, write_of(made, "u").part)
  assert key == part_key(made, part_read(made, "r"))


@pytest.mark.parametrize(
  "write, read",
  [
    ("ScatterUpdate(v, two, f)", "Gather(v, three)"),
    ("ScatterUpdate(v, t, d)", "Gather(v, s)"),
    ("ScatterNdUpdate(v, both, d)", "Gather(v, both)"),
    (
      "ScatterUpdate(v, two, f)",
      "StridedSlice(v, two, three, one) {end_mask=1}",
    ),
    (
      "ScatterUpdate(v, two, f)",
      "StridedSlice(v, two, three, one) {new_axis_mask=1}",
    ),
  ],
)
def test_other_part(write, read):
  made = graph(f"u = {write}   r = {read}")
  key = part_key(made, write_of(made, "u").part)
  assert key != part_key(made, part_read(made, "r"))


@pytest.mark.parametrize(
  "read",
  [
    "Neg(v)",
    "GatherV2(v, t, one)",
    "GatherV2(v, t, last)",
    "GatherV2(v, wide, axis) {batch_dims=1}",
    "ResourceGather(h, wide) {batch_dims=1}",
  ],
)
def test_what_reads_no_rows(read):
  assert part_read(graph(f"r = {read}"), "r") is None


@pytest.mark.parametrize(
  "a, b, apart",
  [
    ("two", "three", True),
    ("two", "two", False),
    ("two", "t", False),
    ("two", "last", False),  # which may be the same row
  ],
)
def test_apart(a, b, apart):
  made = graph(f"a = ScatterAdd(v, {a}, f)   b = ScatterAdd(v, {b}, f)")
  parts = [write_of(made, name).part for name in "ab"]
  assert are_apart(made, *parts) == apart
  assert not are_apart(made, parts[0], None)
