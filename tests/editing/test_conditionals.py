# SPDX-License-Identifier: Apache-2.0
"""Branches of a conditional that both run."""

from judges.transforming import spelled

from bnexport import text
from bnexport.editing.conditionals import open_branches
from bnexport.graph import Graph
from bnexport.graph.contexts import Contexts

BOTH = """
  x = Placeholder()   p = Placeholder() {dtype=bool}   i = Identity(p)
  s = Switch(x, i)   pin = Switch(i, i)   on = Identity(pin:1)
  off = Identity(pin)   c = Const(^on) {value=<float 2>}
  t = Mul(s:1, c)   f = Neg(s, ^off)   m = Merge(f, t)
"""


def opened(statements, predicate="p"):
  graph = Graph(text.loads(statements))
  open_branches(graph, predicate, Contexts(graph, graph.topological()))
  graph.lint()
  return graph


def test_branches_read_what_is_outside():
  graph = opened(BOTH)
  assert spelled(graph, "t") == "Mul(x, c)" and spelled(graph, "f") == "Neg(x)"
  assert graph.inputs("c") == []
  assert spelled(graph, "m") == "Merge(f, t)"
  assert not set(graph.ancestors(["m"])) & {"p", "i", "s", "pin"}


def test_other_conditionals_stay():
  graph = opened(
    BOTH + "q = Placeholder() {dtype=bool}   o = Switch(x, q)   y = Neg(o:1)"
  )
  assert spelled(graph, "y") == "Neg(o:1)"
  assert spelled(graph, "o") == "Switch(x, q)"


def test_constant_in_a_loop_waits_for_the_loop():
  graph = opened("""
    x = Placeholder()   p = Placeholder() {dtype=bool}
    ex = Enter(x) {frame_name="f"}
    ep = Enter(p) {frame_name="f", is_constant=true}
    h = Merge(ex, n)   l = Less(h, h)   c = LoopCond(l)   sh = Switch(h, c)
    b = Identity(sh:1)   s = Switch(b, ep)   pin = Switch(ep, ep)
    on = Identity(pin:1)   k = Const(^on) {value=<float 2>}
    t = Mul(s:1, k)   m = Merge(s, t)   n = NextIteration(m)   y = Exit(sh)
  """)
  assert [str(ref) for ref in graph.inputs("k")] == ["^b"]
  assert spelled(graph, "t") == "Mul(b, k)"
