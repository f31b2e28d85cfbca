# SPDX-License-Identifier: Apache-2.0
"""Graphs and attribute values written as text."""

from __future__ import annotations

import re
from typing import Any, Iterable, Mapping, MutableMapping, Optional, Union

import numpy as np
from google.protobuf import text_format

from bnexport.graph import Graph
from bnexport.text import defaults
from bnexport.text.reading import WORD, read_value
from bnexport.text.tensors import (
  STRING,
  TYPE_NAMES,
  NoNotation,
  number_word,
  number_words,
  stored_count,
)
from bnexport.tf1 import FunctionDef, OpDef, tf1

# An argument of dumps: a graph, a node, or several.
AnyGraph = Union[Graph, tf1.GraphDef, tf1.NodeDef, Iterable[tf1.NodeDef]]
_IS_WORD = re.compile(WORD).fullmatch
_ESCAPES = {"\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
_BYTES = [
  _ESCAPES.get(chr(b), chr(b))
  if 32 <= b < 127 or chr(b) in _ESCAPES
  else f"\\x{b:02x}"
  for b in range(256)
]


def dumps(
  graph: AnyGraph, largest: Optional[int] = None, brief: bool = False
) -> str:
  """Writes a graph, or some nodes, one statement a line.

  Args:
    graph: a GraphDef, a Graph, a NodeDef or several.
    largest: tensors that store more values than this are abbreviated to
      `<float [1000,1000] ...>`, which `loads` refuses; None writes all.
    brief: leave out what people need not read: the header, attributes that
      `loads` fills in, and TensorFlow's notes to itself, such as
      `_output_shapes`.

  Returns:
    The text. Where it is neither brief nor abbreviated, `loads` makes the
    same nodes, library and versions of it.
  """
  if isinstance(graph, Graph):
    graph = graph.to_graph_def()
  if not isinstance(graph, tf1.GraphDef):
    nodes = [graph] if isinstance(graph, tf1.NodeDef) else graph
    graph = tf1.GraphDef()
    graph.node.extend(nodes)
  if brief:
    graph = _copy(graph)
    _drop_notes(graph.node)
    for function in graph.library.function:
      _drop_notes(list(function.node_def) + [function])
    defaults.strip(graph)
  lines = [] if brief else [_header(graph)]
  writer = _Writer(largest)
  lines.extend(writer.function(f) for f in graph.library.function)
  lines.extend(writer.node(node) for node in graph.node)
  return "\n".join(lines)


def _drop_notes(protos: Iterable[Any]) -> None:
  for proto in protos:
    for key in [key for key in proto.attr if key.startswith("_")]:
      del proto.attr[key]


class _Writer:
  """Texts of protos.

  Attributes:
    largest: the most values of a tensor that are written, or None.
  """

  def __init__(self, largest: Optional[int]):
    self.largest = largest

  def function(self, function: FunctionDef) -> str:
    rest = _copy(function, "attr", "node_def")
    signature = rest.signature
    args = [_argument(arg) for arg in signature.input_arg]
    results = []
    for arg in signature.output_arg:
      results.append(_argument(arg) + _source(rest.ret, arg.name))
    for name in signature.control_output:
      results.append("^" + _name(name) + _source(rest.control_ret, name))
    for field in ("name", "input_arg", "output_arg", "control_output"):
      signature.ClearField(field)
    if not signature.ListFields():
      rest.ClearField("signature")
    attrs = " " + self.attrs(function.attr) if function.attr else ""
    lines = [
      f"function {_name(function.signature.name)}({', '.join(args)}){attrs} "
      f"-> ({', '.join(results)}){_rest(rest)} {{"
    ]
    lines.extend("  " + self.node(node) for node in function.node_def)
    return "\n".join(lines + ["}"])

  def node(self, node: tf1.NodeDef) -> str:
    inputs = ", ".join(
      "^" + _name(text[1:]) if text.startswith("^") else _name(text)
      for text in node.input
    )
    text = f"{_name(node.name)} = {_name(node.op)}({inputs})"
    if node.attr:
      text += " " + self.attrs(node.attr)
    if node.device:
      text += " @" + _quoted(node.device)
    return text + _rest(_copy(node, "name", "op", "input", "attr", "device"))

  def attrs(self, attrs: Mapping[str, tf1.AttrValue]) -> str:
    return "{%s}" % ", ".join(
      f"{_name(key)}={self.value(attrs[key])}" for key in sorted(attrs)
    )

  def value(self, attr: tf1.AttrValue) -> str:
    """Text of an AttrValue."""
    try:
      return self._plain(attr)
    except NoNotation:
      return _rest(attr).lstrip()

  def _plain(self, attr: tf1.AttrValue) -> str:
    kind = attr.WhichOneof("value")
    if kind == "list":
      return "(%s)" % ", ".join(
        self._element(field.name, value)
        for field, values in attr.list.ListFields()
        for value in values
      )
    if kind == "placeholder":
      return "$" + _name(attr.placeholder)
    if kind is None:
      raise NoNotation
    return self._element(kind, getattr(attr, kind))

  def _element(self, kind: str, value: Any) -> str:
    if kind == "s":
      return _quoted(value)
    if kind == "i":
      return f"{value}"
    if kind in ("f", "b"):
      return number_word(np.float32(value) if kind == "f" else np.bool_(value))
    if kind == "type":
      return _type_name(value)
    if kind == "shape":
      return _shape(value)
    if kind == "func":
      return _name(value.name) + self.attrs(value.attr)
    return self._tensor(value)

  def _tensor(self, tensor: tf1.TensorProto) -> str:
    head = [_type_name(tensor.dtype)]
    if tensor.tensor_shape.ListFields():
      head.append(_shape(tensor.tensor_shape))
    if self.largest is not None:
      stored = stored_count(tensor)
      if stored is None or stored > self.largest:
        return f"<{' '.join(head)} ...>"
    if tensor.dtype == STRING:
      words = [_quoted(value) for value in tensor.string_val]
    else:
      words = number_words(tensor)
    # Some tensors are none of these: two fields may be set, or a NaN be a
    # special one.
    for way in ((), ("listed",), ("packed",)):
      text = f"<{' '.join([*head, *way, *words])}>"
      again = read_value(text).tensor
      if again.SerializeToString() == tensor.SerializeToString():
        return text
    raise NoNotation


def _header(graph: tf1.GraphDef) -> str:
  parts = ["complete=true"]
  if graph.HasField("versions"):
    parts.append(f"producer={graph.versions.producer}")
  if graph.versions.min_consumer:
    parts.append(f"min_consumer={graph.versions.min_consumer}")
  if graph.versions.bad_consumers:
    bad = ", ".join(f"{version}" for version in graph.versions.bad_consumers)
    parts.append(f"bad_consumers=({bad})")
  rest = _copy(graph, "node", "versions")
  if graph.library.function:
    del rest.library.function[:]
    if not rest.library.ListFields():
      rest.ClearField("library")
  return f"graph {{{', '.join(parts)}}}{_rest(rest)}"


def _argument(arg: OpDef.ArgDef) -> str:
  if arg.type not in TYPE_NAMES or not arg.type:
    return _name(arg.name) + _rest(_copy(arg, "name"))
  rest = _rest(_copy(arg, "name", "type"))
  return f"{_name(arg.name)} {TYPE_NAMES[arg.type]}{rest}"


def _source(sources: MutableMapping[str, str], name: str) -> str:
  """Takes a result's source out of the map; ` = SOURCE` or nothing."""
  if name not in sources:
    return ""
  text = " = " + _name(sources[name])
  del sources[name]
  return text


def _copy(proto: Any, *without: str) -> Any:
  made = type(proto)()
  made.CopyFrom(proto)
  for field in without:
    made.ClearField(field)
  return made


def _rest(proto: Any) -> str:
  """A proto in text format behind a plus; empty for an empty proto."""
  if not proto.ListFields() and not isinstance(proto, tf1.AttrValue):
    return ""
  text = text_format.MessageToString(proto, as_one_line=True)
  return " +" + _quoted(text.strip())


def _name(text: str) -> str:
  return text if _IS_WORD(text) else _quoted(text)


def _quoted(value: Union[str, bytes]) -> str:
  if isinstance(value, str):
    value = value.encode()
  return f'"{"".join((_BYTES[b] for b in value))}"'


def _type_name(number: int) -> str:
  if number not in TYPE_NAMES:
    raise NoNotation  # a dtype that is newer than this TensorFlow
  return TYPE_NAMES[number]


def _shape(shape: Any) -> str:
  if any(dim.name for dim in shape.dim) or (shape.unknown_rank and shape.dim):
    raise NoNotation
  if shape.unknown_rank:
    return "?"
  return "[%s]" % ",".join(
    "?" if dim.size == -1 else f"{dim.size}" for dim in shape.dim
  )
