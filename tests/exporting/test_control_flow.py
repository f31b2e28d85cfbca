# SPDX-License-Identifier: Apache-2.0
"""Conditionals and loops that an export leaves as they are."""

import numpy as np
import pytest
from judges.exporting import assert_answers
from judges.opening import trained
from judges.transforming import answers, checkpoint, model_of

import bnexport
from bnexport.exporting import control_flow

FUNCTIONS = """
  function scaled(a float, w resource) -> (y float = m:z:0) {
    r = ReadVariableOp(w) {dtype=float}   m = Mul(a, r:value:0)
  }
  function shifted(a float, w resource) -> (y float = m:z:0) {
    r = ReadVariableOp(w) {dtype=float}   m = Add(a, r:value:0)
  }
  function row(a float, w resource) -> (y float = m:z:0) {
    i = Const() {value=<int32 0>}
    r = ResourceGather(w, i:output:0) {dtype=float, Tindices=int32}
    m = Mul(a, r:output:0)
  }
  function goes(n int32, a float, w resource) -> (k bool = l:z:0) {
    three = Const() {value=<int32 3>}   l = Less(n, three:output:0)
  }
  function step(n int32, a float, w resource)
    -> (k int32 = p:z:0, y float = m:z:0, v resource = w) {
    one = Const() {value=<int32 1>}   p = Add(n, one:output:0)
    r = ReadVariableOp(w) {dtype=float}   m = Mul(a, r:value:0)
  }
  function chosen(n int32, a float, w resource)
    -> (k int32 = p:z:0, y float = c:output:0, v resource = w) {
    one = Const() {value=<int32 1>}   p = Add(n, one:output:0)
    l = Less(n, one:output:0)
    c = If(l:z:0, a, w) {Tcond=bool, Tin=(float, resource), Tout=(float,),
      then_branch=scaled{}, else_branch=shifted{}}
  }
  function drawn(a float, w resource) -> (y float = m:z:0) {
    s = Shape(a)   r = RandomUniform(s:output:0) {dtype=float, T=int32}
    m = Mul(a, r:output:0)
  }
  function written(a float, w resource) -> (y float = m:z:0) {
    u = AssignVariableOp(w, a) {dtype=float}   m = Neg(a, ^u)
  }
  function untouched(a float, w resource) -> (y float = m:y:0) { m = Neg(a) }
"""
HEAD = """
  x = Placeholder() {shape=[2]}
  w = VarHandleOp() {dtype=float, shape=[2], shared_name="w"}
  zero = Const() {value=<float 0>}   all = Const() {value=<int32 0>}
  sum = Sum(x, all)   p = Greater(sum, zero)   i = Cast(p) {SrcT=bool,DstT=int32}
"""
IF = """
  y = If(%s, x, w) {Tcond=bool, Tin=(float, resource), Tout=(float,),
    then_branch=%s{}, else_branch=%s{}}
"""
CASE = """
  y = Case(i, x, w) {Tin=(float, resource), Tout=(float,),
    branches=(scaled{}, shifted{})}
"""
WHILE = """
  l = While(all, x, w) {T=(int32, float, resource), cond=goes{}, body=%s{}}
  y = Identity(l:1)   gone = Identity(l:2)
"""
W, UP, DOWN = np.float32([2, 5]), np.float32([3, 1]), np.float32([-3, 1])


def exported(tmp_path, graph):
  saved = checkpoint(tmp_path, {"w": W})
  model = model_of(HEAD + graph + FUNCTIONS, inputs=("x",), saved=saved)
  return bnexport.export(model, bnexport.Options(keep_control_flow=True))


@pytest.mark.parametrize(
  "graph, op, up, down",
  [
    (IF % ("p", "scaled", "shifted"), "If", UP * W, DOWN + W),
    (IF % ("p", "shifted", "untouched"), "If", UP + W, -DOWN),
    (CASE, "Case", UP + W, DOWN * W),
    (WHILE % "step", "While", UP * W**3, DOWN * W**3),
    (WHILE % "chosen", "While", UP * W + 2 * W, DOWN * W + 2 * W),
  ],
)
def test_it_stays_and_reads_constants(tmp_path, graph, op, up, down):
  made = exported(tmp_path, graph)
  ops = {node.op for node in made.model.graph}
  assert op in ops
  assert not ops & {"VarHandleOp", "Switch", "Enter"}
  for fed, right in ((UP, up), (DOWN, down)):
    assert np.allclose(answers(made.model, {"x": fed})[0], right)
  assert made.prove().holds


@pytest.mark.parametrize(
  "graph",
  [
    # What the phase decides, what draws and what writes.
    "q = Placeholder() {dtype=bool, shape=[]}"
    + IF % ("q", "scaled", "shifted"),
    "q = VariableV2() {dtype=bool, shape=[]}" + IF % ("q", "scaled", "shifted"),
    IF % ("p", "scaled", "drawn"),
    IF % ("p", "scaled", "written"),
    # A handle is read behind the loop.
    WHILE % "step" + "r = ReadVariableOp(gone) {dtype=float} z = Add(y, r)",
  ],
)
def test_what_may_be_training_is_inlined(graph):
  outputs = ["z"] if "z = " in graph else ["y"]
  model = model_of(HEAD + graph + FUNCTIONS, outputs, ("x",))
  before = {node.name: str(node) for node in model.graph}
  assert control_flow.keep(model) == ()
  assert {node.name: str(node) for node in model.graph} == before


def test_without_the_option_every_tf1_reads_it(tmp_path):
  saved = checkpoint(tmp_path, {"w": W})
  graph = HEAD + IF % ("p", "scaled", "shifted") + FUNCTIONS
  made = bnexport.export(model_of(graph, inputs=("x",), saved=saved))
  assert {"Switch", "Merge"} <= {node.op for node in made.model.graph}


@pytest.mark.parametrize(
  "name",
  [
    "dropout_layers_if",
    "flow_data_cond_v2",
    "flow_if_contrib_inplace",
    "flow_if_fused",
    "flow_switch_case_v2",
    "function_case_by_data",
    "function_case_by_phase",
    "function_cond_in_while",
    "loop_while_v2_literal",
    "loop_while_v2_phase",
  ],
)
def test_models_answer_as_ever(cases, name):
  case = cases(name)
  model = trained(case.prefix, [case.output])
  made = bnexport.export(
    model, bnexport.Options(keep_control_flow=True, settings=case.set)
  )
  assert_answers(case, made)
  assert made.prove().holds
