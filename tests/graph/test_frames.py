# SPDX-License-Identifier: Apache-2.0
"""Loops are told apart, and named apart, by their frames."""

from judges.counting import assert_linear

from bnexport import text
from bnexport.graph import Graph
from bnexport.graph.frames import separate_frames, shared_frames


def loop(scope, reads, frame="f"):
  """A loop whose value is that of what it reads, and is left at once."""
  return f"""
    {scope}a = Enter({reads}) {{frame_name="{frame}"}}
    {scope}b = Merge({scope}a, {scope}n)   {scope}p = Less({scope}b, {scope}b)
    {scope}l = LoopCond({scope}p)   {scope}s = Switch({scope}b, {scope}l)
    {scope}n = NextIteration({scope}s:1)   {scope}y = Exit({scope}s)
  """


X = "x = Placeholder() {shape=[]}"
ROW = X + loop("u/", "x") + loop("v/", "u/y") + loop("w/", "v/y", "g")
# Two loops within one turn of a third, and their own frames all alike.
NEST = (
  X
  + """
  a = Enter(x) {frame_name="f"}   b = Merge(a, n)   p = Less(b, b)
  l = LoopCond(p)   s = Switch(b, l)   n = NextIteration(v/y)   y = Exit(s)
  """
  + loop("u/", "s:1")
  + loop("v/", "u/y")
)


def graph_of(statements):
  return Graph(text.loads(statements))


def frames(graph):
  return {
    node.name: node.attr["frame_name"].s.decode()
    for node in graph
    if node.op == "Enter"
  }


def test_loops_of_one_name_are_found():
  assert shared_frames(graph_of(ROW)) == [[["u/a"], ["v/a"]]]


def test_loops_within_a_loop_share_with_each_other_alone():
  """The outer one has the same name, and is another place."""
  assert shared_frames(graph_of(NEST)) == [[["u/a"], ["v/a"]]]


def test_loops_within_those_that_share_keep_their_frames():
  inner = NEST.split("n = ")[0] + "n = NextIteration(u/y)   y = Exit(s)\n"
  graph = graph_of(inner + loop("u/", "s:1", "g") + loop("v/", "y"))
  assert shared_frames(graph) == [[["a"], ["v/a"]]]
  assert separate_frames(graph) == {"v/a": "f_1"}
  assert frames(graph) == {"a": "f", "u/a": "g", "v/a": "f_1"}


def test_conditions_that_are_in_no_loop_share_nothing():
  statements = "%s = Placeholder() {dtype=bool}   l%s = LoopCond(%s)\n"
  graph = graph_of("".join(statements % (a, a, a) for a in "xy"))
  assert shared_frames(graph) == []


def test_all_that_enters_a_loop_is_of_its_frame():
  graph = graph_of(
    ROW.replace("v/p = Less(v/b, v/b)", "v/p = Less(v/b, v/k)")
    + 'v/k = Enter(x) {frame_name="f", is_constant=true}'
  )
  (((first,), second),) = shared_frames(graph)
  assert first == "u/a" and set(second) == {"v/a", "v/k"}
  assert separate_frames(graph) == {second[0]: "f_1"}
  assert frames(graph) == {"u/a": "f", "v/a": "f_1", "v/k": "f_1", "w/a": "g"}
  assert shared_frames(graph) == []


def test_one_loop_has_nothing_to_share():
  for statements in (X + loop("u/", "x"), "x = Placeholder()   y = Neg(x)"):
    graph = graph_of(statements)
    assert shared_frames(graph) == [] and separate_frames(graph) == {}


def test_names_that_are_taken_are_not_given():
  graph = graph_of(ROW + loop("z/", "w/y", "f_1"))
  assert separate_frames(graph) == {"v/a": "f_2"}


def test_loops_of_some_nodes_get_other_names():
  graph = graph_of(ROW)
  assert separate_frames(graph, ["u/a"], "net") == {"u/a": "net/f"}
  assert frames(graph) == {"u/a": "net/f", "v/a": "f", "w/a": "g"}
  graph = graph_of(ROW)
  assert separate_frames(graph, ["w/a"]) == {}


def test_cost_is_linear():
  def work(count):
    parts = [loop(f"l{i}/", f"l{i - 1}/y" if i else "x") for i in range(count)]
    graph = graph_of(X + "".join(parts))
    return lambda: separate_frames(graph)

  assert_linear(work, 10, 40)
