# SPDX-License-Identifier: Apache-2.0
"""What folding writes into a graph, and what it takes away."""

import numpy as np
import pytest
from judges.transforming import (
  answers,
  assert_same_answers,
  clone,
  model_of,
  spelled,
)

from bnexport.graph import TensorRef
from bnexport.graph.nodes import DEFERRED, constant_value, deferred_attrs
from bnexport.transforms import table

BASE = """
  x = Placeholder() {shape=[?,3,3,2]}
  k = Const() {value=<float [1,1,2,2] 1 2 3 4>}   s = Const() {value=<float [2] 2 5>}
  t = Const() {value=<float [2] 1 -1>}   none = Const() {value=<float [2] 0 0>}
"""
CONV = " {strides=(1, 1, 1, 1), padding=SAME}   "
FEED = {"x": np.arange(18, dtype="f").reshape(1, 3, 3, 2)}


def folded(statements, outputs=("y",), inputs=("x",)):
  """The Graph after folding, which answers as before."""
  model = model_of(BASE + statements, outputs, inputs)
  before = answers(clone(model), FEED)
  table.apply_specs(model, "fold_batch_norms")
  assert_same_answers(answers(model, FEED), before)
  return model.graph


def kernel(graph, name):
  return constant_value(graph, TensorRef(name)).reshape(2, 2).tolist()


SCALED = [[2, 10], [6, 20]]


def test_kernel_of_one_reader_is_written_over():
  graph = folded(f"c = Conv2D(x, k){CONV}y = Mul(c, s)")
  assert spelled(graph, "y") == "Conv2D(x, k)"
  assert kernel(graph, "k") == SCALED
  assert "c" not in graph and "s" not in graph


def test_kernel_behind_identities_is_written_over():
  graph = folded(f"r = Identity(k)   c = Conv2D(x, r){CONV}y = Mul(c, s)")
  assert spelled(graph, "y") == "Conv2D(x, r)"
  assert kernel(graph, "k") == SCALED


def test_kernel_that_others_read_is_copied():
  graph = folded(
    f"c = Conv2D(x, k){CONV}o = Conv2D(x, k){CONV}m = Mul(c, s)   y = Sub(m, o)"
  )
  assert kernel(graph, "k") == [[1, 2], [3, 4]]
  assert spelled(graph, "o") == "Conv2D(x, k)"
  (copy,) = [ref.node for ref in graph.inputs("m") if ref.node != "x"]
  assert kernel(graph, copy) == SCALED


def test_kernel_that_two_norms_share_is_two_kernels():
  graph = folded(
    f"c = Conv2D(x, k){CONV}n = Abs(x)   d = Conv2D(n, k){CONV}"
    "a = Mul(c, s)   b = Mul(d, t)   y = Sub(a, b)"
  )
  kernels = [kernel(graph, graph.inputs(name)[1].node) for name in ("a", "b")]
  assert kernels == [SCALED, [[1, -2], [3, -4]]]


def test_kernel_that_is_an_output_stays():
  graph = folded(f"c = Conv2D(x, k){CONV}y = Mul(c, s)", ["y", "k"])
  assert kernel(graph, "k") == [[1, 2], [3, 4]]
  assert kernel(graph, graph.inputs("y")[1].node) == SCALED


def test_shift_is_added_where_the_norm_was():
  graph = folded(f"c = Conv2D(x, k){CONV}m = Mul(c, s)   y = Add(m, t)")
  assert spelled(graph, "y") == "BiasAdd(c, y/bias)"
  assert graph.node("y").attr["data_format"].s == b"NHWC"
  assert "m" not in graph and "t" not in graph
  bias = constant_value(graph, TensorRef("y/bias"))
  assert bias.tolist() == [1, -1]


def test_convolution_that_is_an_output_stays():
  graph = folded(f"c = Conv2D(x, k){CONV}y = Mul(c, s)", ["y", "c"])
  assert spelled(graph, "y") == "Mul(c, s)"
  assert kernel(graph, "k") == [[1, 2], [3, 4]]


def test_who_waited_for_a_norm_waits_still():
  graph = folded(
    f"w = NoOp()   c = Conv2D(x, k){CONV}y = Mul(c, s, ^w)   z = Abs(x, ^y)"
  )
  assert spelled(graph, "y") == "Conv2D(x, k, ^w)"
  assert spelled(graph, "z") == "Abs(x, ^y)"


def test_who_asks_for_the_shape_of_what_goes_asks_what_is_left():
  graph = folded(
    f"c = Conv2D(x, k){CONV}m = Mul(c, s)   y = Add(m, t)   q = Shape(m)"
    "  w = Shape(c)",
    ["y", "q", "w"],
  )
  assert spelled(graph, "q") == spelled(graph, "w") == "Shape(c)"


def test_constants_that_others_read_stay():
  graph = folded(
    f"c = Conv2D(x, k){CONV}m = Mul(c, s)   y = Add(m, s)   z = Neg(s)",
    ["y", "z"],
  )
  assert spelled(graph, "z") == "Neg(s)" and "s" in graph


def test_norm_in_front_goes_into_the_convolution_behind():
  graph = folded(f"m = Mul(x, s)   a = Add(m, t)   y = Conv2D(a, k){CONV}")
  assert {graph.op(name) for name in graph.names()} == {
    "Placeholder",
    "Const",
    "Conv2D",
    "BiasAdd",
  }
  assert graph.op("y") == "BiasAdd"


@pytest.mark.parametrize(
  "rank, op", [(2, "BiasAdd"), (3, "Add"), (4, "BiasAdd")]
)
def test_shifts_of_other_axes_than_the_last(rank, op):
  """BiasAdd knows the last axis, and the second of four."""
  order = {2: "1 0", 3: "0 2 1", 4: "0 3 1 2"}[rank]
  sizes = {2: "9 2", 3: "1 9 2", 4: "1 3 3 2"}[rank]
  shape = {2: "2,1", 3: "2,1", 4: "2,1,1"}[rank]
  model = model_of(
    BASE
    + f"""
    c = Conv2D(x, k) {{strides=(1, 1, 1, 1), padding=SAME}}
    n = Const() {{value=<int32 [{rank}] {sizes}>}}   r = Reshape(c, n)
    p = Const() {{value=<int32 [{rank}] {order}>}}   u = Transpose(r, p)
    f = Const() {{value=<float [{shape}] 2 5>}}
    g = Const() {{value=<float [{shape}] 1 -1>}}   m = Mul(u, f)   y = Add(m, g)
  """,
    inputs=["x"],
  )
  table.apply_specs(model, "fold_batch_norms")
  assert "m" not in model.graph
  assert model.graph.op("y") == ("Add" if rank == 2 else op)


def test_deferred_kernel_is_scaled_where_it_is_written():
  model = model_of(BASE + f"c = Conv2D(x, k){CONV}y = Mul(c, s)", inputs=["x"])
  value = np.arange(1, 5, dtype="f").reshape(1, 1, 2, 2)
  attrs = deferred_attrs((1, 1, 2, 2), "float32", "key")
  model.graph.become("k", "Const", (), attrs)
  model.deferred["key"] = lambda: value
  table.apply_specs(model, "fold_batch_norms")
  assert spelled(model.graph, "y") == "Conv2D(x, k)"
  assert model.graph.node("k").attr[DEFERRED].s != b"key"
  assert model.array("k").reshape(2, 2).tolist() == SCALED
