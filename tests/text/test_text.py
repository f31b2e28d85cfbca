# SPDX-License-Identifier: Apache-2.0
"""Graphs as text: round trips, what is filled in, errors, abbreviation."""

import numpy as np
import pytest
import zoo
from google.protobuf import text_format
from judges.counting import assert_linear

from bnexport import text
from bnexport.errors import GraphError
from bnexport.graph import Graph
from bnexport.graph.nodes import tensor_attr
from bnexport.tf1 import op_def, tf1

CASES = [
  "flow_if_fused",
  "loop_rnn_cell_literal",
  "layers_resource_sequence",
  "dropout_in_rnn",
  "layers_volume_literal",
]
# Name of a node, an op, a key, a string or whatever is quoted.
ODD = [
  "",
  " ",
  "a b",
  "a,b",
  "(a)",
  'a"b',
  "a\\",
  "a\nb\t",
  "\u00e4\u4e2d",
  "^a",
  "a#b",
  "a=b",
  "->",
  "graph",
  "function",
  "...",
  "?",
  "3",
  "true",
  "float",
  "\x00",
]


def serialized(proto):
  return proto.SerializeToString(deterministic=True)


def assert_round_trip(graph_def):
  """Asserts that a graph comes back from its text, byte by byte."""
  again = text.loads(text.dumps(graph_def))
  assert [node.name for node in again.node] == [
    node.name for node in graph_def.node
  ]
  for one, other in zip(graph_def.node, again.node):
    assert serialized(one) == serialized(other), one.name
  assert serialized(again) == serialized(graph_def)


def graph_of(attrs):
  """A graph of one node with these attributes."""
  graph_def = tf1.GraphDef()
  node = graph_def.node.add(name="y", op="Unheard")
  for key, value in attrs.items():
    node.attr[key].CopyFrom(value)
  return graph_def


def attr(proto_text):
  return text_format.Parse(proto_text, tf1.AttrValue())


def value_text(value):
  """An attribute as it is written."""
  line = text.dumps(graph_of({"k": value}), brief=True)
  return line[len("y = Unheard() {k=") : -1]


# Round trips.


@pytest.mark.parametrize(
  "change",
  [
    lambda graph_def: graph_def.node.add(),
    lambda graph_def: graph_def.node[0].attr.pop("k"),
    lambda graph_def: graph_def.node[0].input.append("x"),
    lambda graph_def: graph_def.library.function.add(),
    lambda graph_def: graph_def.versions.SetInParent(),
  ],
)
def test_round_trip_can_fail(monkeypatch, change):
  def changing_loads(written):
    graph_def = loads(written)
    change(graph_def)
    return graph_def

  loads = text.loads
  graph_def = graph_of({"k": attr("i: 3")})
  assert_round_trip(graph_def)
  monkeypatch.setattr(text, "loads", changing_loads)
  with pytest.raises(AssertionError):
    assert_round_trip(graph_def)


@pytest.mark.parametrize("name", CASES)
def test_zoo_round_trip(cases, name):
  case = cases(name)
  meta_graph = tf1.MetaGraphDef()
  with open(case.prefix + ".meta", "rb") as f:
    meta_graph.ParseFromString(f.read())
  assert len(meta_graph.graph_def.node) > 100
  assert_round_trip(meta_graph.graph_def)
  if case.naive:
    naive = tf1.GraphDef()
    with open(case.naive, "rb") as f:
      naive.ParseFromString(f.read())
    assert_round_trip(naive)


@pytest.mark.parametrize("name", CASES)
def test_brief_text_gives_the_same_graph(cases, name):
  """Up to notes and defaults that TensorFlow assumes anyway."""
  meta_graph = tf1.MetaGraphDef()
  with open(cases(name).prefix + ".meta", "rb") as f:
    meta_graph.ParseFromString(f.read())
  graph_def = meta_graph.graph_def
  again = text.loads(text.dumps(graph_def, brief=True))
  pairs = list(zip(graph_def.node, again.node))
  assert len(pairs) == len(graph_def.node) == len(again.node)
  for f, g in zip(graph_def.library.function, again.library.function):
    pairs.extend(zip(f.node_def, g.node_def))
  for node, read in pairs:
    assert (node.name, node.op, list(node.input), node.device) == (
      read.name,
      read.op,
      list(read.input),
      read.device,
    )
    for key, value in node.attr.items():
      if not key.startswith("_"):
        assert read.attr[key] == value, (node.name, key)


@pytest.mark.parametrize("odd", ODD)
def test_odd_names(odd):
  graph_def = tf1.GraphDef()
  node = graph_def.node.add(name=odd, op=odd, device=odd)
  node.input.extend([odd, "^" + odd, odd + ":1", "^" + odd])
  node.attr[odd].s = odd.encode()
  node.attr[odd + "f"].func.name = odd
  node.attr[odd + "f"].func.attr[odd].i = 3
  node.attr[odd + "p"].placeholder = odd
  function = graph_def.library.function.add()
  function.signature.name = odd
  function.signature.input_arg.add(name=odd, type=1)
  function.signature.output_arg.add(name=odd, type=1)
  function.ret[odd] = odd
  function.signature.control_output.append(odd)
  function.control_ret[odd] = odd
  function.node_def.add(name=odd, op=odd, input=[odd])
  assert_round_trip(graph_def)


def test_words_of_the_notation_are_names_as_well():
  for first, then in (("graph", "function"), ("function", "graph")):
    read = text.loads(
      f"{first} = Placeholder() {{shape=[2]}}  {then} = Relu({first})"
    )
    assert [node.name for node in read.node] == [first, then]
    assert read.node[1].attr["T"].type == tf1.float32.as_datatype_enum


VALUES = {
  "i: 3": "3",
  "i: -9223372036854775808": "-9223372036854775808",
  "f: 0.1": "0.1",
  "f: 1e-45": "1e-45",
  "f: 3.4028235e+38": "3.4028235e38",
  "f: 1": "1.0",
  "f: -0.0": "-0.0",
  "f: inf": "inf",
  "f: -inf": "-inf",
  "f: nan": "nan",
  "b: true": "true",
  "b: false": "false",
  "type: DT_FLOAT": "float",
  "type: DT_FLOAT_REF": "float_ref",
  "type: DT_RESOURCE": "resource",
  "type: DT_INVALID": "invalid",
  r's: "NHWC"': '"NHWC"',
  r's: "a\"\\\n\t\000\377"': r'"a\"\\\n\t\x00\xff"',
  's: ""': '""',
  "shape { dim { size: -1 } dim { size: 3 } }": "[?,3]",
  "shape { }": "[]",
  "shape { unknown_rank: true }": "?",
  "list { }": "()",
  "list { i: 1 i: 2 }": "(1, 2)",
  'list { s: "a" s: "" }': '("a", "")',
  "list { f: 1 f: 2.5 }": "(1.0, 2.5)",
  "list { b: true b: false }": "(true, false)",
  "list { type: DT_FLOAT type: DT_INT32 }": "(float, int32)",
  "list { shape { unknown_rank: true } shape { } }": "(?, [])",
  'list { func { name: "f" } }': "(f{})",
  "list { tensor { dtype: DT_FLOAT tensor_shape { } float_val: 1 } }": "(<float 1>)",
  'func { name: "f" attr { key: "T" value { type: DT_INT32 } } }': "f{T=int32}",
  'placeholder: "T"': "$T",
  # No notation of their own.
  "": '+""',
  "type: 57": '+"type: 57"',
  'shape { dim { size: 2 name: "n" } }': r'+"shape { dim { size: 2 name: \"n\" } }"',
}


@pytest.mark.parametrize("proto_text, expected", sorted(VALUES.items()))
def test_values(proto_text, expected):
  value = attr(proto_text)
  assert value_text(value) == expected
  assert_round_trip(graph_of({"k": value}))


def test_what_people_write():
  node = text.loads("y = Unheard() {a=NHWC, b=float32, c=1e3, d=.5}").node[0]
  assert node.attr["a"] == attr('s: "NHWC"')
  assert node.attr["b"] == attr("type: DT_FLOAT")
  assert node.attr["c"] == attr("f: 1000")
  assert node.attr["d"] == attr("f: 0.5")


TENSORS = [
  (np.float32([1, 2.5, -0.0]), "<float [3] 1 2.5 -0>"),
  (np.float32(0.1), "<float 0.1>"),
  (np.float32([0.1]), "<float [1] 0.1>"),
  (np.float64([[0.1], [1e300]]), "<double [2,1] 0.1 1e300>"),
  (np.float16([0.1, 6e-8]), "<half [2] 0.1 6e-08>"),
  (np.float16(0.1), "<half 0.1>"),
  (np.float32([np.inf, -np.inf, np.nan]), "<float [3] inf -inf nan>"),
  (np.int8([-128, 127]), "<int8 [2] -128 127>"),
  (np.uint8(255), "<uint8 255>"),
  (np.int16([3]), "<int16 [1] 3>"),
  (np.uint16([3, 65535]), "<uint16 [2] 3 65535>"),
  (np.int32([]), "<int32 [0]>"),
  (
    np.int64([-(2**63), 2**63 - 1]),
    "<int64 [2] -9223372036854775808 9223372036854775807>",
  ),
  (np.uint32(2**32 - 1), "<uint32 4294967295>"),
  (np.uint64([2**64 - 1, 0]), "<uint64 [2] 18446744073709551615 0>"),
  (np.array([True, False]), "<bool [2] true false>"),
  (np.array([b"a", b"", b'\xff"'], object), r'<string [3] "a" "" "\xff\"">'),
  (np.complex64(1 - 2j), "<complex64 1 -2>"),
  (np.complex128([1j, 2.5]), "<complex128 [2] 0 1 2.5 0>"),
]


@pytest.mark.parametrize(
  "array, expected", TENSORS, ids=[expected for _, expected in TENSORS]
)
def test_tensors(array, expected):
  made = tensor_attr(array)
  # TensorFlow 1 lists halves, which are packed later.
  assert value_text(made).replace("half [2] listed", "half [2]") == expected
  assert_round_trip(graph_of({"value": made}))


def test_bfloat16():
  array = np.array([0.5, -3]).astype(tf1.bfloat16.as_numpy_dtype)
  made = tensor_attr(array)
  assert value_text(made).replace("listed ", "") == "<bfloat16 [2] 0.5 -3>"
  assert_round_trip(graph_of({"value": made}))


STORED = [
  (
    "dtype: DT_FLOAT tensor_shape { dim { size: 2 } } float_val: 1 "
    "float_val: 2",
    "<float [2] listed 1 2>",
  ),
  (
    r'dtype: DT_INT32 tensor_shape { } tensor_content: "\001\000\000\000"',
    "<int32 packed 1>",
  ),
  (
    "dtype: DT_FLOAT tensor_shape { dim { size: 3 } } float_val: 1 "
    "float_val: 2",
    "<float [3] 1 2>",
  ),
  ("dtype: DT_FLOAT tensor_shape { dim { size: 3 } }", "<float [3]>"),
  (
    "dtype: DT_FLOAT tensor_shape { unknown_rank: true } float_val: 1",
    "<float ? 1>",
  ),
  # No notation of their own.
  (
    "dtype: DT_FLOAT tensor_shape { dim { size: 2 } } tensor_content: 'abc'",
    None,
  ),
  ("dtype: DT_FLOAT tensor_shape { } float_val: 1 int_val: 2", None),
  ("dtype: DT_FLOAT float_val: 1", None),
  ("dtype: DT_QINT8 tensor_shape { } int_val: 2", None),
  ("tensor_shape { }", None),
  (
    r"dtype: DT_FLOAT tensor_shape { } tensor_content: '\001\000\300\377'",
    None,
  ),  # a NaN with a payload
]


@pytest.mark.parametrize("proto_text, expected", STORED)
def test_ways_to_store_a_tensor(proto_text, expected):
  made = attr("tensor { %s }" % proto_text)
  if expected is None:
    assert value_text(made).startswith('+"tensor {')
  else:
    assert value_text(made) == expected
  assert_round_trip(graph_of({"value": made}))


def test_one_value_of_a_huge_shape_stays_one():
  made = attr(
    "tensor { dtype: DT_FLOAT tensor_shape { dim { size: 1000000 } "
    "dim { size: 1000000 } } float_val: 0.5 }"
  )
  # Its elements would fill 4 TB.
  assert value_text(made) == "<float [1000000,1000000] 0.5>"
  assert_round_trip(graph_of({"value": made}))
  short = text.dumps(graph_of({"value": made}), largest=1, brief=True)
  assert "0.5>" in short


def test_abbreviation():
  graph_def = graph_of(
    {
      "value": tensor_attr(np.arange(6.0).reshape(2, 3)),
      "other": tensor_attr(np.int32([1, 2])),
    }
  )
  for largest, is_short in ((5, True), (6, False)):
    written = text.dumps(graph_def, largest=largest)
    assert ("<double [2,3] ...>" in written) == is_short
    assert "<int32 [2] 1 2>" in written
  with pytest.raises(GraphError) as raised:
    text.loads(text.dumps(graph_def, largest=5, brief=True))
  assert str(raised.value) == (
    "cannot read the graph at line 1, column 59: the values of this tensor "
    "are left out; dump it whole"
  )


FULL = r"""
  node { name: "a" op: "Unheard" input: "^c" input: "b" input: "b:1"
         device: "/gpu:0" }
  node { name: "a" op: "Again" experimental_debug_info {
           original_node_names: "q\"" } }
  versions { producer: 134 min_consumer: 12 bad_consumers: 3 bad_consumers: 4 }
  library {
    function {
      signature { name: "f" is_stateful: true description: "it"
        input_arg { name: "x" type: DT_FLOAT description: "d" }
        input_arg { name: "t" type_attr: "T" }
        output_arg { name: "y" type: DT_FLOAT } output_arg { name: "z" }
        attr { name: "T" type: "type" }
        control_output: "c" control_output: "d" }
      attr { key: "_noinline" value { b: true } }
      node_def { name: "n" op: "Neg" input: "x"
                 attr { key: "T" value { placeholder: "T" } } }
      ret { key: "y" value: "n:y:0" } ret { key: "w" value: "n:y:0" }
      control_ret { key: "c" value: "n" }
    }
    function { signature { } }
    gradient { function_name: "f" gradient_func: "g" }
  }"""


def test_everything_a_graph_def_holds():
  assert_round_trip(text_format.Parse(FULL, tf1.GraphDef()))


@pytest.mark.parametrize(
  "proto_text",
  [
    "",
    "versions { }",
    "versions { min_consumer: 3 }",
    "library { }",
    'library { gradient { function_name: "f" } }',
  ],
)
def test_graphs_without_nodes(proto_text):
  assert_round_trip(text_format.Parse(proto_text, tf1.GraphDef()))


def test_full_text():
  graph_def = text_format.Parse(FULL, tf1.GraphDef())
  lines = text.dumps(graph_def).splitlines()
  assert lines[0].startswith(
    "graph {complete=true, producer=134, min_consumer=12, "
    "bad_consumers=(3, 4)} +"
  )
  assert lines[1].startswith(
    r'function f(x float +"description: \"d\"", t +"type_attr: \"T\"") '
    "{_noinline=true} -> (y float = n:y:0, z, ^c = n, ^d) +"
  )
  assert lines[2:4] == ["  n = Neg(x) {T=$T}", "}"]
  assert lines[-2] == 'a = Unheard(^c, b, b:1) @"/gpu:0"'


def test_what_can_be_dumped():
  graph_def = text.loads("x = Placeholder()   y = Relu(x)")
  whole = text.dumps(graph_def, brief=True)
  assert whole == "x = Placeholder()\ny = Relu(x)"
  assert text.dumps(Graph(graph_def), brief=True) == whole
  assert text.dumps(list(graph_def.node), brief=True) == whole
  assert text.dumps(graph_def.node[1], brief=True) == "y = Relu(x)"


def test_dumps_leaves_its_graph_alone():
  graph_def = text.loads(
    "x = Placeholder() {_output_shapes=([])}   y = Relu(x)"
  )
  before = serialized(graph_def)
  text.dumps(graph_def, brief=True)
  text.dumps(graph_def, largest=0)
  assert serialized(graph_def) == before


def test_layout_is_free():
  spread = text.loads("""
    # A comment.
    y = Add(
      a,  # another
      b) {
        T = int32 }
    z=Neg(y)""")
  assert spread == text.loads("y = Add(a, b) {T=int32}   z = Neg(y)")


# What is left out.


def filled(statements, name="y"):
  nodes = {node.name: node for node in text.loads(statements).node}
  return {key: value_text(value) for key, value in nodes[name].attr.items()}


@pytest.mark.parametrize(
  "statements, expected",
  [
    ("y = Relu(x)", {"T": "float"}),
    ("x = Placeholder() {dtype=int32}   y = Neg(x)", {"T": "int32"}),
    ("y = Neg(x)   x = Const() {value=<int64 3>}", {"T": "int64"}),
    ("x = Split(d, v) {T=half, num_split=2}   y = Neg(x:1)", {"T": "half"}),
    ("y = Add(q, x)   x = Placeholder() {dtype=double}", {"T": "double"}),
    (
      "y = Merge(e, n)  n = NextIteration(y)  e = Enter(x) {T=int32}",
      {"T": "int32", "N": "2"},
    ),
    ("y = Merge(n)   n = NextIteration(y)", {"T": "float", "N": "1"}),
    (
      "y = ConcatV2(a, b, c, axis, ^d)",
      {"T": "float", "N": "3", "Tidx": "int32"},
    ),
    (
      "x = Const() {dtype=int32}   y = IdentityN(x, z)",
      {"T": "(int32, float)"},
    ),
    (
      "y = RandomUniform(n)",
      {"T": "int32", "dtype": "float", "seed": "0", "seed2": "0"},
    ),
    ("y = Const()", {"dtype": "float", "value": "<float 0>"}),
    ("y = Const() {dtype=string}", {"dtype": "string", "value": '<string "">'}),
    ("y = Placeholder()", {"dtype": "float", "shape": "?"}),
    (
      "y = VariableV2()",
      {"dtype": "float", "shape": "[]", "container": '""', "shared_name": '""'},
    ),
    (
      "y = MaxPool(x) {ksize=[1,2,2,1]}",
      {"ksize": "(1, 2, 2, 1)", "strides": "(1, 1, 1, 1)", "padding": '"SAME"'},
    ),
    (
      "y = Conv2D(x, w)",
      {"strides": "(1, 1, 1, 1)", "padding": '"SAME"', "data_format": '"NHWC"'},
    ),
    ("y = LeakyRelu(x) {alpha=1}", {"alpha": "1.0"}),
    ("y = Unheard(x)", {}),
    (
      "y = If(p, x) {then_branch=f{}}",
      {"Tcond": "float", "Tin": "(float)", "Tout": "()", "then_branch": "f{}"},
    ),
    ("function f(a int32, b half) -> (p int32, q half) { } y = f(i, j)", {}),
    (
      "function f(a int32) -> (p int32, q half) { } x = f(i)   y = Neg(x:1)",
      {"T": "half"},
    ),
  ],
)
def test_filled_in(statements, expected):
  found = filled(statements)
  assert {key: found.get(key) for key in expected} == expected
  if not expected:
    assert not found
  assert ("else_branch" in found) is False


def test_functions_are_filled_in():
  graph_def = text.loads("""
    function f(a int32) -> (b int32 = n:y:0) {
      s = Split(a, a) {num_split=2}
      n = Neg(s:output:1)
    }""")
  split, neg = graph_def.library.function[0].node_def
  assert split.attr["T"].type == neg.attr["T"].type == 3


def test_complete_graphs_are_left_as_they_are():
  graph_def = text.loads("graph {complete=true}   y = Relu(x)")
  assert not graph_def.node[0].attr
  graph_def = text.loads("graph {producer=9}   y = Relu(x)")
  assert graph_def.node[0].attr and graph_def.versions.producer == 9


def test_example_can_run():
  """What is filled in is what TensorFlow wants."""
  graph_def = text.loads("""
    x = Placeholder() {shape=[1,4,4,2]}
    w = Const() {value=<float [1,1,2,3] 2>}   c = Conv2D(x, w)
    g = Const() {value=<float [3] 1>}
    b = Const() {value=<float [3] 0>}
    n = FusedBatchNorm(c, g, b, b, g) {is_training=false, epsilon=0.0}
    i = Const() {value=<int32 [3] 0 1 2>}   y = Sum(n, i)""")
  graph = tf1.Graph()
  with graph.as_default():
    tf1.import_graph_def(graph_def, name="")
    with tf1.Session() as session:
      answer = session.run("y:0", {"x:0": np.ones([1, 4, 4, 2])})
  np.testing.assert_allclose(answer, [64, 64, 64], rtol=1e-6)


def test_bad_graphs_can_be_written():
  graph_def = text.loads("y = Neg(^b, gone)   y = Neg(y)")
  assert [list(node.input) for node in graph_def.node] == [
    ["^b", "gone"],
    ["y"],
  ]
  assert [node.name for node in graph_def.node] == ["y", "y"]


def test_time_is_linear():
  """Each statement reads the next one, so types come from the end."""

  def prepare(count):
    lines = ["n%d = Relu(n%d)" % (i, i + 1) for i in range(count)]
    lines.append("n%d = Placeholder() {dtype=half}" % count)

    def work():
      graph_def = text.loads("\n".join(lines))
      assert graph_def.node[0].attr["T"].type == tf1.float16.as_datatype_enum

    return work

  assert_linear(prepare, 200, 1000)


# Errors.


@pytest.mark.parametrize(
  "statements, line, column, fact",
  [
    ("y", 1, 2, "expected '=', found the end"),
    ("y = ", 1, 5, "expected an op, found the end"),
    ("y = Relu(x", 1, 11, "expected ',' or ')', found the end"),
    ("y = Relu(x b)", 1, 12, "expected ',' or ')', found 'b'"),
    ("y = Relu(x,, b)", 1, 12, "expected an input or ')', found ','"),
    ("x = Neg(a)\n y = Relu[x]", 2, 10, "expected '(', found '['"),
    ("x = Neg(a)   = Relu(x)", 1, 14, "expected a statement, found '='"),
    ("y = Relu(x) {T float}", 1, 16, "expected '=', found 'float'"),
    (
      "y = Relu(x) {T=flaot}",
      1,
      16,
      "expected a value; strings are quoted, found 'flaot'",
    ),
    ("y = Relu(x) {T=}", 1, 16, "expected a value, found '}'"),
    (
      "y = Relu(x) {a=99999999999999999999}",
      1,
      16,
      "expected a value, found '99999999999999999999'",
    ),
    ("y = Relu(x) {a=[1,b]}", 1, 19, "expected a size, '?' or ']', found 'b'"),
    (
      "y = Relu(x) {a=(1, (2))}",
      1,
      20,
      "expected a value that lists can hold, found '('",
    ),
    ("y = Relu(x) {a=<flaot 1>}", 1, 17, "expected a type, found 'flaot'"),
    (
      "y = Relu(x) {a=<float 1 x>}",
      1,
      23,
      "expected numbers of this dtype, found '1'",
    ),
    (
      "y = Relu(x) {a=<int8 300>}",
      1,
      22,
      "expected numbers of this dtype, found '300'",
    ),
    (
      "y = Relu(x) {a=<bool 1>}",
      1,
      22,
      "expected numbers of this dtype, found '1'",
    ),
    ("y = Relu(x) {a=<string a>}", 1, 24, "expected '>', found 'a'"),
    (
      "y = Relu(x) {a=<resource 1>}",
      1,
      26,
      "expected numbers of this dtype, found '1'",
    ),
    ('y = Relu(x) {a="b}', 1, 16, "expected a value, found '\"'"),
    (
      r'y = Relu(x) {a="\q"}',
      1,
      16,
      r"""expected a string with no escapes but \n \t \" \\ \xNN, """
      r"""found '"\q"'""",
    ),
    (
      r'"\xff" = Relu(x)',
      1,
      1,
      r"""expected a statement in UTF-8, found '"\xff"'""",
    ),
    ("y = Relu(\u00e4)", 1, 10, "expected an input or ')', found '\u00e4'"),
    (
      "graph {producer=3.5, colour=1}",
      1,
      7,
      "expected complete, producer, min_consumer and bad_consumers, found '{'",
    ),
    ("x = Neg(a) graph {}", 1, 18, "expected '=', found '{'"),
    ("function f(x) { }", 1, 18, "expected '->', found the end"),
    ("function f(x) -> () { y }", 1, 25, "expected '=', found '}'"),
  ],
)
def test_errors_say_where(statements, line, column, fact):
  with pytest.raises(GraphError) as raised:
    text.loads(statements)
  assert str(raised.value) == (
    "cannot read the graph at line %d, column %d: %s" % (line, column, fact)
  )


def test_deep_functions_are_one_line():
  for depth, is_read in ((40, True), (60, False), (99999, False)):
    statement = "a = b() {" + "f=g{" * depth + "}" * depth + "}"
    if is_read:
      assert text.loads(statement).node[0].attr["f"].func.name == "g"
      continue
    with pytest.raises(
      GraphError, match="line 1, column 2.* more than 50 deep"
    ):
      text.loads(statement)


def test_text_format_errors_are_one_line():
  with pytest.raises(GraphError) as raised:
    text.loads('y = Relu(x) +"colour: 3"')
  said = str(raised.value)
  assert said.startswith(
    "cannot read the graph at line 1, column 14: expected "
    "NodeDef in text format ("
  )
  assert "\n" not in said


def test_ops_of_the_examples_are_known():
  for op in ("Relu", "If", "LeakyRelu"):
    assert op_def(op) is not None
  assert op_def("Unheard") is None
  assert CASES == [name for name in CASES if name in zoo.names()]
