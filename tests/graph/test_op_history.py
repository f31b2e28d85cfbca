# SPDX-License-Identifier: Apache-2.0
"""What is on record of TensorFlow's ops, against the TensorFlow at hand."""

import importlib.util
import os

import pytest
from judges.commands import ROOT

from bnexport.errors import Error
from bnexport.graph import Graph, op_history
from bnexport.tf1 import op_def, tf1

_VERSION = ".".join(tf1.__version__.split(".")[:2])
_SCRIPT = os.path.join(
  ROOT,
  "scripts",
  "op_history.py",
)


@pytest.fixture(scope="module")
def script():
  spec = importlib.util.spec_from_file_location("script", _SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_versions():
  assert op_history.known_versions() == ("1.4", "1.8", "1.12", "1.15", "2.21")
  assert op_history.graph_versions("1.4") == (24, 0)
  assert op_history.graph_versions("1.15") == (134, 0)


@pytest.mark.parametrize(
  "version, known",
  [
    ("1.4", "1.4"),
    ("1.4.1", "1.4"),
    ("1.5", "1.4"),
    ("1.13.2", "1.12"),
    ("1.15", "1.15"),
    ("2.3", "1.15"),
    ("2.99", "2.21"),
  ],
)
def test_versions_between_count_as_the_older(version, known):
  assert op_history.counts_as(version) == known


@pytest.mark.parametrize("version", ["1.3", "0.12", "2", "two.one", "", None])
def test_other_versions_are_refused(version):
  with pytest.raises(Error, match="^cannot use TensorFlow '.*': .*; "):
    op_history.counts_as(version)


@pytest.mark.parametrize(
  "op, since",
  [
    ("Conv2D", "1.4"),
    ("FusedBatchNorm", "1.4"),
    ("FusedBatchNormV2", "1.4"),
    ("AddV2", "1.8"),
    ("EnsureShape", "1.12"),
    ("FusedBatchNormV3", "1.15"),
    ("BatchMatMulV3", "2.21"),
    ("NoSuchOp", None),
  ],
)
def test_since(op, since):
  assert op_history.since(op) == since
  for version in op_history.known_versions():
    known = (
      since is not None
      and version
      in op_history.known_versions()[op_history.known_versions().index(since) :]
    )
    assert op_history.knows(version, op) == known


def test_ops_that_are_gone():
  assert op_history.knows("1.4", "SaveIterator")
  assert not op_history.knows("1.8", "SaveIterator")


def test_ops_with_other_arguments_are_other_ops():
  """TF 1.8's TensorListStack had no input for the shape."""
  assert op_history.since("TensorListStack") == "1.15"


def test_attributes():
  assert op_history.attributes_since("Conv2D", "padding") == "1.4"
  assert op_history.attributes_since("Conv2D", "dilations") == "1.8"
  assert op_history.attributes_since("Conv2D", "explicit_paddings") == "1.15"
  assert op_history.attributes_since("Conv2D", "colour") is None
  assert op_history.attributes_since("NoSuchOp", "T") is None
  assert list(op_history.default("Conv2D", "dilations").list.i) == [1, 1, 1, 1]
  assert op_history.default("Conv2D", "explicit_paddings").HasField("list")
  assert op_history.default("Conv2D", "padding") is None
  assert op_history.default("NoSuchOp", "T") is None


def test_allowed_values():
  assert op_history.allowed("1.4", "Conv2D", "padding") == ("SAME", "VALID")
  assert "EXPLICIT" in op_history.allowed("1.15", "Conv2D", "padding")
  assert op_history.allowed("1.4", "FusedBatchNorm", "data_format") == ()
  assert op_history.allowed("1.4", "NoSuchOp", "T") == ()


def test_record_agrees_with_this_tensorflow(script):
  """What is on record for it is what it registers."""
  if _VERSION not in op_history.known_versions():
    pytest.skip("the ops of TF %s are not on record" % _VERSION)
  # Libraries that other tests load, as tf.contrib's, register more.
  registered = {op.name: op for op in script.registered_ops()}
  known = {op for op in op_history.ops() if op_history.knows(_VERSION, op)}
  assert len(known) > 1000
  assert known <= set(registered)
  for name in known:
    for attr in registered[name].attr:
      assert op_history.knows_attribute(_VERSION, name, attr.name)
      values = list(attr.allowed_values.list.type)
      values += [s.decode() for s in attr.allowed_values.list.s]
      on_record = op_history.allowed(_VERSION, name, attr.name)
      assert set(on_record) == set(values)
      later = op_history.default(name, attr.name)
      assert later is None or later == attr.default_value


def test_script_adds_a_version(script):
  """What a newer TensorFlow changes is noted, what it keeps is not."""
  history = {"versions": {}, "allowed": [[]], "ops": {}}
  old, new, gone = op_def("Relu"), type(op_def("Relu"))(), op_def("Neg")
  new.CopyFrom(old)
  new.attr.add(name="slope", type="float").default_value.f = 0.5
  new.attr[0].allowed_values.list.type.append(19)
  script.add_version(history, "3.0", {"producer": 1}, [old, gone])
  script.add_version(history, "3.1", {"producer": 2}, [new])
  entry = history["ops"]["Relu"]
  assert (entry["since"], entry["attributes"]) == ("3.0", "T")
  assert entry["later"] == {"slope": ["3.1", "f: 0.5"]}
  assert [state.split(":")[0] for state in entry["allowed"]["T"].split()] == [
    "3.0",
    "3.1",
  ]
  assert history["ops"]["Neg"]["until"] == "3.0"
  assert "until" not in entry


def graph_of(*nodes):
  made = tf1.GraphDef()
  for op, attrs in nodes:
    node = made.node.add(name="n%d" % len(made.node), op=op)
    for key, value in attrs.items():
      node.attr[key].CopyFrom(value)
  return made


def ints(*values):
  made = tf1.AttrValue()
  made.list.i.extend(values)
  return made


def test_newer_than():
  graph_def = graph_of(
    ("AddV2", {"T": tf1.AttrValue(type=1)}),
    ("Conv2D", {"dilations": ints(1, 1, 1, 1)}),
    ("Conv2D", {"dilations": ints(1, 2, 2, 1)}),
    ("Conv2D", {"padding": tf1.AttrValue(s=b"EXPLICIT")}),
    ("Relu", {"T": tf1.AttrValue(type=22), "_own": tf1.AttrValue(i=3)}),
    ("Relu", {"colour": tf1.AttrValue(b=True)}),
    ("MyOp", {}),
  )
  found = [newer[:4] for newer in op_history.newer_than(graph_def, "1.4")]
  assert found == [
    ("n0", "AddV2", "op 'AddV2'", "1.8"),
    ("n2", "Conv2D", "attribute 'dilations', here [1, 2, 2, 1]", "1.8"),
    ("n3", "Conv2D", "EXPLICIT of attribute 'padding'", "1.15"),
    ("n4", "Relu", "uint32 of attribute 'T'", "1.8"),
    ("n5", "Relu", "attribute 'colour', here True", None),
    ("n6", "MyOp", "op 'MyOp'", None),
  ]
  assert list(op_history.newer_than(Graph(graph_def), "1.4")) == list(
    op_history.newer_than(graph_def, "1.4")
  )
  left = [newer.node for newer in op_history.newer_than(graph_def, "1.12")]
  assert left == ["n3", "n5", "n6"]


def test_newer_than_looks_into_functions():
  graph_def = graph_of(("f", {}))
  function = graph_def.library.function.add()
  function.signature.name = "f"
  function.node_def.add(name="a", op="AddV2").attr["T"].placeholder = "T"
  function.node_def.add(name="b", op="f")
  for graph in (graph_def, Graph(graph_def)):
    (newer,) = op_history.newer_than(graph, "1.4")
    assert newer.node == "f/a"
  assert list(op_history.newer_than(graph_def, "1.8")) == []


def test_newer_than_leaves_the_graph_alone():
  """Looking for an attribute of a node must not add it."""
  graph_def = graph_of(("Conv2D", {}), ("FusedBatchNormV3", {}))
  before = graph_def.SerializeToString()
  list(op_history.newer_than(graph_def, "1.4"))
  assert graph_def.SerializeToString() == before
