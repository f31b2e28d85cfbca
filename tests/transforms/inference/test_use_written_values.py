# SPDX-License-Identifier: Apache-2.0
"""Updates on the way to the outputs become what they would write."""

import pytest
from judges.transforming import answers as run
from judges.transforming import checkpoint, model_of, spelled

from bnexport.errors import TransformError
from bnexport.transforms.inference.use_written_values import UseWrittenValues

V = "v = VariableV2() {shape=[2]}   d = Const() {value=<float [2] 1 2>}"
H = """
  h = VarHandleOp() {shape=[2], dtype=float, shared_name="h"}
  d = Const() {value=<float [2] 1 2>}
"""


def applied(statements, averages=(), saved=None):
  model = model_of(statements, saved=saved)
  model.decisions.averages = frozenset(averages)
  told = UseWrittenValues().apply(model)
  model.graph.lint()
  return model, told


@pytest.mark.parametrize(
  "update, written",
  [
    ("Assign", "Identity(d)"),
    ("AssignAdd", "Add(v, d)"),
    ("AssignSub", "Sub(v, d)"),
  ],
)
def test_update_is_the_value_that_it_would_write(tmp_path, update, written):
  statements = V + f"u = {update}(v, d)   y = Neg(u)"
  saved = checkpoint(tmp_path, {"v": [5, 7]})
  (before,) = run(model_of(statements, saved=saved))
  model, (told,) = applied(statements, saved=saved)
  assert spelled(model.graph, "u") == written
  assert told == "'u' is the value that the update of 'v' would write"
  (after,) = run(model)
  assert (after == before).all()


def test_read_that_waits_for_an_update_is_the_update():
  model, _ = applied(
    V + "u = AssignAdd(v, d)   r = Identity(v, ^u)   y = Neg(r)"
  )
  assert spelled(model.graph, "y") == "Neg(u)"
  assert spelled(model.graph, "u") == "Add(v, d)"


def test_read_that_waits_for_a_group_with_the_update():
  model, _ = applied(
    V + "u = AssignAdd(v, d)   g = NoOp(^u)   r = Identity(v, ^g)   y = Neg(r)"
  )
  assert spelled(model.graph, "y") == "Neg(u)"


@pytest.mark.parametrize(
  "update, written",
  [
    ("AssignVariableOp", "Identity(d)"),
    ("AssignSubVariableOp", "Sub(h/Read/ReadVariableOp, d)"),
  ],
)
def test_handles_are_read_where_the_old_value_is_needed(update, written):
  model, _ = applied(
    H + f"u = {update}(h, d)   r = ReadVariableOp(h, ^u)   y = Neg(r)"
  )
  assert spelled(model.graph, "r") == "Identity(u, ^u)"
  assert spelled(model.graph, "u") == written


@pytest.mark.parametrize(
  "read",
  [
    "r = Identity(v)",  # which waits for nothing
    "w = VariableV2() {shape=[2]}   r = Identity(w, ^u)",  # of another one
    "n = Neg(v)   r = Identity(n, ^u)",  # of a value
  ],
)
def test_other_reads_stay(read):
  statements = V + f"u = AssignAdd(v, d)   {read}   y = Neg(r)"
  model, told = applied(statements)
  assert told == []
  assert spelled(model.graph, "r") == spelled(model_of(statements).graph, "r")


def test_averages_stay_as_they_are_stored():
  statements = V + "u = AssignSub(v, d)   y = Neg(u)"
  model, (told,) = applied(statements, averages=["v"])
  assert spelled(model.graph, "u") == "Identity(v)"
  assert told == "'u' is the stored average 'v'"


def test_update_that_needs_another_update():
  model, told = applied(
    V
    + """
    w = VariableV2() {shape=[2]}   a = AssignAdd(w, d)   s = Identity(w, ^a)
    u = AssignAdd(v, s)   r = Identity(v, ^u)   y = Neg(r)
  """
  )
  assert spelled(model.graph, "a") == "Add(w, d)"
  assert spelled(model.graph, "u") == "Add(v, a)"
  assert len(told) == 2


def test_update_beside_the_outputs_has_no_part():
  model, told = applied(V + "u = AssignAdd(v, d)   y = Neg(d, ^u)")
  assert told == [] and model.graph.op("u") == "AssignAdd"


SHAPE = "shape = Const() {value=<int32 [2] 1 2>}"


@pytest.mark.parametrize(
  "reads",
  [
    "y = Neg(v, ^u)",
    "r = Identity(v)   y = Neg(r, ^u)",  # the same memory
    "r = Identity(v)   s = Identity(r, ^u)   y = Neg(s)",
    "n = Neg(d, ^u)   y = Add(v, n)",  # waits by its data
    f"{SHAPE}   r = Reshape(v, shape)   n = Neg(d, ^u)   y = Add(r, n)",
    "y = Neg(u)   ",
    "g = NoOp(^u)   i = Identity(d, ^g)   s = Identity(v, ^i)   y = Neg(s)",
  ],
)
def test_what_comes_after_an_update_reads_what_it_wrote(tmp_path, reads):
  saved = checkpoint(tmp_path, {"v": [50, 70]})
  statements = V + "u = AssignAdd(v, d)   " + reads
  (before,) = run(model_of(statements, saved=saved))
  model, told = applied(statements, saved=saved)
  (after,) = run(model)
  assert (before == after).all() and len(told) == 1
  assert model.graph.op("u") == "Add"


def test_update_that_only_one_branch_runs(tmp_path):
  saved = checkpoint(tmp_path, {"v": [50, 70]})
  for phase, right in (("true", [-51, -72]), ("false", [-50, -70])):
    model, _ = applied(
      f"""{V}   p = Const() {{value=<bool {phase}>}}
      s = RefSwitch(v, p)   e = Switch(d, p)   u = AssignAdd(s:1, e:1)
      w = Identity(s)   m = Merge(w, u)   y = Neg(m)""",
      saved=saved,
    )
    assert model.graph.op("u") == "Add"
    assert run(model)[0].tolist() == right


def test_update_that_a_branch_may_run_is_refused_outside():
  with pytest.raises(TransformError, match="'u' writes 'v' in a branch"):
    applied(
      f"""{V}   p = Placeholder() {{dtype=bool}}   e = Switch(d, p)
      u = AssignAdd(v, e:1)   k = Const(^u) {{value=<float 1>}}
      z = Switch(d, p)   m = Merge(k, z)   n = Add(m, v)   y = Neg(n)"""
    )


TABLE = "t = VariableV2() {shape=[4,2]}   "
NEW = "new = Const() {value=<float [1,2] 5 7>}   "
ROW = "i = Const() {value=<int32 [1] 2>}   "
TWICE = """i = Const() {value=<int32 [2] 2 2>}
  new = Const() {value=<float [2,2] 5 7 5 7>}   """
POINT = """i = Const() {value=<int32 [1,2] 2 1>}
  new = Const() {value=<float [1] 5>}   """
SLICE = """i = Const() {value=<int32 [1] 1>}   e = Const() {value=<int32 [1] 3>}
  one = Const() {value=<int32 [1] 1>}
  new = Const() {value=<float [2,2] 5 7 8 9>}   """


@pytest.mark.parametrize(
  "update",
  [NEW + ROW + f"u = Scatter{c}(t, i, new)" for c in ("Update", "Add", "Sub")]
  + [NEW + ROW + f"u = Scatter{c}(t, i, new)" for c in ("Mul", "Div")]
  + [NEW + ROW + f"u = Scatter{c}(t, i, new)" for c in ("Max", "Min")]
  + [TWICE + f"u = Scatter{c}(t, i, new)" for c in ("Update", "Add")]
  + [POINT + f"u = ScatterNd{c}(t, i, new)" for c in ("Update", "Add", "Sub")]
  + ["zero = Const() {value=<float 0>}" + ROW + "u = ScatterUpdate(t, i, zero)"]
  + [SLICE + "u = StridedSliceAssign(t, i, e, one, new)"],
)
def test_part_that_is_written(tmp_path, update):
  saved = checkpoint(tmp_path, {"t": [[1, 2], [3, 4], [6, 6], [9, 8]]})
  statements = TABLE + update + "   y = Neg(t, ^u)"
  (before,) = run(model_of(statements, saved=saved))
  model, _ = applied(statements, saved=saved)
  (after,) = run(model)
  assert (before == after).all()
  assert model.graph.op("u") in ("Add", "Sub", "Select")


RESOURCE = 'h = VarHandleOp() {shape=[4,2], dtype=float, shared_name="h"}   '


@pytest.mark.parametrize(
  "update, reads",
  [
    (NEW + ROW + "u = ResourceScatterAdd(h, i, new)", "ReadVariableOp(h, ^u)"),
    (POINT + "u = ResourceScatterNdUpdate(h, i, new)", "ReadVariableOp(h, ^u)"),
    (NEW + ROW + "u = ResourceScatterUpdate(h, i, new)", "G"),
    (
      SLICE + "u = ResourceStridedSliceAssign(h, i, e, one, new)",
      "ReadVariableOp(h, ^u)",
    ),
  ],
)
def test_part_that_is_written_by_its_handle(tmp_path, update, reads):
  saved = checkpoint(tmp_path, {"h": [[1, 2], [3, 4], [6, 6], [9, 8]]})
  if reads == "G":
    reads = "ResourceGather(h, i, ^u)"
  statements = (
    RESOURCE + update + f"   r = {reads} {{dtype=float}}   y = Neg(r)"
  )
  (before,) = run(model_of(statements, saved=saved))
  model, _ = applied(statements, saved=saved)
  (after,) = run(model)
  assert (before == after).all()


def test_row_that_may_be_multiplied_twice_is_refused():
  with pytest.raises(TransformError, match="may change one row of 't' several"):
    applied(TABLE + TWICE + "u = ScatterMul(t, i, new)   y = Neg(u)")


@pytest.mark.parametrize("start", [V, H])
def test_writes_in_a_row_are_followed(start, tmp_path):
  """The second starts from what the first wrote, not from what is stored."""
  add, assign, name = "AssignAdd", "Assign", "v"
  read = "r = Identity(v, ^b)"
  if start is H:
    add, assign, name = "AssignAddVariableOp", "AssignVariableOp", "h"
    read = "r = ReadVariableOp(h, ^b) {dtype=float}"
  statements = f"""{start}   two = Const() {{value=<float [2] 2 2>}}
    a = {assign}({name}, d)   b = {add}({name}, two, ^a)   {read}   y = Neg(r)
  """
  saved = checkpoint(tmp_path, {name: [50, 70]})
  (before,) = run(model_of(statements, saved=saved))
  model, _ = applied(statements, saved=saved)
  (after,) = run(model)
  assert after.tolist() == before.tolist() == [-3, -4]


def test_writes_in_no_order_are_refused():
  with pytest.raises(TransformError, match="'a' and 'b' both write 'v'"):
    applied(
      V
      + "a = Assign(v, d)   b = AssignAdd(v, d)   r = Identity(v, ^a, ^b)"
      + "   y = Neg(r)"
    )


def test_an_update_of_a_constant_is_refused():
  with pytest.raises(TransformError, match="writes to 'c', which is no variab"):
    applied(
      V + "c = Const() {value=<float [2] 1 2>} u = Assign(c, d) y = Neg(u)"
    )
