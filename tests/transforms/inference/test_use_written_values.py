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
  assert spelled(model.graph, "r") == "Add(v, d, ^u)"


def test_read_that_waits_for_a_group_with_the_update():
  model, _ = applied(
    V + "u = AssignAdd(v, d)   g = NoOp(^u)   r = Identity(v, ^g)   y = Neg(r)"
  )
  assert spelled(model.graph, "r") == "Add(v, d, ^g)"


@pytest.mark.parametrize(
  "update, written",
  [
    ("AssignVariableOp", "Identity(d, ^u)"),
    ("AssignSubVariableOp", "Sub(h/Read/ReadVariableOp, d, ^u)"),
  ],
)
def test_handles_are_read_where_the_old_value_is_needed(update, written):
  model, _ = applied(
    H + f"u = {update}(h, d)   r = ReadVariableOp(h, ^u)   y = Neg(r)"
  )
  assert spelled(model.graph, "r") == written


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
  assert spelled(model.graph, "s") == "Add(w, d, ^a)"
  assert spelled(model.graph, "r") == "Add(v, s, ^u)"
  assert len(told) == 4  # what is behind an update is read no more, and changed


def test_update_beside_the_outputs_has_no_part():
  model, told = applied(V + "u = AssignAdd(v, d)   y = Neg(v, ^u)")
  assert told == [] and model.graph.op("u") == "AssignAdd"


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
