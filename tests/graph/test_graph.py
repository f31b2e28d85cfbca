# SPDX-License-Identifier: Apache-2.0
"""Graph: verbs that keep the index true, or change nothing."""

import os

import pytest
from google.protobuf import text_format
from judges.commands import run_process
from judges.counting import assert_linear, lines
from judges.graphs import assert_sound

from bnexport.errors import GraphError, nearest
from bnexport.graph import Graph, TensorRef
from bnexport.tf1 import tf1

DIAMOND = [
  ("a", "Placeholder", []),
  ("b", "Relu", ["a"]),
  ("c", "Split", ["a", "^b"]),
  ("d", "Add", ["b", "c:1"]),
  ("e", "Add", ["d", "d", "^a"]),
]
LOOP = [
  ("start", "Const", []),
  ("enter", "Enter", ["start"]),
  ("merge", "Merge", ["enter", "next"]),
  ("test", "Less", ["merge", "limit"]),
  ("limit", "Enter", ["start"]),
  ("cond", "LoopCond", ["test"]),
  ("switch", "Switch", ["merge", "cond"]),
  ("body", "Add", ["switch:1", "limit"]),
  ("next", "NextIteration", ["body"]),
  ("exit", "Exit", ["switch"]),
]


def graph_def(nodes):
  made = tf1.GraphDef()
  for name, op, inputs in nodes:
    made.node.add(name=name, op=op, input=inputs)
  return made


def graph_of(nodes):
  return Graph(graph_def(nodes))


@pytest.fixture
def graph():
  return graph_of(DIAMOND)


def assert_unchanged(graph, before):
  assert graph.to_graph_def() == before
  assert_sound(graph)


@pytest.mark.parametrize(
  "text, ref",
  [
    ("a", ("a", 0, False)),
    ("a:0", ("a", 0, False)),
    ("a:12", ("a", 12, False)),
    ("^a", ("a", 0, True)),
    ("scope/a:1", ("scope/a", 1, False)),
  ],
)
def test_tensor_ref(text, ref):
  parsed = TensorRef.parse(text)
  assert tuple(parsed) == ref
  assert TensorRef.parse(str(parsed)) == parsed


def test_tensor_ref_text_is_what_graph_defs_write():
  assert [str(TensorRef.parse(t)) for t in ("a:0", "a:1", "^a")] == [
    "a",
    "a:1",
    "^a",
  ]


def test_looking(graph):
  assert len(graph) == 5
  assert "c" in graph and "c:1" not in graph
  assert graph.op("c") == "Split"
  assert graph.inputs("c") == [TensorRef("a"), TensorRef("b", 0, True)]
  assert graph.data_inputs("c") == [TensorRef("a")]
  assert graph.control_inputs("c") == [TensorRef("b", 0, True)]
  assert set(graph.readers("a")) == {"b", "c", "e"}
  assert graph.readers_of(TensorRef("a")) == ["b", "c"]
  assert graph.readers_of(TensorRef("c", 1)) == ["d"]
  assert graph.readers_of(TensorRef("c")) == []
  assert_sound(graph)


def test_unknown_node(graph):
  graph.add("Relu", "hidden/logits", ["a"])
  with pytest.raises(GraphError) as raised:
    graph.node("logit")
  assert "cannot find node 'logit'" in str(raised.value)
  assert "did you mean 'hidden/logits'?" in str(raised.value)


@pytest.mark.parametrize(
  "nodes, word",
  [
    ([("a", "NoOp", []), ("a", "NoOp", [])], "two nodes"),
    ([("a", "NoOp", ["b"])], "'b'"),
    ([("a", "NoOp", ["^b"])], "'b'"),
  ],
)
def test_graphs_that_are_none(nodes, word):
  with pytest.raises(GraphError) as raised:
    graph_of(nodes)
  assert word in str(raised.value)


def test_source_is_not_touched():
  source = graph_def(DIAMOND)
  before = source.SerializeToString(deterministic=True)
  graph = Graph(source)
  graph.add("Relu", "f", ["e"])
  graph.node("a").op = "Const"
  graph.substitute({TensorRef("d"): TensorRef("b")})
  graph.remove(["f"])
  assert source.SerializeToString(deterministic=True) == before


def test_add(graph):
  attrs = {"T": tf1.AttrValue(type=1)}
  node = graph.add("Add", "f", [TensorRef("e"), "^a", "c:1"], attrs)
  assert node.name == "f"
  assert list(node.input) == ["e", "c:1", "^a"]
  assert node.attr["T"].type == 1
  attrs["T"].type = 2
  assert node.attr["T"].type == 1
  assert graph.readers("e") == ["f"]
  assert_sound(graph)


def test_add_makes_names_unique(graph):
  assert graph.unique_name("z") == "z"
  assert graph.add("Relu", "e", ["a"]).name == "e_1"
  assert graph.add("Relu", "e", ["a"]).name == "e_2"
  assert graph.unique_name("e") == "e_3"
  assert graph.op("e") == "Add"
  assert_sound(graph)


def test_add_of_a_dangling_input_changes_nothing(graph):
  before = graph.to_graph_def()
  with pytest.raises(GraphError):
    graph.add("Add", "f", ["a", "nowhere"])
  assert "f" not in graph
  assert_unchanged(graph, before)


def test_set_inputs(graph):
  graph.set_inputs("e", ["^c", "b", "^c", "a"])
  assert list(graph.node("e").input) == ["b", "a", "^c"]
  assert graph.readers("d") == []
  assert_sound(graph)


def test_set_inputs_of_a_dangling_input_changes_nothing(graph):
  before = graph.to_graph_def()
  for name, inputs in (("e", ["a", "nowhere"]), ("nowhere", ["a"])):
    with pytest.raises(GraphError):
      graph.set_inputs(name, inputs)
  assert_unchanged(graph, before)


def test_set_input(graph):
  graph.set_input("e", 1, TensorRef("c", 2))
  assert list(graph.node("e").input) == ["d", "c:2", "^a"]
  assert graph.readers("d") == ["e"]
  assert_sound(graph)


def test_substitute(graph):
  assert graph.substitute({TensorRef("d"): TensorRef("c", 3)}) == 1
  assert list(graph.node("e").input) == ["c:3", "c:3", "^a"]
  assert graph.readers("d") == []
  assert_sound(graph)


def test_substitute_leaves_control_edges_and_other_outputs(graph):
  assert graph.substitute({TensorRef("b"): TensorRef("a")}) == 1
  assert list(graph.node("c").input) == ["a", "^b"]
  assert graph.substitute({TensorRef("c", 0): TensorRef("a")}) == 0
  assert list(graph.node("d").input) == ["a", "c:1"]
  assert_sound(graph)


def test_substitute_for_some_readers(graph):
  a, b = TensorRef("a"), TensorRef("b")
  assert graph.substitute({a: b}, readers=["c", "c", "d"]) == 1
  assert list(graph.node("c").input) == ["b", "^b"]
  assert list(graph.node("b").input) == ["a"]
  assert_sound(graph)


def test_substitute_at_once(graph):
  b, c = TensorRef("b"), TensorRef("c", 1)
  assert graph.substitute({b: c, c: b}, readers={"d": None}) == 1
  assert list(graph.node("d").input) == ["c:1", "b"]
  assert_sound(graph)


def test_substitute_control_inputs(graph):
  d, waits = TensorRef("d"), [TensorRef(name, 0, True) for name in "abc"]
  assert graph.substitute({d: [TensorRef("b"), waits[2]]}) == 1
  assert list(graph.node("e").input) == ["b", "b", "^c", "^a"]
  assert graph.substitute({waits[0]: waits[1:], waits[1]: []}) == 2
  assert list(graph.node("e").input) == ["b", "b", "^c", "^b"]
  assert list(graph.node("c").input) == ["a"]
  assert_sound(graph)


def test_substitute_whatever_is_read_of_a_node(graph):
  new = graph.add("Split", "new", ["a"]).name
  reads = graph.reads("c")
  assert reads == [TensorRef("c", 1)]
  graph.set_inputs("e", ["c:2", "c", "^c", "^a"])
  reads = graph.reads("c")
  assert [str(ref) for ref in reads] == ["c", "c:1", "c:2", "^c"]
  graph.substitute({ref: ref._replace(node=new) for ref in reads})
  assert list(graph.node("e").input) == ["new:2", "new", "^new", "^a"]
  assert graph.reads("c") == []
  graph.remove(["c"])
  assert_sound(graph)


def test_substituted_only_says_what_would_be(graph):
  before = graph.to_graph_def()
  found = graph.substituted({TensorRef("d"): TensorRef("b")})
  assert found == {"e": [TensorRef("b")] * 2 + [TensorRef("a", 0, True)]}
  assert_unchanged(graph, before)


@pytest.mark.parametrize("new", ["nowhere", ["b", "^nowhere"]])
def test_substitute_of_nowhere_changes_nothing(graph, new):
  before = graph.to_graph_def()
  new = (
    [TensorRef.parse(n) for n in new]
    if isinstance(new, list)
    else TensorRef(new)
  )
  with pytest.raises(GraphError):
    graph.substitute({TensorRef("d"): TensorRef("b"), TensorRef("a"): new})
  assert_unchanged(graph, before)


# Names.


def placed(name, *partners):
  """A node as DIAMOND has them, placed with others."""
  names = [b"loc:@" + partner.encode() for partner in partners]
  return (name, "NoOp", []), {"_class": tf1.AttrValue(list={"s": names})}


def placements(graph):
  return {
    n.name: list(n.attr["_class"].list.s) for n in graph if "_class" in n.attr
  }


def test_rename(graph):
  graph.rename({"a": "z", "c": "a", "d": "d"})
  assert list(graph.node("a").input) == ["z", "^b"]
  assert list(graph.node("d").input) == ["b", "a:1"]
  assert list(graph.node("e").input) == ["d", "d", "^z"]
  assert "c" not in graph
  assert_sound(graph)


@pytest.mark.parametrize(
  "names, word",
  [
    ({"a": "b"}, "taken"),
    ({"a": "z", "b": "z"}, "taken"),
    ({"nowhere": "z"}, "'nowhere'"),
  ],
)
def test_rename_is_all_or_nothing(graph, names, word):
  before = graph.to_graph_def()
  with pytest.raises(GraphError, match=word):
    graph.rename(names)
  assert_unchanged(graph, before)


def test_who_is_placed_with_a_node_follows_its_names():
  graph = Graph(tf1.GraphDef())
  for (name, op, inputs), attrs in (
    placed("a", "b", "a"),
    placed("b", "a"),
    placed("c", "b", "gone"),
  ):
    graph.add(op, name, inputs, attrs)
  graph.rename({"a": "b", "b": "a"})
  assert placements(graph) == {
    "b": [b"loc:@a", b"loc:@b"],
    "a": [b"loc:@b"],
    "c": [b"loc:@a", b"loc:@gone"],
  }
  graph.rename({"a": "z", "c": "y"})
  assert placements(graph) == {
    "b": [b"loc:@z", b"loc:@b"],
    "z": [b"loc:@b"],
    "y": [b"loc:@z", b"loc:@gone"],
  }
  copy = graph.clone()
  copy.rename({"z": "w"})
  assert placements(copy)["y"] == [b"loc:@w"]
  graph.become("y", "NoOp", (), {})
  graph.rename({"z": "x"})
  assert placements(graph) == {"b": [b"loc:@x", b"loc:@b"], "x": [b"loc:@b"]}


def test_nodes_are_placed_with_what_is_there():
  graph = Graph(tf1.GraphDef())
  for (name, op, inputs), attrs in (
    placed("a"),
    placed("b", "a", "c"),
    placed("c", "a"),
  ):
    graph.add(op, name, inputs, attrs)
  graph.remove(["a"])
  before = placements(graph)
  assert before == {"b": [b"loc:@a", b"loc:@c"], "c": [b"loc:@a"]}
  del graph.node("c").attr["_class"]  # in place
  graph.place_with_present()
  assert placements(graph) == {"b": [b"loc:@c"]}
  graph.remove(["c"])
  graph.add("NoOp", "a")
  graph.rename({"a": "d"})
  graph.place("b", {"c": "d"}.get)
  assert placements(graph) == {"b": [b"loc:@d"]}
  graph.rename({"d": "e"})
  assert placements(graph) == {"b": [b"loc:@e"]}


def test_remove(graph):
  graph.remove(["e", "d"])
  assert graph.names() == ["a", "b", "c"]
  assert graph.readers("c") == []
  assert_sound(graph)


@pytest.mark.parametrize(
  "names, word",
  [
    (["e", "c"], "'d' still reads it"),
    (["a"], "still reads it"),
    (["e", "nowhere"], "'nowhere'"),
  ],
)
def test_remove_is_all_or_nothing(graph, names, word):
  before = graph.to_graph_def()
  with pytest.raises(GraphError) as raised:
    graph.remove(names)
  assert word in str(raised.value)
  assert_unchanged(graph, before)


def test_remove_a_loop():
  graph = graph_of(LOOP)
  graph.remove([name for name in graph.names() if name != "start"])
  assert graph.names() == ["start"]
  assert_sound(graph)


def test_nodes_that_were_handed_out_stay_what_they_are(graph):
  d, e = graph.node("d"), graph.node("e")
  e.attr["kept"].i = 3
  graph.add("Relu", "f", ["a"])
  graph.remove(["e"])
  graph.rename({"d": "z"})
  d.attr["seen"].i = 4
  assert (e.name, list(e.input), e.attr["kept"].i) == ("e", ["d", "d", "^a"], 3)
  assert graph.node("z") is d
  (written,) = [n for n in graph.to_graph_def().node if n.name == "z"]
  assert written.attr["seen"].i == 4


_WEIGHTS = """
import gc, sys
from bnexport.graph import Graph
from bnexport.tf1 import tf1

def pages():
  gc.collect()
  with open("/proc/self/statm") as f:
    return int(f.read().split()[1])

source = tf1.GraphDef()
source.node.add(name="w", op="Const").attr["value"].tensor.tensor_content = (
  b"w" * (64 << 20))
source.node.add(name="y", op="NoOp", input=["^w"])
graph = Graph(source)
if {is_clone}:
  graph = graph.clone()
del source
before = pages()
graph.set_inputs("y", [])
graph.keep(["y"])
sys.exit(0 if before - pages() > (48 << 20) // 4096 else 1)
"""


@pytest.mark.skipif(
  not os.path.exists("/proc/self/statm"), reason="no way to see memory"
)
@pytest.mark.parametrize("is_clone", [False, True])
def test_weights_that_are_removed_leave_memory(is_clone):
  result = run_process("-c", _WEIGHTS.format(is_clone=is_clone))
  assert result.status == 0, result.err


def test_keep(graph):
  assert graph.keep(graph.ancestors(["c"])) == 2
  assert set(graph.names()) == {"a", "b", "c"}
  before = graph.to_graph_def()
  with pytest.raises(GraphError):
    graph.keep(["c"])
  assert_unchanged(graph, before)


def test_ancestors(graph):
  assert set(graph.ancestors(["c"])) == {"a", "b", "c"}
  assert set(graph.ancestors(["c"], control=False)) == {"a", "c"}
  assert set(graph.ancestors(["b", "a"])) == {"a", "b"}
  assert list(graph.ancestors([])) == []


def assert_ordered(graph, order):
  """Asserts that inputs come first, but for those that close a loop."""
  place = {name: i for i, name in enumerate(order)}
  assert len(place) == len(order)
  for name in order:
    for ref in graph.inputs(name):
      if ref.node in place and graph.op(ref.node) != "NextIteration":
        assert place[ref.node] < place[name]


def test_topological(graph):
  backwards = graph_of(DIAMOND[::-1])
  for one in (graph, backwards, graph_of(LOOP), graph_of(LOOP[::-1])):
    order = one.topological()
    assert set(order) == set(one.names())
    assert_ordered(one, order)
  with pytest.raises(AssertionError):
    assert_ordered(graph, ["b", "a"])


def test_topological_of_some_nodes(graph):
  assert graph.topological(["e", "b", "d"]) == ["b", "d", "e"]


def test_cycle_that_no_next_iteration_closes(graph):
  graph.set_input("b", 0, TensorRef("d"))
  for verb in (graph.topological, graph.lint, graph.to_graph_def):
    with pytest.raises(GraphError) as raised:
      verb()
    assert "cycle" in str(raised.value)


def test_cycle_may_be_cut_away(graph):
  graph.set_input("b", 0, TensorRef("d"))
  copy = graph.clone()
  assert set(copy.names()) == set(graph.names())
  copy.set_input("b", 0, TensorRef("a"))
  copy.lint()


def test_topological_has_no_depth_limit():
  names = ["n%d" % i for i in range(5000)]
  nodes = [(n, "Relu", [m]) for m, n in zip(names, names[1:])]
  graph = graph_of([(names[0], "Const", [])] + nodes)
  assert graph.topological() == names
  assert len(graph.ancestors([names[-1]])) == 5000


def test_lint_sees_what_verbs_never_leave(graph):
  graph.node("e").input[:] = ["^a", "d", "d"]
  with pytest.raises(GraphError) as raised:
    graph.lint()
  assert "control input" in str(raised.value)
  graph.node("e").input[:] = ["gone"]
  with pytest.raises(GraphError) as raised:
    graph.lint()
  assert "'gone'" in str(raised.value)


def test_clone_is_independent(graph):
  before = graph.to_graph_def()
  clone = graph.clone()
  assert clone.to_graph_def() == before
  clone.node("a").op = "Const"
  clone.remove(["e"])
  clone.add("Relu", "f", ["d"])
  assert_unchanged(graph, before)
  assert_sound(clone)


def test_library_and_versions_cross_the_border():
  source = text_format.Parse(
    """
    node { name: "a" op: "NoOp" }
    versions { producer: 134 }
    library {
      function { signature { name: "f" } }
      function { signature { name: "g" } }
      gradient { function_name: "f" gradient_func: "g" }
    }""",
    tf1.GraphDef(),
  )
  graph = Graph(source)
  assert graph.to_graph_def() == source
  del graph.library["f"]
  left = graph.to_graph_def()
  assert [f.signature.name for f in left.library.function] == ["g"]
  assert not left.library.gradient


def test_iteration_survives_edits(graph):
  for node in graph:
    if node.name == "b":
      graph.add("Relu", "f", ["b"])
      graph.remove(["e"])
  assert "f" in graph and "e" not in graph


def test_nearest():
  assert nearest("logit", ["logits", "images"]) == "did you mean 'logits'?"
  assert nearest("zzz", ["logits", "images"]) == "check the name"
  assert "'net/logits'" in nearest("logits", ["a/b/c", "net/logits"])
  assert nearest("name1", ["name2", "name3", "name4", "name5"]).count("'") == 6


def test_become_replaces_op_inputs_and_attributes():
  graph = Graph(tf1.GraphDef())
  for name in ("a", "b"):
    graph.add("Placeholder", name)
  kind = tf1.AttrValue(type=1)
  graph.add("Mul", "m", ["a", "b"], {"T": kind, "gone": tf1.AttrValue(i=3)})
  graph.add("Relu", "y", ["m"], {"T": kind})
  graph.become("m", "Identity", ["b"], {"T": graph.node("m").attr["T"]})
  assert graph.op("m") == "Identity"
  assert graph.inputs("m") == [TensorRef("b")]
  assert dict(graph.node("m").attr) == {"T": kind}
  assert graph.readers("a") == []
  assert graph.readers("m") == ["y"]
  graph.lint()


def test_every_node_is_one_of_the_graph_or_of_a_function():
  graph = Graph(
    text_format.Parse(
      """
      node { name: "a" op: "NoOp" }
      library { function { signature { name: "f" } node_def { name: "b" } } }
      """,
      tf1.GraphDef(),
    )
  )
  found = [(node.name, place) for node, place in graph.every_node()]
  assert found == [("a", "'a'"), ("b", "'b' of function 'f'")]


# Cost.


def wide(size):
  """Many nodes that read one, and are placed with another."""
  made = tf1.GraphDef()
  made.node.add(name="x", op="Placeholder")
  made.node.add(name="home", op="NoOp")
  for i in range(size):
    node = made.node.add(name=f"n{i}", op="Relu", input=["x"])
    node.attr["_class"].list.s.append(b"loc:@home")
  return Graph(made)


def rename_each(size):
  graph = wide(size)

  def work():
    for i in range(size):
      graph.rename({f"n{i}": f"m{i}"})

  return work


def rename_the_one_that_all_are_placed_with(size):
  graph = wide(size)
  return lambda: graph.rename({"home": "house"})


def remove_each(size):
  graph = wide(size)

  def work():
    for i in range(size):
      graph.remove([f"n{i}"])

  return work


def substitute_each(size):
  """Each node is read once, and waited for by one that waits for all."""
  graph = wide(size)
  for i in range(size):
    graph.add("Relu", f"r{i}", [f"n{i}"])
  graph.add("NoOp", "all", [f"^n{i}" for i in range(size)])

  def work():
    for i in range(size):
      graph.substitute({TensorRef(f"n{i}"): TensorRef("x")})

  return work


def substitute_all_at_once(size):
  graph = wide(size)
  graph.add("NoOp", "all", [f"^n{i}" for i in range(size)])
  x = TensorRef("x", 0, True)
  waits = {TensorRef(f"n{i}", 0, True): x for i in range(size)}
  return lambda: graph.substitute(waits)


@pytest.mark.parametrize(
  "prepare",
  [
    rename_each,
    rename_the_one_that_all_are_placed_with,
    remove_each,
    substitute_each,
    substitute_all_at_once,
    lambda size: wide(size).clone,
    lambda size: lambda: wide(size).keep(["x"]),
  ],
)
def test_cost_is_linear(prepare):
  assert_linear(prepare, 50, 400)


@pytest.mark.parametrize(
  "work",
  [
    lambda graph: graph.rename({}),
    lambda graph: graph.rename({"y": "z"}),
    lambda graph: graph.remove(["y"]),
    lambda graph: graph.substitute({TensorRef("home"): TensorRef("x")}),
    lambda graph: graph.place("y", lambda name: name),
  ],
)
def test_what_is_not_touched_costs_nothing(work):
  def prepare(size):
    graph = wide(size)
    graph.add("Relu", "y", ["home"])
    return lambda: work(graph)

  assert lines(prepare(10)) == lines(prepare(1000))


def test_lint_sees_an_index_that_nobody_told(graph):
  graph.node("e").input[:] = ["a"]
  with pytest.raises(AssertionError):
    graph.lint()


def test_twins_give_the_same_in_order(graph):
  """A clone's nodes are sorted; those of a twin are where they were."""
  graph.add("NoOp", "late")
  for name in graph.names():
    if graph.op(name) == "Identity":
      graph.add("Identity", name + "/again", graph.inputs(name))
  before = graph.to_graph_def()
  twin = graph.twin()
  assert twin.names() == graph.names()
  assert twin.topological() == graph.topological()
  for name in graph.names():
    assert twin.inputs(name) == graph.inputs(name)
    assert twin.readers(name) == graph.readers(name)
    assert twin.node(name) == graph.node(name)
    assert twin.node(name) is not graph.node(name)
  assert twin.to_graph_def() == before
  twin.add("NoOp", "of the twin".replace(" ", "_"))
  twin.rename({twin.names()[0]: "renamed"})
  twin.library.clear()
  assert graph.to_graph_def() == before


def test_a_node_that_becomes_another_message(graph):
  """Its readers, its inputs and its device stay; the old one holds no value."""
  name = graph.names()[0]
  old = graph.node(name)
  old.device = "/cpu:0"
  old.attr["value"].tensor.tensor_content = b"large"
  inputs, readers = graph.inputs(name), graph.readers(name)
  attrs = {"dtype": tf1.AttrValue(type=1)}
  graph.become(name, "Const", inputs, attrs, is_fresh=True)
  node = graph.node(name)
  assert node is not old and not old.attr
  assert node.op == "Const" and dict(node.attr) == attrs
  assert node.device == "/cpu:0" and node.name == name
  assert graph.inputs(name) == inputs and graph.readers(name) == readers
  graph.lint()
