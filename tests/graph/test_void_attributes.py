# SPDX-License-Identifier: Apache-2.0
"""What only a newer TensorFlow's op has, and that changes nothing, is dropped."""

import pytest

from bnexport import tf1 as installed
from bnexport.graph import void_attributes
from bnexport.graph.void_attributes import drop_void_attributes
from bnexport.tf1 import OpDef, tf1


@pytest.fixture(name="old_ops", autouse=True)
def _old_ops(monkeypatch):
  """Ops as a TensorFlow has them that came before all later attributes."""

  def op_def(op):
    known = installed.op_def(op)
    if known is None:
      return None
    later = {"MatMul": {"grad_a", "grad_b"}, "Conv2D": {"explicit_paddings"}}
    old = OpDef(name=op)
    old.attr.extend(a for a in known.attr if a.name not in later.get(op, ()))
    return old

  void_attributes._attributes.cache_clear()
  monkeypatch.setattr(void_attributes, "op_def", op_def)
  yield
  void_attributes._attributes.cache_clear()


def _graph(op, **attributes):
  graph_def = tf1.GraphDef()
  node = graph_def.node.add(name="n", op=op)
  for key, value in attributes.items():
    node.attr[key].CopyFrom(value)
  return graph_def


def _bool(value):
  return tf1.AttrValue(b=value)


def test_a_default_is_dropped_and_the_given_graph_stays():
  given = _graph("MatMul", grad_a=_bool(False), transpose_a=_bool(True))
  made = drop_void_attributes(given)
  assert list(made.node[0].attr) == ["transpose_a"]
  assert "grad_a" in given.node[0].attr


def test_a_hint_is_dropped_whatever_it_says():
  made = drop_void_attributes(_graph("MatMul", grad_b=_bool(True)))
  assert not made.node[0].attr


def test_bodies_of_functions_are_looked_at():
  given = tf1.GraphDef()
  body = given.library.function.add()
  body.signature.name = "f"
  node = body.node_def.add(name="n", op="MatMul")
  node.attr["grad_a"].b = False
  made = drop_void_attributes(given)
  assert not made.library.function[0].node_def[0].attr


@pytest.mark.parametrize(
  ["op", "key", "value"],
  [
    ("Conv2D", "explicit_paddings", tf1.AttrValue(list={"i": [0, 0, 1, 1]})),
    ("MatMul", "transpose_a", _bool(False)),
    ("MatMul", "_class", _bool(False)),
    ("MatMul", "no_such_attribute", _bool(False)),
    ("NoSuchOp", "grad_a", _bool(False)),
  ],
)
def test_what_may_change_something_stays(op, key, value):
  given = _graph(op, **{key: value})
  assert drop_void_attributes(given) is given
