# SPDX-License-Identifier: Apache-2.0
"""The loops and the sides of conditionals that nodes are in."""

import pytest
from judges.counting import assert_linear

from bnexport import text
from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef
from bnexport.graph.contexts import Contexts
from bnexport.tf1 import tf1

CONDITIONAL = """
  x = Placeholder() {shape=[2]}   p = Placeholder() {dtype=bool, shape=[]}
  s = Switch(x, p)   a = Neg(s)   b = Relu(s:1)   m = Merge(a, b)   y = Abs(m)
"""
# The second conditional lies in the first one, and reads its predicate there.
NEST = """
  x = Placeholder() {shape=[2]}   p = Placeholder() {dtype=bool, shape=[]}
  q = Placeholder() {dtype=bool, shape=[]}
  s = Switch(x, p)   t = Switch(q, p)   i = Identity(t:1)   u = Switch(s:1, i)
  a = Neg(u)   b = Relu(u:1)   m = Merge(a, b)   c = Abs(s)   n = Merge(c, m)
"""
LOOPS = """
  x = Placeholder() {shape=[]}   k = Const() {value=<float 10>}
  e = Enter(x) {frame_name="outer"}   m = Merge(e, n)   p = Less(m, m)
  l = LoopCond(p)   s = Switch(m, l)   i = Identity(s:1)
  e2 = Enter(i) {frame_name="inner"}   m2 = Merge(e2, n2)   p2 = Less(m2, m2)
  l2 = LoopCond(p2)   s2 = Switch(m2, l2)   i2 = Neg(s2:1)
  n2 = NextIteration(i2)   y2 = Exit(s2)   n = NextIteration(y2)   y = Exit(s)
  z = Relu(y)
"""


def contexts_of(statements):
  graph = Graph(text.loads(statements))
  return graph, Contexts(graph, graph.topological())


def sides(contexts, name):
  return set(contexts.sides(TensorRef.parse(name)))


def test_sides_begin_at_a_switch_and_end_at_the_merge():
  graph, contexts = contexts_of(CONDITIONAL)
  found = {name: sides(contexts, name) for name in graph.names()}
  assert found.pop("s") == found.pop("a") == {("p", False)}
  assert sides(contexts, "s:1") == found.pop("b") == {("p", True)}
  assert not any(found.values())


def test_switch_itself_runs():
  _, contexts = contexts_of(CONDITIONAL)
  assert contexts.is_inside(TensorRef("s"))
  assert not contexts.is_inside(TensorRef("s", control=True))
  assert contexts.is_inside(TensorRef("a", control=True))


def test_predicates_are_named_as_outside():
  _, contexts = contexts_of(NEST)
  assert sides(contexts, "a") == {("p", True), ("q", False)}
  assert sides(contexts, "m") == {("p", True)}
  assert sides(contexts, "n") == set()
  assert sides(contexts, "b") == {("p", True), ("q", True)}
  assert sides(contexts, "c") == {("p", False)}


def test_what_waits_for_a_side_is_on_it():
  _, contexts = contexts_of(
    CONDITIONAL + "  c = Const(^a)  d = Const(^m)  j = Merge(c, b, ^a)"
  )
  assert sides(contexts, "c") == {("p", False)}
  assert sides(contexts, "d") == set()
  assert sides(contexts, "j") == {("p", False)}


def test_frames_nest():
  graph, contexts = contexts_of(LOOPS)
  frames = {name: contexts.frame(name) for name in graph.names()}
  assert frames["e"] == frames["y2"] == frames["n"] == (b"outer",)
  assert frames["i2"] == frames["s2"] == (b"outer", b"inner")
  assert frames["y"] == frames["z"] == frames["x"] == ()
  inside = {n for n in frames if contexts.is_inside(TensorRef(n))}
  assert inside == {name for name in frames if frames[name]}


def test_loop_is_no_conditional_and_may_lie_in_one():
  _, contexts = contexts_of(LOOPS)
  assert sides(contexts, "i2") == set()
  graph = Graph(
    text.loads(
      LOOPS.replace("Enter(x)", "Enter(a)")
      + """
    c = Placeholder() {dtype=bool, shape=[]}   w = Switch(x, c)
    a = Neg(w)   b = Abs(w:1)   j = Merge(z, b)
  """
    )
  )
  contexts = Contexts(graph, graph.topological())
  assert sides(contexts, "i2") == sides(contexts, "z") == {("c", False)}
  assert sides(contexts, "j") == set()


def test_carrying_into_a_frame_enters_its_loops():
  graph, contexts = contexts_of(LOOPS)
  carried = contexts.carry(TensorRef("k"), tf1.float32, contexts.frame("i2"))
  inner = graph.node(carried.node)
  outer = graph.node(inner.input[0])
  assert outer.input[0] == "k"
  assert [n.attr["frame_name"].s for n in (outer, inner)] == [
    b"outer",
    b"inner",
  ]
  assert inner.attr["is_constant"].b
  assert contexts.carry(TensorRef("k"), tf1.float32, ()) == TensorRef("k")


def test_other_inputs_are_other_contexts():
  """As where a predicate is decided: the Switch hands on what it reads."""
  graph, _ = contexts_of(CONDITIONAL)

  def decided(name):
    refs = graph.inputs(name)
    return [TensorRef("x") if ref.node == "s" else ref for ref in refs]

  contexts = Contexts(graph, graph.topological(), decided)
  assert not any(contexts.is_inside(TensorRef(name)) for name in "abmy")


def nest(depth):
  """Conditionals in each other; the predicate goes through all of them."""
  statements = """
    x0 = Placeholder() {shape=[]}   p0 = Placeholder() {dtype=bool, shape=[]}
  """
  for i in range(depth):
    statements += f"""
      s{i} = Switch(x{i}, p{i})   x{i + 1} = Neg(s{i}:1)
      t{i} = Switch(p{i}, p{i})   p{i + 1} = Identity(t{i}:1)
    """
  for i in reversed(range(depth)):
    last = f"m{i + 1}" if i + 1 < depth else f"x{depth}"
    statements += f"  m{i} = Merge(s{i}, {last})\n"
  graph = Graph(text.loads(statements))
  order = graph.topological()
  return lambda: Contexts(graph, order)


def test_cost_is_linear_in_nests():
  assert_linear(nest, 10, 80)


def nested(depth):
  """Loops that are entered, one in another."""
  graph = text.loads("x = Placeholder() {shape=[]}")
  last = "x"
  for i in range(depth):
    node = graph.node.add(op="Enter", name=f"e{i}", input=[last])
    node.attr["frame_name"].s = b"f%d" % i
    last = node.name
  return Graph(graph)


def test_loops_too_deep_to_be_a_models_are_refused():
  graph = nested(256)
  assert len(Contexts(graph, graph.topological()).frame("e255")) == 256
  graph = nested(257)
  with pytest.raises(GraphError, match="'e256'.*more than 256"):
    Contexts(graph, graph.topological())
