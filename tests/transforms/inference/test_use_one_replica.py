# SPDX-License-Identifier: Apache-2.0
"""Ops that join the replicas of a TPU are what they are for one of them."""

import pytest
from judges.transforming import answers, model_of, spelled

from bnexport.errors import TransformError
from bnexport.transforms.inference.use_one_replica import UseOneReplica

X = "x = Placeholder() {shape=[2]}   z = Placeholder() {shape=[2]}"
FEED = {"x": [3.0, 4]}


def applied(statements, outputs=("y",)):
  model = model_of(X + statements, outputs)
  UseOneReplica().apply(model)
  model.graph.lint()
  return model


def test_sum_over_the_replicas_of_a_group():
  model = applied("""
    g = Const() {value=<int32 [2,4] 0 1 2 3 4 5 6 7>}
    y = CrossReplicaSum(x, g) {T=float}
  """)
  assert (answers(model, FEED)[0] == [12, 16]).all()


def test_first_programs_for_tpus_state_no_groups():
  model = applied("""
    m = TPUReplicateMetadata() {num_replicas=2}
    y = CrossReplicaSum(x, ^m) {T=float}
  """)
  assert (answers(model, FEED)[0] == [6, 8]).all()
  assert model.graph.op("m") == "NoOp"


def test_outputs_of_all_replicas_are_those_of_one():
  statements = "o = TPUReplicatedOutput(x) {T=float, num_replicas=2}"
  model = applied(statements + "y = Neg(o:1)")
  assert spelled(model.graph, "y") == "Neg(o)"
  model = applied(statements, ("o:1",))
  assert (answers(model, FEED)[0] == [3, 4]).all()


def test_inputs_of_all_replicas_have_to_be_the_same():
  model = applied("y = TPUReplicatedInput(x, x) {T=float, N=2}")
  assert (answers(model, FEED)[0] == [3, 4]).all()
  with pytest.raises(TransformError) as refused:
    applied("y = TPUReplicatedInput(x, z) {T=float, N=2}")
  assert "--input_node=y" in str(refused.value)


def test_variables_may_be_mirrored():
  model = applied("""
    v = VarHandleOp() {shape=[2], dtype=float, shared_name="v"}
    w = VarHandleOp() {shape=[2], dtype=float, shared_name="w"}
    h = TPUReplicatedInput(v, w) {T=resource, N=2}
    y = ReadVariableOp(h) {dtype=float}
  """)
  assert spelled(model.graph, "h") == "Identity(v)"
