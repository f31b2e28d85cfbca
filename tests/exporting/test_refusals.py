# SPDX-License-Identifier: Apache-2.0
"""Rewritten graphs that are no inference graphs, and inputs that are gone."""

import pytest
from judges.transforming import model_of

from bnexport.batchnorm.forms import find
from bnexport.errors import TransformError
from bnexport.exporting import inputs, refusals

ROWS = "up = ScatterSub(v, i, u)   v = VariableV2()   i = Const()   u = Const()"


def test_what_updates_a_variable_is_no_inference():
  model = model_of("y = AssignAdd(v, x)   v = VariableV2()   x = Placeholder()")
  with pytest.raises(TransformError, match="'y': it updates a variable"):
    refusals.refuse_training(model)
  model.initializers = ("y",)
  refusals.refuse_training(model)


@pytest.mark.parametrize(
  "unaveraged, update, is_refused",
  [
    (("norm",), ROWS, True),
    ((), ROWS, False),
    (("norm",), "up = AssignSub(v, u)   v = VariableV2()   u = Const()", False),
  ],
)
def test_rows_of_a_variable_may_be_averages(unaveraged, update, is_refused):
  original, model = (
    model_of("y = Placeholder()" + update),
    model_of("y = NoOp()"),
  )
  model.decisions.unaveraged = unaveraged
  if is_refused:
    with pytest.raises(TransformError, match="'up' .ScatterSub. writes rows"):
      refusals.refuse_partial_writes(original, model)
  else:
    refusals.refuse_partial_writes(original, model)


def test_a_graph_that_reads_its_own_input_is_refused():
  model = model_of(
    "y = Relu(next)   next = IteratorGetNext(it)   it = Iterator()"
  )
  with pytest.raises(TransformError, match="--input_node=next:0 to feed"):
    inputs.settle(model)


@pytest.mark.parametrize(
  "named, other, is_refused",
  [
    ((), "Placeholder()", False),
    (("x",), "Placeholder()", True),
    (("x", "t"), "Placeholder()", False),
    (("x",), "PlaceholderWithDefault(c)", False),
  ],
)
def test_a_list_of_inputs_covers_all(named, other, is_refused):
  text = f"y = Add(x, t)   x = Placeholder()   c = Const()   t = {other}"
  model = model_of(text, inputs=named)
  if is_refused:
    with pytest.raises(TransformError, match="the outputs also need 't'"):
      inputs.settle(model)
  else:
    inputs.settle(model)


def lose(after, named=(), decided=()):
  """Notes the inputs that are gone; returns what was said, and the doubts."""
  original = model_of(
    "y = Add(x, t)   x = Placeholder()   t = Placeholder()", inputs=named
  )
  model = model_of(after)
  model.decisions.values = dict.fromkeys(decided, 1.0)
  inputs.name_lost(original, model)
  return list(map(str, model.history)), list(map(str, model.warnings))


def test_an_input_that_is_gone_is_told():
  said, doubts = lose("y = Relu(x)   x = Placeholder()")
  assert said == ["'t' is no input any more: no answer depends on it now"]
  assert not doubts
  # What a user has named is worth a warning.
  assert lose("y = Relu(x)   x = Placeholder()", ("x", "t"))[1] == said


def test_an_input_that_was_decided_is_not_spoken_of():
  assert lose("y = Relu(x)   x = Placeholder()", (), ("t",)) == ([], [])


def test_some_input_has_to_be_left():
  with pytest.raises(TransformError, match="no longer depend on"):
    lose("y = Relu(c)   c = Const()")
  lose("y = Relu(c)   c = Const()", (), ("x", "t"))


FUSED = """
x = Placeholder() {shape=[?,2,2,3]}   none = Const() {value=<float [0]>}
g = Const() {value=<float [3] 1 2 3>}
y = FusedBatchNorm(x, g, g, none, none) {is_training=true}
"""


@pytest.mark.parametrize(
  "keep, unaveraged, names",
  [((), (), ("y",)), (("y",), (), ()), (("other",), (), ("y",))],
)
def test_norms_that_use_the_batch_where_nobody_asked(keep, unaveraged, names):
  model = model_of(FUSED)
  norms = find(model.graph, model.outputs)
  assert tuple(refusals.unaveraged(model, norms, keep)) == names
  if names:
    with pytest.raises(TransformError, match="--keep_batch_statistics=y"):
      refusals.refuse_frozen(model, norms, keep)
  else:
    refusals.refuse_frozen(model, norms, keep)
