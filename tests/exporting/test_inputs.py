# SPDX-License-Identifier: Apache-2.0
"""Graphs that read their input by themselves, and what is fed instead."""

import numpy as np
import pytest
from judges.transforming import answers

import bnexport
from bnexport import text
from bnexport.errors import TransformError

QUEUE = """
  q = FIFOQueueV2() {component_types=(float, int32, float)}
  n = Const() {value=<int32 6>}
  batch = QueueDequeueManyV2(q, n) {component_types=(float, int32, float)}
  two = Const() {value=<float 2>}
  w = Mul(batch:2, two)   y = Add(batch, w)
"""
A, B = np.float32([[1], [2]]), np.float32([[3], [5]])


def opened(inputs=()):
  return bnexport.load(text.loads(QUEUE), outputs=["y"], inputs=inputs)


def test_all_tensors_that_are_read_are_named():
  with pytest.raises(TransformError) as refused:
    bnexport.export(opened())
  assert "pass --input_node=batch:0,batch:2 to feed it" in str(refused.value)


@pytest.mark.parametrize(
  "inputs", [["batch:0", "batch:2"], ["batch:2", "batch:0"]]
)
def test_outputs_of_one_node_are_fed_in_any_order(inputs):
  made = bnexport.export(opened(inputs))
  names = [str(ref) for ref in made.model.inputs]
  assert sorted(names) == ["batch", "batch_2"]
  feeds = {"batch": A, "batch_2": B}
  assert np.allclose(answers(made.model, feeds)[0], A + 2 * B)


def test_one_of_two_is_not_enough():
  with pytest.raises(TransformError) as refused:
    bnexport.export(opened(["batch"]))
  assert "'batch' is a QueueDequeueManyV2" in str(refused.value)
  assert "pass --input_node=batch,batch:2 to feed it" in str(refused.value)
