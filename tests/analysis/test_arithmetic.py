# SPDX-License-Identifier: Apache-2.0
"""What the table says ops compute is what TensorFlow computes."""

import numpy as np
import pytest

from bnexport import text
from bnexport.analysis import arithmetic
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import constant_value
from bnexport.tf1 import session, tf1

A = "<float [2,3] 0.5 1 2 -1.5 3 0.25>"
POSITIVE = "<float [2,3] 0.5 1 2 1.5 3 0.25>"
B = "<float [3] 2 -1 0.5>"
INTS, DIVISORS = "<int32 [2,3] 7 -7 6 0 1 -5>", "<int32 [3] 2 3 -4>"
BOOLS, OTHERS = "<bool [3] true false true>", "<bool [3] true false false>"
STRINGS = ('<string [2] "a" "b">', '<string [2] "a" "c">')
ZERO = "<float [3] 2 0 0.5>"

UNARY = """
  Abs Ceil Floor Inv Neg OnesLike Reciprocal Relu Round Sigmoid Square ZerosLike
"""
OF_POSITIVE = "Exp Expm1 Log Log1p Rsqrt Sqrt"
BINARY = """
  Add AddN AddV2 Div Equal Greater GreaterEqual Less LessEqual Maximum Minimum
  Mul NotEqual RealDiv SquaredDifference Sub
"""
# Op, values of its operands, attributes.
CASES = [
  *((op, (A,), "") for op in UNARY.split()),
  *((op, (POSITIVE,), "") for op in OF_POSITIVE.split()),
  *((op, (A, B if op != "AddN" else A), "") for op in BINARY.split()),
  ("Pow", (POSITIVE, B), ""),
  ("DivNoNan", (A, ZERO), ""),
  *((op, (INTS, DIVISORS), "") for op in ("FloorDiv", "FloorMod", "Sub")),
  *((op, (A, B), "") for op in ("FloorDiv", "FloorMod")),
  *((op, (BOOLS, OTHERS), "") for op in ("LogicalAnd", "LogicalOr")),
  ("LogicalNot", (BOOLS,), ""),
  *((op, STRINGS, "") for op in ("Equal", "NotEqual")),
  ("Cast", (A,), "{DstT=int32}"),
  ("Cast", (BOOLS,), "{DstT=float}"),
  *(
    (op, (A, axes), f"{{keep_dims={keep}}}")
    for op in arithmetic.REDUCTIONS
    for axes, keep in (
      ("<int32 1>", "true"),
      ("<int32 [2] 0 -1>", "false"),
      ("<int32 [0]>", "false"),
    )
  ),
  ("ConcatV2", (A, POSITIVE, "<int32 -1>"), ""),
  ("ExpandDims", (A, "<int32 -1>"), ""),
  ("ExpandDims", (A, "<int32 [1] 0>"), ""),
  ("Gather", (A, "<int32 [3] 1 0 1>"), ""),
  ("GatherV2", (A, "<int32 2>", "<int32 1>"), ""),
  *(
    (op, ("<bool [2,3] true false true true false false>", A, POSITIVE), "")
    for op in ("Select", "SelectV2")
  ),
  ("Fill", ("<int32 [2] 2 3>", "<float 1.5>"), ""),
  ("Pack", (A, POSITIVE), "{axis=1}"),
  ("Reshape", (A, "<int32 [2] 3 -1>"), ""),
  ("Squeeze", ("<float [1,2,1] 3 4>",), ""),
  ("Squeeze", ("<float [1,2,1] 3 4>",), "{squeeze_dims=[-1]}"),
  ("Transpose", (A, "<int32 [2] 1 0>"), ""),
  *(
    ("StridedSlice", (A, *(f"<int32 [{n}] {v}>" for v in vectors)), masks)
    for n, vectors, masks in (
      (2, ("0 1", "2 3", "1 2"), ""),
      (2, ("-1 0", "0 0", "1 1"), "{shrink_axis_mask=1, end_mask=2}"),
      (2, ("1 2", "0 0", "-1 -1"), "{end_mask=3}"),
      (2, ("0 1", "0 2", "1 1"), "{ellipsis_mask=1}"),
      (2, ("0 1", "0 2", "1 1"), "{new_axis_mask=1}"),
    )
  ),
]


def label(case):
  return case if isinstance(case, str) else None


@pytest.mark.parametrize("op, values, attributes", CASES, ids=label)
def test_table_is_what_tensorflow_computes(op, values, attributes):
  statements = "".join(
    f"c{i} = Const() {{value={value}}}\n" for i, value in enumerate(values)
  )
  names = [f"c{i}" for i in range(len(values))]
  statements += f"y = {op}({', '.join(names)}) {attributes}"
  graph = Graph(text.loads(statements))
  with session(graph.to_tf_graph()) as run:
    expected = run.run("y:0")
  operands = [constant_value(graph, TensorRef(name)) for name in names]
  found = arithmetic.compute(graph.node("y"), operands)
  assert np.shape(found) == np.shape(expected)
  if np.asarray(expected).dtype.kind == "f":
    assert np.allclose(found, expected, rtol=1e-6)
  else:
    assert (np.asarray(found) == expected).all()


def test_all_ops_are_tested():
  tested = {op for op, _, _ in CASES}
  assert tested == arithmetic.select(" ".join(tested))
  assert tested == set(arithmetic._ELEMENTWISE) | set(arithmetic._BY_ATTRIBUTES)


def test_unknown_ops_are_not_selected():
  with pytest.raises(AssertionError, match="Conv2D"):
    arithmetic.select("Add Conv2D")
  assert arithmetic.select("Add Mul") == {"Add", "Mul"}


def test_division_by_zero_is_silent():
  node = Graph(text.loads("a = Placeholder()  y = RealDiv(a, a)")).node("y")
  with np.errstate(all="raise"):
    found = arithmetic.compute(node, [np.float32([1, 0]), np.float32([0, 0])])
  assert found[0] == np.inf and np.isnan(found[1])


@pytest.mark.parametrize(
  "op, operands",
  [
    ("Add", ([1, 2, 3, 4], [1, 2, 3])),
    ("Reshape", ([1, 2, 3], [2, 2])),
    ("Transpose", ([[1, 2]], [0, 2])),
    ("GatherV2", ([1, 2], 5, 0)),
    ("Mean", ([1.0, 2.0], 7)),
    ("ConcatV2", ([[1]], [1], 0)),
  ],
)
def test_operands_that_do_not_fit_have_no_value(op, operands):
  """Files of any content come here, before TensorFlow has seen them."""
  names = ", ".join("c" for _ in operands)
  node = Graph(text.loads(f"c = Placeholder()  y = {op}({names})")).node("y")
  assert arithmetic.compute(node, [np.asarray(o) for o in operands]) is None


@pytest.mark.parametrize(
  "op", [*f"{UNARY} {OF_POSITIVE} {BINARY} Cast DivNoNan Pow".split()]
)
def test_scalars_keep_their_kind(op):
  many = op in f"{BINARY} DivNoNan Pow".split()
  graph = Graph(
    text.loads(f"a = Placeholder()   y = {op}({'a, a' if many else 'a'})")
  )
  operands = [np.float32(2)] * (1 + many)
  found = arithmetic.compute(graph.node("y"), operands)
  assert isinstance(found, (np.float32, np.bool_))


@pytest.mark.parametrize(
  "op, shapes, most",
  [
    ("Mul", [(5, 1), (7,)], 35),
    ("Mul", [(5, 7), (7,)], 42),  # an operand is counted, too
    ("AddN", [(9,), (9,), (9,)], 27),
    ("ConcatV2", [(9,), (8,), ()], 18),
    ("Sqrt", [(0, 3)], 0),
  ],
)
def test_elements_are_bounded_before_any_is_made(op, shapes, most):
  operands = [np.ones(shape) for shape in shapes]
  assert arithmetic.most_elements(tf1.NodeDef(op=op), operands) == most


def test_stated_sizes_bound_elements():
  operands = [np.int32([65536, 65536]), np.float32(1)]
  assert arithmetic.most_elements(tf1.NodeDef(op="Fill"), operands) == 2.0**32
