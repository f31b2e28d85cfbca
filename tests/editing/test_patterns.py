# SPDX-License-Identifier: Apache-2.0
"""Patterns: what is found, what is not, and why not."""

import pytest
from judges.counting import assert_linear

from bnexport import text
from bnexport.editing import patterns, pieces
from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef

NORM = """
  x = Placeholder()   m = Const() {value=<float 1>}
  v = Const() {value=<float 2>}   e = Const() {value=<float 0.001>}
  g = Const() {value=<float 3>}   b = Const() {value=<float 4>}
  bn/add = Add(v, e)   bn/rsqrt = Rsqrt(bn/add)   bn/mul = Mul(bn/rsqrt, g)
  bn/mul_1 = Mul(x, bn/mul)   bn/mul_2 = Mul(m, bn/mul)
  bn/sub = Sub(b, bn/mul_2)   bn/add_1 = Add(bn/mul_1, bn/sub)
"""
FORMULA = """
  inv = Mul(Rsqrt(Add|AddV2(variance, epsilon)), gamma)
  y = Add|AddV2(Mul(x, inv), Sub(beta, Mul(mean, inv)))
"""


def graph_of(statements=NORM):
  return Graph(text.loads(statements))


def found(statements, pattern):
  """Tensors by name of each match, as text."""
  return [
    {name: str(ref) for name, ref in match.tensors.items()}
    for match in patterns.find(graph_of(statements), pattern)
  ]


def test_formula():
  (match,) = patterns.find(graph_of(), FORMULA)
  assert match.root == "bn/add_1"
  assert {name: str(ref) for name, ref in match.tensors.items()} == {
    "x": "x",
    "mean": "m",
    "variance": "v",
    "epsilon": "e",
    "gamma": "g",
    "beta": "b",
    "inv": "bn/mul",
    "y": "bn/add_1",
  }
  assert match["beta"] == TensorRef("b")
  assert sorted(match.nodes) == [
    "bn/add",
    "bn/add_1",
    "bn/mul",
    "bn/mul_1",
    "bn/mul_2",
    "bn/rsqrt",
    "bn/sub",
  ]


def test_formula_can_be_replaced():
  graph = graph_of()
  (match,) = patterns.find(graph, FORMULA)
  pieces.splice(
    graph,
    "z = Sub(x, mean)   w = Mul(z, inv)  y = Add(w, beta)",
    match.tensors,
    {match.root: "y"},
    "new",
  )
  graph.remove([n for n in match.nodes if n not in graph.ancestors(["new/y"])])
  assert "bn/add_1" not in graph and "bn/mul" in graph
  graph.lint()


SMALL = "a = Placeholder()   b = Placeholder()   s = %s   y = Neg(s)"


@pytest.mark.parametrize(
  "node, pattern, count",
  [
    ("Add(a, b)", "s = Add(p, q)", 1),
    ("Add(a, b)", "s = Add(p, p)", 0),
    ("Add(a, a)", "s = Add(p, p)", 1),
    ("Add(a, b)", "s = AddV2|Add(p, q)", 1),
    ("Add(a, b)", "s = *(p, q)", 1),
    ("Add(a, b)", "s = *(p)", 0),
    ("Add(a, b)", "s = Add(p)", 0),
    ("Add(a, b)", "s = Add(p, q, r)", 0),
    ("Add(a, b)", "s = Add(...)", 1),
    ("AddN(a, b, a)", "s = AddN(p, ...)", 1),
    ("AddN(a, b, a)", "s = AddN(p, q)", 0),
    ("Add(a, b, ^a)", "s = Add(p, q)", 1),
    ("Sub(a, b)", "y = Neg(Sub(p, q))", 1),
    ("Sub(a, b)", "y = Neg(Sub(p, q))   s = Neg(y)", 0),
    ("Sub(a, b) {T=double}", "s = Sub(p, q) {T=double}", 1),
    ("Sub(a, b)", "s = Sub(p, q) {T=double}", 0),
    ("Split(a, b) {num_split=2}", "y = Neg(Split(p, q))", 1),
    ("Split(a, b) {num_split=2}", "y = Neg(n:1)   n = Split(p, q)", 0),
    ("Const() {value=<float [2] 1 1>}", "s = Const() {value=<float [2] 1>}", 1),
    ("Const() {value=<float [2] 1 2>}", "s = Const() {value=<float [2] 1>}", 0),
    ("Const() {value=<float 1>}", "y = Neg(Const() {value=<float 1>})", 1),
    ("Mean(a, b)", "s = Mean(p, q) {keep_dims=false}", 1),
    ("Mean(a, b)", "s = Mean(p, q) {keep_dims=true}", 0),
    ("MaxPool(a) {strides=[1,2,2,1]}", "s = MaxPool(p) {strides=[1,2,2,1]}", 1),
    ("MaxPool(a) {strides=[1,2,2,1]}", "s = MaxPool(p) {strides=[1,2,1,1]}", 0),
  ],
)
def test_small_patterns(node, pattern, count):
  matches = found(SMALL % node, pattern)
  assert len([m for m in matches if m.get("s") != "y"]) == count


def test_second_output_of_a_node():
  statements = """
    a = Placeholder()   d = Const() {value=<int32 0>}
    s = Split(d, a) {num_split=2}   y = Sub(s:1, s)"""
  assert len(found(statements, "y = Sub(n:1, n)   n = Split(d, a)")) == 1
  assert found(statements, "y = Sub(n, n:1)   n = Split(d, a)") == []
  assert found(statements, "y = Sub(p, q)")[0]["p"] == "s:1"


@pytest.mark.parametrize(
  "first, second", [("Mul(x, k)", "Neg(k)"), ("Mul(k, x)", "Neg(k)")]
)
def test_commutative_inputs_are_tried_both_ways(first, second):
  """What k is shows only later."""
  statements = """x = Placeholder()   k = Placeholder()
    m = %s   n = %s   y = Sub(m, n)""" % (first, second)
  (match,) = found(statements, "y = Sub(Mul(p, q), Neg(q))")
  assert match["p"] == "x" and match["q"] == "k"


def test_order_counts_where_it_does():
  statements = "a = Placeholder()   b = Neg(a)   y = Sub(a, b)"
  assert found(statements, "y = Sub(p, Neg(p))")
  assert not found(statements, "y = Sub(Neg(p), p)")


def test_within_and_several_matches():
  graph = graph_of()
  assert [m.root for m in patterns.find(graph, "y = Mul(p, q)")] == [
    "bn/mul",
    "bn/mul_1",
    "bn/mul_2",
  ]
  assert [
    m.root for m in patterns.find(graph, "y = Mul(p, q)", within="bn/mul_1")
  ] == ["bn/mul_1"]


def test_near_miss_tells_where_and_why():
  graph = graph_of(NORM.replace("Rsqrt", "Sqrt"))
  assert patterns.find(graph, FORMULA) == []
  misses = patterns.near_misses(graph, FORMULA)
  assert str(misses[0]) == (
    "at 'bn/add_1' 3 of 7 nodes match: input 0 of 'bn/mul' is 'bn/rsqrt' "
    "(Sqrt), not Rsqrt"
  )
  assert misses[0].matched >= misses[-1].matched
  assert len(patterns.near_misses(graph, FORMULA, most=1)) == 1


@pytest.mark.parametrize(
  "pattern, fact",
  [
    ("y = Sub(Neg(p), q)", "input 0 of 'y' is 'a' (Placeholder), not Neg"),
    (
      "y = Sub(p, p)",
      "input 1 of 'y' is 'b' (Placeholder), not 'p' as elsewhere",
    ),
    ("y = Sub(p)", "'y' (Sub), not one of 1 inputs"),
    ("y = Sub(p, q) {T=half}", "'y' (Sub), not one with {T=half}"),
  ],
)
def test_facts(pattern, fact):
  graph = graph_of("a = Placeholder()  b = Placeholder()  y = Sub(a, b)")
  (miss,) = patterns.near_misses(graph, pattern)
  assert miss.fact == fact


def test_no_near_misses_where_it_matches_or_has_no_root():
  graph = graph_of()
  assert patterns.near_misses(graph, FORMULA, within="bn/add_1") == []
  assert patterns.near_misses(graph, "y = Conv2D(x, w)") == []


@pytest.mark.parametrize(
  "pattern, words",
  [
    ("y = ", "line 1, column 5 is its end; write an op"),
    ("y = Add(a b)", "column 11 is 'b'; write ','"),
    ("y = Add(a, b)  y = Neg(a)", "another name than 'y'"),
    ("y = Add(a, b)\nz = Neg(a)", "one root"),
    ("", "one root"),
    ("y = Add(a:1, b)", "what 'a' is"),
    ("y = Add(a, b) {T=float", "write '}'"),
    ("y = Neg(y)", "one root"),
  ],
)
def test_patterns_that_are_none(pattern, words):
  with pytest.raises(GraphError) as raised:
    patterns.find(graph_of(), pattern)
  assert str(raised.value).startswith("cannot read the pattern: ")
  assert words in str(raised.value)


def test_cost_is_linear():
  def prepare(count):
    graph = graph_of(
      "a0 = Placeholder()\n"
      + "\n".join("a%d = Add(a%d, a0)" % (i + 1, i) for i in range(count))
    )

    def work():
      assert len(patterns.find(graph, "y = Add(Add(x, a), b)")) == count - 1

    return work

  assert_linear(prepare, 200, 1000)
