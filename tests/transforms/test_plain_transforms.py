# SPDX-License-Identifier: Apache-2.0
"""Transforms that edit a graph without knowing what it computes."""

from __future__ import annotations

import numpy as np
import pytest
from judges.transforming import (
  answers,
  assert_same_answers,
  ends,
  model_of,
  nodes,
  transformed,
)

import bnexport
from bnexport import text
from bnexport.errors import Error, GraphError, SourceError, TransformError
from bnexport.graph import TensorRef
from bnexport.tf1 import tf1
from bnexport.transforms import table

FUNCTION = """
  x = Placeholder() {shape=[2]}
  y = PartitionedCall(x) {Tin=(float), Tout=(float), f=f{}}
  function f(x float) -> (z float = c:y:0) {
    a = Identity(x) @"/gpu:0"
    n = Neg(a:output:0) {_mine=1}
    b = Identity(n:y:0)
    c = Neg(b:output:0, ^n)
  }
"""
COND = """
  x = Placeholder() {shape=[2]}   p = Placeholder() {shape=[],dtype=bool}
  s = Switch(p, p)
  t = Identity(s:1)   f = Identity(s)
  one = Const(^t) {value=<float 1>}   two = Const(^t) {value=<float 2>}
  three = Add(one, two)
  neg = Const(^f) {value=<float -1>}
  sx = Switch(x, p)
  a = Mul(sx:1, three)   b = Mul(sx, neg)
  y = Merge(b, a)
"""


def body(model, name="f", full=False):
  """The nodes of a function, as text by name."""
  return {
    node.name: text.dumps(node, brief=not full)
    for node in model.graph.library[name].node_def
  }


def statement(model, name):
  """A node as a person writes it."""
  return text.dumps(model.graph.node(name), brief=True)


def cond():
  return text.loads(COND)


def assert_refused(graph, specs, *words, **ends):
  """Asserts a refusal that leaves the graph as it was."""
  model = model_of(graph, **ends)
  before = nodes(model)
  with pytest.raises(Error) as refused:
    table.apply_specs(model, specs)
  message = str(refused.value)
  assert message.startswith("cannot ") and "\n" not in message
  for word in words:
    assert word in message
  assert nodes(model) == before


# Devices, attributes, ops, names.


def test_functions_are_treated_as_well():
  model = transformed(FUNCTION, "remove_device")
  assert body(model)["a"] == "a = Identity(x)"
  model = transformed(FUNCTION, 'set_device(device="/cpu:0", if_default=1)')
  assert body(model)["a"].endswith('@"/gpu:0"')
  assert body(model)["c"].endswith('@"/cpu:0"')
  model = transformed(FUNCTION, "remove_attribute(attribute_name=_mine)")
  assert "_mine" not in body(model, full=True)["n"]
  model = transformed(
    FUNCTION,
    "rename_attribute(old_attribute_name=_mine, new_attribute_name=_its)",
  )
  assert "_its=1" in body(model, full=True)["n"]
  model = transformed(FUNCTION, "remove_control_dependencies")
  assert body(model)["c"] == "c = Neg(b:output:0)"


@pytest.mark.parametrize(
  "specs",
  [
    "remove_device",
    "remove_nodes(op=Identity)",
    "remove_control_dependencies",
    "rename_op(old_op_name=Neg, new_op_name=Relu)"
    " rename_op(old_op_name=Relu, new_op_name=Neg)",
  ],
)
def test_functions_still_run(specs):
  feeds = {"x": np.float32([1, -2])}
  model = transformed(FUNCTION.replace("gpu", "cpu"), specs)
  assert_same_answers(answers(model, feeds), [np.float32([1, -2])])


def test_renamed_ops_of_functions_are_read_by_their_new_outputs():
  model = transformed(FUNCTION, "rename_op(old_op_name=Neg, new_op_name=Relu)")
  assert body(model)["b"] == "b = Identity(n:activations:0)"
  assert model.graph.library["f"].ret["z"] == "c:activations:0"


def test_rename_op_refuses_what_does_not_fit():
  graph = "y = Relu(x)   x = Placeholder()"
  for op, word in (("Add", "takes 2 inputs"), ("Cast", "attribute 'SrcT'")):
    assert_refused(
      graph, "rename_op(old_op_name=Relu, new_op_name=%s)" % op, "'y'", word
    )


def test_unknown_ops_are_taken_and_said():
  model = transformed(
    "y = Relu(x)   x = Placeholder()",
    "rename_op(old_op_name=Relu, new_op_name=MyRelu)",
  )
  assert model.graph.op("y") == "MyRelu"
  assert "MyRelu" in model.warnings[0]


@pytest.mark.parametrize(
  "specs",
  [
    "add_default_attributes",
    "merge_duplicate_nodes",
    "fold_constants",
    "remove_nodes(op=Identity)",
    "obfuscate_names",
    "strip_unused_nodes",
  ],
)
def test_unknown_ops_are_no_obstacle(specs):
  model = transformed(
    "x = Placeholder()   a = MyOwn(x)   b = MyOwn(x)   y = Add(a, b)", specs
  )
  assert sum(node.op == "MyOwn" for node in model.graph) == 2


def test_remove_attribute_says_what_changes():
  graph = "x = Placeholder()   y = LeakyRelu(x) {alpha=0.5}"
  model = transformed(graph, "remove_attribute(attribute_name=alpha)")
  assert "alpha" not in model.graph.node("y").attr
  assert "alpha=0.5" in model.warnings[0] and "0.2" in model.warnings[0]
  same = transformed(
    graph.replace("0.5", "0.2"), "remove_attribute(attribute_name=alpha)"
  )
  assert not same.warnings
  other = transformed(
    graph, "remove_attribute(attribute_name=alpha, op_name=Relu)"
  )
  assert "alpha" in other.graph.node("y").attr


def test_attributes_that_are_needed_stay():
  graph = "x = Placeholder()   p = Placeholder()   y = Transpose(x, p)"
  assert_refused(graph, "remove_attribute(attribute_name=T)", "'y'", "default")
  assert_refused(
    graph,
    "rename_attribute(old_attribute_name=T, new_attribute_name=Tperm)",
    "'y'",
    "as well",
  )


def test_rename_node_follows_readers_ends_and_placement():
  model = transformed(
    'x = Placeholder()   a = Neg(x)   y = Add(a, x, ^a) {_class=("loc:@a")}',
    "rename_node(old_node_name=a, new_node_name=scope/b)"
    " rename_node(old_node_name=y, new_node_name=logits)"
    " rename_node(old_node_name=x, new_node_name=image)",
    inputs=["x"],
  )
  assert model.outputs == (TensorRef("logits"),)
  assert model.inputs == (TensorRef("image"),)
  assert list(model.graph.node("logits").input) == [
    "scope/b",
    "image",
    "^scope/b",
  ]
  assert model.graph.node("logits").attr["_class"].list.s == [b"loc:@scope/b"]
  answers(model, {"image": np.float32(1)})


def test_rename_node_refuses_what_is_no_free_name():
  graph = "x = Placeholder()   a = Neg(x)   y = Neg(a)"
  spec = "rename_node(old_node_name=%s, new_node_name=%s)"
  assert_refused(graph, spec % ("a", "x"), "'x'", "taken")
  assert_refused(graph, spec % ("b", "c"), "'b'")
  assert_refused(graph, spec % ("a", '"b c"'), "'b c'", "letters")
  assert_refused(graph, spec % ("a", "_b"), "'_b'")


def test_obfuscated_names():
  parts = ["x = Placeholder()", 'r = Relu(x) {_class=("loc:@long/name_0")}']
  parts += [
    "long/name_%d = Neg(%s)" % (i, "x" if not i else "long/name_%d" % (i - 1))
    for i in range(70)
  ]
  parts.append("y = Add(long/name_69, r)   v = VariableV2() {shape=[]}")
  model = transformed("\n".join(parts), "obfuscate_names", ["y:0"], ["x:0"])
  names = model.graph.names()
  assert {"x", "y", "v"} <= set(names)
  assert max(map(len, set(names) - {"x", "y", "v"})) == 2
  assert {"0", "a", "Z", "10", "11"} <= set(names)
  feeds = {"x": np.float32([1, -2])}
  assert_same_answers(answers(model, feeds), [np.float32([2, -2])])


# Control inputs.


def test_control_inputs_that_place_a_node_stay():
  model = transformed(cond(), "remove_control_dependencies")
  assert list(model.graph.node("one").input) == ["^t"]
  feeds = {"x": np.float32([1, 2]), "p": True}
  assert_same_answers(answers(model, feeds), [np.float32([3, 6])])


def test_a_group_keeps_what_it_is_made_of():
  model = transformed(
    "x = Placeholder()   a = Neg(x)   init = NoOp(^a)   y = Relu(x, ^init)",
    "remove_control_dependencies",
  )
  assert list(model.graph.node("init").input) == ["^a"]
  assert list(model.graph.node("y").input) == ["x"]


def test_reads_after_updates_are_refused():
  assert_refused(
    "v = VariableV2() {shape=[]}   one = Const() {value=<float 1>}"
    "   u = AssignAdd(v, one)   y = Identity(v, ^u)",
    "remove_control_dependencies",
    "'v'",
    "'u'",
    "use_written_values",
  )


# Removing nodes.


@pytest.mark.parametrize("p", [True, False])
def test_removing_identities_keeps_the_branches(p):
  model = transformed(cond(), "remove_nodes(op=Identity)")
  assert model.graph.op("t") == model.graph.op("f") == "Identity"
  assert any("kept 't'" in line for line in model.history)
  feeds = {"x": np.float32([1, 2]), "p": p}
  expected = np.float32([3, 6]) if p else np.float32([-1, -2])
  assert_same_answers(answers(model, feeds), [expected])


def test_readers_wait_for_what_a_removed_node_waited_for():
  model = transformed(
    "x = Placeholder()   c = Neg(x)   a = Identity(x, ^c)   d = Neg(x, ^a)"
    "   y = Add(a, d)",
    "remove_nodes(op=Identity)",
  )
  assert statement(model, "y") == "y = Add(x, d, ^c)"
  assert statement(model, "d") == "d = Neg(x, ^x, ^c)"


def test_a_removed_nodes_input_keeps_its_port():
  model = transformed(
    "x = Placeholder()   s = Split(d, x) {num_split=2}   a = Identity(s:1)"
    "   d = Const() {value=<int32 0>}   b = Identity(a)   y = Neg(b)",
    "remove_nodes(op=Identity)",
  )
  assert list(model.graph.node("y").input) == ["s:1"]


def test_ends_and_reads_of_variables_are_not_removed():
  model = transformed(
    "x = Placeholder()   i = Identity(x)   v = VariableV2() {shape=[]}"
    "   v/read = Identity(v)   m = Mul(i, v/read)   y = Identity(m)",
    "remove_nodes(op=Identity)",
    inputs=["i:0"],
  )
  assert {"i", "v/read", "y"} <= set(model.graph.names())
  assert any("reads variable 'v'" in line for line in model.history)


def test_max_inputs():
  graph = "x = Placeholder()   z = Placeholder()   a = Add(x, z)   y = Neg(a)"
  assert "a" in transformed(graph, "remove_nodes(op=Add)").graph
  model = transformed(graph, "remove_nodes(op=Add, max_inputs=2)")
  assert list(model.graph.node("y").input) == ["x"]


def test_removal_refuses_control_flow_and_casts():
  assert_refused(cond(), "remove_nodes(op=Switch)", "Switch")
  assert_refused(
    "x = Placeholder()   a = Cast(x) {SrcT=float,DstT=int32}   y = Neg(a)",
    "remove_nodes(op=Cast)",
    "'a'",
    "int32",
    "float",
  )


def test_functions_lose_nodes_that_nobody_waits_for():
  model = transformed(FUNCTION, "remove_nodes(op=Identity)")
  assert set(body(model)) == {"n", "c"}
  assert body(model)["c"] == "c = Neg(n:y:0, ^n)"


# Merging.


def test_what_must_not_be_merged_is_not():
  model = transformed(
    """
    a = Placeholder() {shape=[2]}   b = Placeholder() {shape=[2]}
    d = PlaceholderWithDefault(a)   e = PlaceholderWithDefault(a)
    n = Const() {value=<int32 [1] 2>}
    r = RandomUniform(n)   s = RandomUniform(n)
    v = VariableV2() {shape=[2]}   w = VariableV2() {shape=[2]}
    p = Neg(a) @"/gpu:0"   q = Neg(a) @"/cpu:0"
    z = AddN(a, b, d, e, r, s, p, q)   y = Neg(z)   y2 = Neg(z)
    """,
    "merge_duplicate_nodes",
    ["y:0", "y2:0"],
    ["a:0", "b:0"],
  )
  assert set("abdenrsvwpqzy") | {"y2"} == set(model.graph.names())


def test_merging_goes_all_the_way():
  model = transformed(
    """
    x = Placeholder() {shape=[2]}
    c = Const() {value=<float 2>}   d = Const() {value=<float 2>}
    a = Mul(x, c)   b = Mul(x, d)   e = Neg(a)   f = Neg(b, ^b)   g = Neg(b)
    y = AddN(e, f, g)
    """,
    "merge_duplicate_nodes",
  )
  assert set(model.graph.names()) == set("xcaefy")
  assert list(model.graph.node("f").input) == ["a", "^a"]
  assert list(model.graph.node("y").input) == ["e", "f", "e"]


# Stripping.


def test_an_inner_input_keeps_its_type():
  graph = (
    "q = FIFOQueueV2() {component_types=(uint8)}"
    "   x = QueueDequeueV2(q) {component_types=(uint8)}"
    "   y = Cast(x) {SrcT=uint8,DstT=float}"
  )
  model = transformed(
    graph, 'strip_unused_nodes(type=float, shape="?,3")', inputs=["x"]
  )
  assert set(model.graph.names()) == {"x", "y"}
  node = model.graph.node("x")
  assert node.attr["dtype"].type == tf1.uint8
  assert [dim.size for dim in node.attr["shape"].shape.dim] == [-1, 3]
  assert any("stays uint8" in line for line in model.history)
  assert_refused(
    graph,
    "strip_unused_nodes(name=x, type_for_name=float)",
    "'x'",
    "float",
    "uint8",
    inputs=["x"],
  )


def test_a_shape_is_not_made_up():
  graph = "a = Placeholder()   x = Neg(a)   y = Relu(x) {_output_shapes=([3])}"
  unknown = transformed(graph, "strip_unused_nodes", inputs=["x"])
  assert unknown.graph.node("x").attr["shape"].shape.unknown_rank
  scalar = transformed(graph, 'strip_unused_nodes(shape="")', inputs=["x"])
  assert not scalar.graph.node("x").attr["shape"].shape.unknown_rank
  assert "_output_shapes" not in scalar.graph.node("y").attr
  answers(scalar, {"x": np.float32(3)})


def test_shapes_by_name():
  graph = "a = Placeholder()   b = Neg(a)   c = Neg(a)   y = Add(b, c)"
  model = transformed(
    graph,
    'strip_unused_nodes(shape="2", name=c, shape_for_name="1")',
    inputs=["b", "c"],
  )
  assert "shape=[2]" in statement(model, "b")
  assert "shape=[1]" in statement(model, "c")
  assert_refused(
    graph,
    'strip_unused_nodes(name=b, name=c, shape_for_name="1")',
    "1 'shape_for_name'",
    "2 'name'",
    inputs=["b", "c"],
  )
  assert_refused(
    graph,
    'strip_unused_nodes(name=q, shape_for_name="1")',
    "'name=q'",
    inputs=["b"],
  )
  assert_refused(
    graph,
    "strip_unused_nodes(name=b)",
    "without a type and a shape",
    inputs=["b"],
  )


def test_outputs_of_one_node_have_shapes_of_their_own():
  graph = """
    a = Placeholder()   d = Const() {value=<int32 0>}
    s = Split(d, a) {num_split=2}   y = Add(s, s:1)
  """
  model = transformed(
    graph,
    "strip_unused_nodes(name=s:1, name=s, type_for_name=float, "
    'type_for_name=float, shape_for_name="1", shape_for_name="5")',
    inputs=["s", "s:1"],
  )
  assert "shape=[5]" in statement(model, "s")
  assert "shape=[1]" in statement(model, "s_1")


def test_inputs_of_unknown_ops_can_be_cut():
  graph = "a = Placeholder()   x = MyDecoder(a)   y = Relu(x)"
  model = transformed(graph, "strip_unused_nodes(type=half)", inputs=["x"])
  assert model.graph.node("x").attr["dtype"].type == tf1.half
  model = transformed(graph, "strip_unused_nodes", inputs=["x"])
  answers(model, {"x": np.float32(3)})


def test_cycle_that_no_output_needs_is_cut_away():
  graph = "x = Placeholder()   y = Relu(x)   a = Neg(b)   b = Neg(a)"
  model = bnexport.load(text.loads(graph), outputs=["y"])
  assert set(bnexport.apply(model, "strip_unused_nodes").graph.names()) == {
    "x",
    "y",
  }
  with pytest.raises(GraphError, match="part of a cycle"):
    bnexport.apply(model, "remove_device")


def test_unneeded_inputs_stay():
  model = transformed(
    "x = Placeholder()   p = Placeholder()   y = Relu(x)   z = Neg(p)",
    "strip_unused_nodes",
    inputs=["x", "p"],
  )
  assert set(model.graph.names()) == {"x", "p", "y"}


def test_a_second_output_can_be_cut():
  model = transformed(
    "a = Placeholder()   d = Const() {value=<int32 0>}"
    "   s = Split(d, a) {num_split=2}   y = Add(s, s:1)",
    "strip_unused_nodes",
    inputs=["s:1", "s"],
  )
  assert set(model.graph.names()) == {"s", "s_1", "y"}
  assert model.inputs == (TensorRef("s_1"), TensorRef("s"))


def test_placement_with_what_is_gone_is_dropped():
  model = transformed(
    'x = Placeholder()   a = Identity(x)   y = Relu(a) {_class=("loc:@a")}',
    "remove_nodes(op=Identity)",
  )
  assert "_class" not in model.graph.node("y").attr
  answers(model, {"x": np.float32(1)})


# Printing.


def test_only_outputs_that_are_read_are_printed():
  model = transformed(
    "x = Placeholder() {shape=[4]}   d = Const() {value=<int32 0>}"
    "   s = Split(d, x) {num_split=4}   y = Add(s, s:2)",
    "insert_logging(op=Split)",
  )
  assert list(model.graph.node("s__print__").input) == ["s", "s", "s:2"]
  assert list(model.graph.node("y").input) == ["s__print__", "s:2"]
  x = np.float32([1, 2, 3, 4])
  assert_same_answers(answers(model, {"x": x}), [np.float32([4])])


def test_printing_leaves_branches_and_references_alone():
  model = transformed(cond(), "insert_logging")
  assert not {"s__print__", "sx__print__", "y__print__"} & set(
    model.graph.names()
  )
  feeds = {"x": np.float32([1, 2]), "p": True}
  assert_same_answers(answers(model, feeds), [np.float32([3, 6])])
  model = transformed(
    "v = VariableV2() {shape=[]}   r = Identity(v)   y = Neg(r)"
    "   one = Const() {value=<float 1>}   u = AssignAdd(v, one)",
    "insert_logging",
  )
  assert model.graph.node("u").input[0] == "v"
  assert "r__print__" in model.graph


def test_constants_that_may_be_sizes_are_not_printed():
  """Nobody can tell a shape from what a Print hands on."""
  model = transformed(
    "x = Placeholder() {shape=[2,3]}   s = Const() {value=<int32 [1] 6>}"
    "   c = Const() {value=<float 2>}   r = Reshape(x, s)   y = Mul(r, c)",
    "insert_logging",
  )
  printed = {node.name for node in model.graph if node.op == "Print"}
  assert printed == {"x__print__", "c__print__", "r__print__"}
  assert ends(model) == [("y:0", tf1.float32, [6])]


# Folding.


def test_folded_nodes_keep_their_names():
  model = transformed(
    "x = Placeholder()   a = Const() {value=<float 2>}   b = Neg(a)"
    "   w = Const() {value=<float 5>}   w/read = Identity(w)   c = Mul(b, b)"
    "   e = Mul(x, w/read)   y = Add(e, c)",
    "fold_constants",
  )
  assert statement(model, "c") == "c = Const() {value=<float 4>}"
  assert set(model.graph.names()) == {"x", "c", "w", "e", "y"}


def test_what_is_fed_or_kept_is_not_folded():
  graph = """
    x = Placeholder() {shape=[]}
    t = Const() {value=<float 1>}   d = PlaceholderWithDefault(t)   e = Neg(d)
    fed = Const() {value=<float 2>}   f = Neg(fed)
    n = Const() {value=<int32 [1] 2>}   r = RandomUniform(n)   q = Neg(r)
    out = Neg(t)
    y = AddN(x, e, f, q, out)
  """
  model = transformed(graph, "fold_constants", ["y", "out"], ["x", "fed"])
  before = model_of(graph)
  assert nodes(model) == nodes(before)


def test_constants_of_a_branch_stay_in_it():
  model = transformed(cond(), "fold_constants")
  assert statement(model, "three") == "three = Const(^t) {value=<float 3>}"
  for p, expected in ((True, [3, 6]), (False, [-1, -2])):
    feeds = {"x": np.float32([1, 2]), "p": p}
    assert_same_answers(answers(model, feeds), [np.float32(expected)])


def test_switches_of_constants_are_not_folded():
  graph_def = text.loads(
    "p = Placeholder() {dtype=bool,shape=[]}   c = Const() {value=<float 2>}"
    "   s = Switch(c, p)   a = Neg(s:1)   y = Merge(s, a)"
  )
  model = transformed(graph_def, "fold_constants")
  assert set(model.graph.names()) == set("pcsay")


def test_large_results_are_neither_computed_nor_kept():
  graph = """
    x = Placeholder() {shape=[]}
    n = Const() {value=<int32 [2] 100000 100000>}
    v = Const() {value=<float 1>}   huge = Fill(n, v)
    z = Const() {value=<int32 0>}   one = Max(huge, z)
    a = Const() {value=<float [4] 1>}   b = Neg(a)
    y = AddN(x, one, b)
  """
  model = transformed(graph, "fold_constants")
  assert model.graph.op("huge") == "Fill" and model.graph.op("one") == "Max"
  assert model.graph.op("b") == "Const"
  assert any("left 'huge'" in line for line in model.history)
  model = transformed(graph, "fold_constants(max_constant_size_in_bytes=8)")
  assert model.graph.op("b") == "Neg"


def test_what_can_not_be_computed_is_left_and_said():
  graph = """
    x = Placeholder() {shape=[]}
    a = Const() {value=<string "words">}   b = StringToNumber(a)
    c = Const() {value=<float 2>}   d = Neg(c)
    y = AddN(x, b, d)
  """
  model = transformed(graph, "fold_constants")
  assert model.graph.op("b") == "StringToNumber"
  assert model.graph.op("d") == "Const"
  assert any("left 'b'" in line for line in model.history)


def test_exclusions():
  graph = (
    "x = Placeholder()   a = Const() {value=<float 2>}   b = Neg(a)"
    "   c = Abs(a)   e = Exp(a)   y = AddN(x, b, c, e)"
  )
  model = transformed(graph, "fold_constants(exclude_op=Neg, exclude_node=c)")
  ops = [model.graph.op(name) for name in "bce"]
  assert ops == ["Neg", "Abs", "Const"]


def test_known_shapes_are_constants():
  graph = """
    x = Placeholder() {shape=[2,3]}   b = Placeholder() {shape=[?,3]}
    h = Neg(x) {_output_shapes=([7,7])}
    s = Shape(h)   n = Size(x)   k = Rank(b)   open = Shape(b)
    i = Const() {value=<int32 1>}   zero = Const() {value=<int32 0>}
    m = Gather(s, i) {Tparams=int32,Tindices=int32}
    o = Gather(open, zero) {Tparams=int32,Tindices=int32}
    y = AddN(m, n, k, o)
  """
  model = transformed(graph, "fold_constants")
  assert statement(model, "m") == "m = Const() {value=<int32 3>}"
  assert statement(model, "n") == "n = Const() {value=<int32 6>}"
  assert statement(model, "k") == "k = Const() {value=<int32 2>}"
  assert model.graph.op("open") == "Shape"
  feeds = {"x": np.ones((2, 3), "f"), "b": np.ones((4, 3), "f")}
  assert_same_answers(answers(model, feeds), [np.int32(15)])


def test_outputs_of_one_node_are_folded_each():
  model = transformed(
    "x = Placeholder()   d = Const() {value=<int32 0>}"
    "   c = Const() {value=<float [2] 1 2>}   s = Split(d, c) {num_split=2}"
    "   y = AddN(x, s:1, s)",
    "fold_constants",
  )
  assert "s" not in model.graph
  assert_same_answers(answers(model, {"x": np.float32([4])}), [np.float32([7])])


# Older ops.


@pytest.mark.parametrize(
  "axis, kept",
  [
    ("axis = Const() {value=<int64 -1>}", "axis"),
    ("axis = Placeholder() {dtype=int64,shape=[]}", "axis"),
  ],
)
def test_concat_takes_a_short_axis(axis, kept):
  model = transformed(
    "a = Placeholder() {shape=[2]}   %s   y = ConcatV2(a, a, axis, ^a)" % axis,
    "backport_concatv2",
  )
  assert statement(model, "y") == "y = Concat(y/axis, a, a, ^a)"
  feeds = {"a": np.float32([1, 2])}
  if "Placeholder" in axis:
    feeds["axis"] = 0
  assert_same_answers(answers(model, feeds), [np.float32([1, 2, 1, 2])])


def test_concat_in_a_function():
  graph = """
    x = Placeholder() {shape=[2]}
    y = PartitionedCall(x) {Tin=(float), Tout=(float), f=f{}}
    function f(x float) -> (z float = c:output:0) {
      a = Const() {value=<%s 0>}
      c = ConcatV2(x, x, a:output:0)
    }
  """
  model = transformed(graph % "int32", "backport_concatv2")
  assert_same_answers(
    answers(model, {"x": np.float32([1, 2])}), [np.float32([1, 2, 1, 2])]
  )
  assert_refused(graph % "int64", "backport_concatv2", "'c'", "'f'", "int64")


def test_arrays_in_a_loop():
  tf_graph = tf1.Graph()
  with tf_graph.as_default():
    tf1.disable_control_flow_v2()
    x = tf1.placeholder(tf1.float32, [3, 2], name="x")
    y = tf1.map_fn(lambda row: row * 2.0, x, parallel_iterations=1)
    tf1.identity(y, name="y")
  model = model_of(tf_graph.as_graph_def())
  assert any(node.op == "TensorArrayV3" for node in model.graph)
  feeds = {"x": np.arange(6, dtype="f").reshape(3, 2)}
  expected = answers(model, feeds)
  table.apply_specs(model, "backport_tensor_array_v3")
  assert not any(node.op.endswith("V3") for node in model.graph)
  assert model.graph.versions.producer <= 25
  assert_same_answers(answers(model, feeds), expected)


def test_sorting_refuses_cycles():
  with pytest.raises(GraphError, match="cycle"):
    transformed(
      "a = Neg(b)   b = Neg(a)   y = Neg(a)", "sort_by_execution_order"
    )


def test_history_names_the_transform():
  model = transformed(
    "x = Placeholder()   z = Neg(x)   y = Relu(x)",
    "remove_device strip_unused_nodes",
  )
  assert model.history == [
    "remove_device: changed nothing",
    "strip_unused_nodes: cut 1 nodes that the outputs do not need",
  ]


def test_variables_without_values():
  """A Model whose `values` are None, as of a graph without variables."""
  model = model_of("v = VariableV2() {shape=[2]}   y = Identity(v)")
  model.values = None
  with pytest.raises(TransformError, match="no weight has one"):
    table.apply_specs(model, "use_moving_averages")
  with pytest.raises(SourceError, match="pass --checkpoint"):
    table.apply_specs(model, "freeze_variables")
  table.apply_specs(model, "restore_updates")
  assert model.history == ["restore_updates: changed nothing"]
