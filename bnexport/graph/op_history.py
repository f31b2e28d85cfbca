# SPDX-License-Identifier: Apache-2.0
"""The ops, attributes and types that each TensorFlow knows.

Read from op_history.json, which scripts/op_history.py writes from the
registries of real TensorFlows. A version between two of them counts as the
older of the two: what is said to be known then really is. "Since 1.4" means
since 1.4 or before.

Only what `import tensorflow` registers is known, tf.contrib's ops are not.
"""

from __future__ import annotations

import functools
import json
import os
from typing import (
  Any,
  Dict,
  Iterable,
  Iterator,
  List,
  NamedTuple,
  Optional,
  Tuple,
  Union,
)

from google.protobuf import text_format

from bnexport.errors import Error
from bnexport.graph import Graph
from bnexport.tf1 import tf1

_FILE = os.path.join(os.path.dirname(__file__), "op_history.json")

# They say how to run a graph, or promise what a newer TensorFlow checks; what
# is computed is the same without them.
HINTS = frozenset(
  (
    ("TensorArrayV3", "identical_element_shapes"),
    ("If", "output_shapes"),
    ("StatelessIf", "output_shapes"),
    ("While", "output_shapes"),
    ("While", "parallel_iterations"),
    ("StatelessWhile", "output_shapes"),
    ("StatelessWhile", "parallel_iterations"),
    ("PartitionedCall", "config"),
    ("PartitionedCall", "config_proto"),
    ("PartitionedCall", "executor_type"),
    ("StatefulPartitionedCall", "config"),
    ("StatefulPartitionedCall", "config_proto"),
    ("StatefulPartitionedCall", "executor_type"),
    ("MatMul", "grad_a"),
    ("MatMul", "grad_b"),
    ("BatchMatMulV2", "grad_x"),
    ("BatchMatMulV2", "grad_y"),
    ("VarHandleOp", "debug_name"),
  )
)


class Newer(NamedTuple):
  """Something in a graph that an older TensorFlow does not know.

  Attributes:
    node: name of the node; "function/node" in a function.
    op: its op.
    what: what is not known, in words that follow the version's name.
    since: the oldest version known to have it; None where none has.
    attribute: the attribute it is about; None where it is the op.
  """

  node: str
  op: str
  what: str
  since: Optional[str]
  attribute: Optional[str] = None


class _Op(NamedTuple):
  since: str
  until: Optional[str]
  attributes: Dict[str, str]  # by name, the version it is known since
  defaults: Dict[str, str]  # of those that were added later
  allowed: Dict[str, Dict[str, tuple]]  # by attribute and version; () is any


def known_versions() -> Tuple[str, ...]:
  """The versions whose registries were read, oldest first."""
  return tuple(_data()["versions"])


def counts_as(version: str) -> str:
  """The newest known version that has nothing which `version` lacks.

  Args:
    version: "1.13", or with more parts as "1.13.2".

  Raises:
    Error: it is no version, or older than all that are known.
  """
  parts = str(version).split(".")
  if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
    raise Error(
      f"use TensorFlow '{version}'",
      "it is no version",
      f"write it as '{known_versions()[0]}'",
    )
  older = [v for v in known_versions() if _number(v) <= _number(version)]
  if not older:
    raise Error(
      f"use TensorFlow '{version}'",
      "what it knows is not on record",
      f"'{known_versions()[0]}' is the oldest that is",
    )
  return older[-1]


def is_older(version: str, other: str) -> bool:
  """Tells whether a version comes before another one, as 1.8 before 1.12."""
  return _number(counts_as(version)) < _number(other)


def graph_versions(version: str) -> Tuple[int, int]:
  """`producer` and `min_consumer` of the GraphDefs a version writes."""
  found = _data()["versions"][counts_as(version)]
  return found["producer"], found["min_consumer"]


def ops() -> Tuple[str, ...]:
  """Every op that any of the known versions has."""
  return tuple(_data()["ops"])


def since(op: str) -> Optional[str]:
  """The oldest version known to have `op`, or None.

  An op whose number of inputs or outputs was changed counts as new then.
  """
  found = _op(op)
  return found and found.since


def knows(version: str, op: str) -> bool:
  """Tells whether a version has `op`."""
  found = _op(op)
  if found is None:
    return False
  number = _number(counts_as(version))
  last = found.until is None or number <= _number(found.until)
  return _number(found.since) <= number and last


def attributes_since(op: str, attribute: str) -> Optional[str]:
  """The oldest version known whose `op` has the attribute, or None."""
  found = _op(op)
  return found and found.attributes.get(attribute)


def knows_attribute(version: str, op: str, attribute: str) -> bool:
  """Tells whether a version's `op` has the attribute."""
  first = attributes_since(op, attribute)
  if first is None or not knows(version, op):
    return False
  return _number(first) <= _number(counts_as(version))


def default(op: str, attribute: str) -> Optional[tf1.AttrValue]:
  """The AttrValue that an attribute added to `op` later has by default.

  It makes the op what it was without the attribute. None where the attribute
  was there from the first, or has no default.
  """
  found = _op(op)
  text = found and found.defaults.get(attribute)
  return None if text is None else text_format.Parse(text, tf1.AttrValue())


def allowed(version: str, op: str, attribute: str) -> tuple:
  """DataType enums or strings an attribute may have; () where any may be."""
  found = _op(op)
  states = found.allowed.get(attribute, {}) if found else {}
  values: tuple = ()
  for other, state in states.items():
    if _number(other) <= _number(counts_as(version)):
      values = state
  return values


def newer_than(
  graph: Union[Graph, tf1.GraphDef], version: str
) -> Iterator[Newer]:
  """Yields the ops, attributes and types of a graph that a version lacks.

  Attributes at the value that makes them void, and those that begin with an
  underscore, which TensorFlow lets pass, are not reported.

  Args:
    graph: a Graph or a GraphDef; its functions are looked at too.
    version: as "1.4".

  Yields:
    Newer, in the order of the nodes.
  """
  version = counts_as(version)
  nodes: Iterable[tf1.NodeDef]
  if isinstance(graph, Graph):
    nodes, functions = graph, list(graph.library.values())
  else:
    nodes, functions = graph.node, graph.library.function
  names = {function.signature.name for function in functions}
  for node in nodes:
    if node.op not in names:
      yield from newer_in_node(node, version)
  for function in functions:
    for node in function.node_def:
      if node.op not in names:
        path = f"{function.signature.name}/{node.name}"
        for newer in newer_in_node(node, version):
          yield newer._replace(node=path)


def newer_in_node(node: tf1.NodeDef, version: str) -> List[Newer]:
  """The op, attributes and types of a NodeDef that a version lacks."""
  if not knows(version, node.op):
    return [Newer(node.name, node.op, f"op '{node.op}'", since(node.op))]
  return [
    newer
    for key in sorted(node.attr)
    if not key.startswith("_")
    for newer in _newer_attribute(node, key, version)
  ]


def _newer_attribute(
  node: tf1.NodeDef, key: str, version: str
) -> Iterator[Newer]:
  attr = node.attr[key]
  first = attributes_since(node.op, key)
  if not knows_attribute(version, node.op, key):
    if first is None or attr != default(node.op, key):
      what = f"attribute '{key}', here {value_text(attr)}"
      yield Newer(node.name, node.op, what, first, key)
    return
  for value in _values(attr):
    if _is_allowed(value, version, node.op, key):
      continue
    later = [
      other
      for other in known_versions()
      if _number(other) > _number(counts_as(version))
      and _is_allowed(value, other, node.op, key)
    ]
    name = value if isinstance(value, str) else _type_name(value)
    yield Newer(
      node.name,
      node.op,
      f"{name} of attribute '{key}'",
      later[0] if later else None,
      key,
    )


def _values(attr: tf1.AttrValue) -> List[Union[int, str]]:
  """The types and strings in an AttrValue, for which an OpDef lists values."""
  if attr.HasField("type"):
    return [attr.type]
  if attr.HasField("s"):
    return [attr.s.decode("utf-8", "replace")]
  return list(attr.list.type)


def _is_allowed(
  value: Union[int, str], version: str, op: str, key: str
) -> bool:
  values = allowed(version, op, key)
  return not values or value in values


def value_text(attr: tf1.AttrValue) -> str:
  """An AttrValue as messages have it: [1, 2, 2, 1], EXPLICIT, float16."""
  kind = attr.WhichOneof("value")
  if kind == "type":
    return _type_name(attr.type)
  if kind == "s":
    return attr.s.decode("utf-8", "replace")
  if kind in ("b", "i"):
    return str(getattr(attr, kind))
  if kind == "f":
    return f"{attr.f:g}"
  if kind == "list" and not attr.list.ListFields():
    return "[]"
  if kind == "list" and attr.list.i:
    return str(list(attr.list.i))
  return text_format.MessageToString(attr, as_one_line=True).strip()


def _type_name(enum: int) -> str:
  try:
    return tf1.as_dtype(enum).name
  except TypeError:  # newer than the TensorFlow this runs in
    return f"type {enum}"


@functools.lru_cache(maxsize=None)
def _number(version: str) -> Tuple[int, ...]:
  """The numbers that versions are ordered by: 1.12 comes after 1.8."""
  return tuple(int(part) for part in str(version).split(".")[:2])


@functools.lru_cache(maxsize=None)
def _data() -> Dict[str, Any]:
  with open(_FILE) as f:
    return json.load(f)


@functools.lru_cache(maxsize=None)
def _op(name: str) -> Optional[_Op]:
  entry = _data()["ops"].get(name)
  if entry is None:
    return None
  first, _, attributes = entry[:3]
  rest = entry[3] if len(entry) > 3 else {}
  later = rest.get("later", {})
  table = _data()["allowed"]
  return _Op(
    first,
    rest.get("until"),
    dict(
      {key: first for key in attributes.split()},
      **{key: added for key, (added, _) in later.items()},
    ),
    {key: text for key, (_, text) in later.items() if text is not None},
    {
      key: {
        state.split(":")[0]: tuple(table[int(state.split(":")[1])])
        for state in states.split()
      }
      for key, states in rest.get("allowed", {}).items()
    },
  )
