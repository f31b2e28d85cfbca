# SPDX-License-Identifier: Apache-2.0
"""What a GraphDef may hold, and what is refused before anything reads it."""

from __future__ import annotations

import pytest

from bnexport import sources, text
from bnexport.errors import GraphError
from bnexport.graph.nodes import Signatures
from bnexport.graph.soundness import refuse_unsound
from bnexport.model.request import Request
from bnexport.tf1 import OpDef, tf1
from bnexport.transforms.inference.inline_functions import InlineFunctions

GRAPH = """
  x = Placeholder() {shape=[?,2]}
  w = Const() {value=<float [2,2] 1>}
  m = MatMul(x, w)
  n = AddN(m, m) {N=2}
  y = PartitionedCall(n) {f=double{}, Tin=(float), Tout=(float)}
  function double(a float) -> (b float = s:z:0) { s = Add(a, a) }
"""


def flaw(edit, signatures=None):
  """The fact that an edited graph is refused with, or None."""
  graph_def = text.loads(GRAPH)
  nodes = {node.name: node for node in graph_def.node}
  edit(nodes, graph_def.library.function[0])
  try:
    refuse_unsound(graph_def, signatures or Signatures(), "it")
  except GraphError as error:
    return error.fact
  return None


def set_attr(name, key, **value):
  def edit(nodes, function):
    nodes[name].attr[key].CopyFrom(tf1.AttrValue(**value))

  return edit


def nothing(nodes, function):
  pass


def loses(nodes, function):
  del nodes["m"].attr["T"]
  del nodes["m"].input[1]


def reads_nothing_that_is_there(nodes, function):
  nodes["m"].input[0] = "gone:7"


def is_of_no_known_op(nodes, function):
  nodes["m"].op = "MyOwn"
  nodes["m"].attr["T"].s = b"anything"


@pytest.mark.parametrize(
  "edit", [nothing, loses, reads_nothing_that_is_there, is_of_no_known_op]
)
def test_what_can_be_mended_or_left_alone_is_let_in(edit):
  assert flaw(edit) is None


def named(name):
  def edit(nodes, function):
    nodes["m"].name = name

  return edit


def reading(said):
  def edit(nodes, function):
    nodes["m"].input[0] = said

  return edit


def content_is_cut(nodes, function):
  nodes["w"].attr["value"].tensor.tensor_content = b"\0" * 7


def another_dtype(nodes, function):
  nodes["w"].attr["dtype"].type = tf1.int32.as_datatype_enum


def returns_nothing(nodes, function):
  function.ret.clear()


def body_reads(said):
  def edit(nodes, function):
    function.node_def[0].input[0] = said

  return edit


def returns(said):
  def edit(nodes, function):
    function.ret["b"] = said

  return edit


def body_node_of_no_name(nodes, function):
  function.node_def[0].name = ""


def body_node_of_no_inputs(nodes, function):
  del function.node_def[0].input[:]


def body_node_without_dtype(nodes, function):
  del function.node_def[0].attr["T"]


def deep(nodes, function):
  value = nodes["y"].attr["f"]
  for _ in range(20):
    value.func.name = "f"
    value = value.func.attr["f"]
  value.func.name = "f"


@pytest.mark.parametrize(
  "edit, words",
  [
    (named(""), "name that is not legal"),
    (named("a b"), "name that is not legal"),
    (named("a\n"), "name that is not legal"),
    (named("^a"), "name that is not legal"),
    (reading(""), "no legal one"),
    (reading("^^x"), "no legal one"),
    (reading("x:-1"), "no legal one"),
    (reading("x:99999999999"), "no legal one"),
    (set_attr("m", "T", i=1), "'T' that is no type"),
    (set_attr("m", "T", type=99), "type 99"),
    (set_attr("m", "T", type=7), "is 7, which MatMul does not take"),
    (set_attr("m", "transpose_a", s=b"x"), "'transpose_a' that is no bool"),
    (set_attr("n", "N", i=0), "is 0 and has to be 1 at least"),
    (set_attr("n", "N", i=1 << 40), "1099511627776 inputs or outputs"),
    (set_attr("y", "Tin", list={"i": [1]}), "'Tin' that is no list(type)"),
    (
      set_attr("x", "shape", shape={"dim": [{"size": -7}]}),
      "a dimension of -7",
    ),
    (
      set_attr("x", "shape", shape={"dim": [{"size": 1}] * 300}),
      "300 dimensions",
    ),
    (content_is_cut, "holds 7"),
    (another_dtype, "another dtype than its value"),
    (returns_nothing, "does not say what its 'b' is"),
    (body_node_of_no_name, "function 'double' has a node ''"),
    (body_node_of_no_inputs, "has 0 inputs, and its op Add takes 2"),
    (body_node_without_dtype, "lacks attribute 'T'"),
    (deep, "too deep"),
    (body_reads("gone"), "reads 'gone', which is not in it"),
    (body_reads("s:nothing:0"), "reads 's:nothing:0', which is not in it"),
    (body_reads("^gone"), "reads '^gone', which is not in it"),
    (set_attr("m", "more", placeholder="T"), "that only a function can have"),
    (returns("s"), "returns 's', which is not in it"),
    (set_attr("m", "transpose\x0e", b=True), "which is no legal name"),
    (set_attr("m", "_class", list={"s": [b"\xff"]}), "not written in UTF-8"),
  ],
)
def test_what_later_code_relies_on_is_checked(edit, words):
  assert words in flaw(edit)


def test_who_calls_a_function_says_how_many_inputs_a_list_has():
  graph_def = text.loads(
    """
    x = Placeholder() {shape=[?,2]}
    y = sum(x, x) {T=float, N=2}
    function sum(a +"type_attr: 'T' number_attr: 'N'") ->
        (b +"type_attr: 'T'" = s:sum:0) { s = AddN(a) {T=$T, N=$N} }
    """
  )
  signature = graph_def.library.function[0].signature
  signature.attr.add(name="T", type="type")
  signature.attr.add(name="N", type="int")
  refuse_unsound(graph_def, Signatures(), "it")


def test_an_op_of_the_file_says_what_its_types_are():
  own = OpDef(name="MyOwn", output_arg=[{"name": "z", "type_attr": "U"}])

  def edit(nodes, function):
    nodes["m"].op = "MyOwn"

  assert "'z' of no known type" in flaw(edit, Signatures([own]))


def test_a_source_is_refused_as_it_is_read():
  graph_def = text.loads(GRAPH)
  graph_def.node[1].attr["value"].tensor.tensor_content = b"\0" * 7
  with pytest.raises(GraphError, match="use 'a GraphDef': node 'w'"):
    sources.read(Request("graph_def", graph_def))


def calling(counts):
  """A GraphDef of functions, each of which calls the one before it so often."""
  graph_def = text.loads("x = Placeholder() {shape=[?,2]}")
  last = "Neg"
  for number, count in enumerate(counts):
    function = graph_def.library.function.add()
    function.signature.name = f"f{number}"
    function.signature.input_arg.add(name="a", type=1)
    function.signature.output_arg.add(name="b", type=1)
    read = "a"
    for i in range(count):
      node = function.node_def.add(name=f"n{i}", op=last, input=[read])
      if last == "Neg":
        node.attr["T"].type = 1
      read = f"n{i}:{'y' if last == 'Neg' else 'b'}:0"
    function.ret["b"] = read
    last = f"f{number}"
  graph_def.node.add(name="y", op=last, input=["x"])
  return graph_def


def test_functions_may_not_call_each_other_too_deep():
  refuse_unsound(calling([1] * 100), Signatures(), "it")
  with pytest.raises(GraphError, match="more than 200 deep"):
    refuse_unsound(calling([1] * 10000), Signatures(), "it")


def test_functions_may_not_call_themselves():
  graph_def = calling([1, 1])
  graph_def.library.function[0].node_def[0].op = "f1"
  del graph_def.library.function[0].node_def[0].attr["T"]
  graph_def.library.function[0].ret["b"] = "n0:b:0"
  with pytest.raises(GraphError, match="'f0' calls itself"):
    refuse_unsound(graph_def, Signatures(), "it")


def test_functions_that_call_others_twice_have_a_bound():
  model = sources.open(Request("graph_def", calling([2] * 40), outputs=("y",)))
  with pytest.raises(GraphError, match="more than 1000000 nodes"):
    InlineFunctions().apply(model)


def test_what_is_sound_at_one_op_is_looked_at_again_at_another():
  def edit(nodes, function):
    # Any op takes an attribute of its own; MatMul has one of that name.
    nodes["x"].attr["transpose_a"].i = 1
    nodes["m"].attr["transpose_a"].i = 1

  assert "'transpose_a' that is no bool" in flaw(edit)


def test_each_node_with_an_unsound_attribute_is_refused():
  for name in ("m", "n"):
    assert "is of type" in flaw(set_attr(name, "T", type=77))
