# SPDX-License-Identifier: Apache-2.0
"""Soundness of protos of unknown origin, before they become Graphs.

Protobuf takes any bytes that parse. What the rest of this package relies on is
checked here once: names are legal, attributes are of the kinds that OpDefs
state, dtypes exist, tensors hold what they declare, and bodies of functions
read only what is there. What a graph lacks, such as an input or an attribute,
is another matter, which `mending.faults` finds: such graphs can be mended.
"""

from __future__ import annotations

import re
from typing import (
  Callable,
  Dict,
  Iterator,
  List,
  NamedTuple,
  Optional,
  Set,
  Tuple,
  Union,
)

from bnexport.errors import GraphError
from bnexport.graph.nodes import (
  Signatures,
  arg_dtypes,
  functions_of,
  missing_attribute,
)
from bnexport.graph.op_history import allowed, known_versions, knows_attribute
from bnexport.graph.tensors import misfit
from bnexport.tf1 import FunctionDef, OpDef, TensorShapeProto, tf1

# TensorFlow's, but for a leading underscore, which it keeps for itself.
_LEGAL = r"[A-Za-z0-9_.][A-Za-z0-9_.\\/>-]*"
_NAME = re.compile(_LEGAL + r"\Z")
_INPUT = re.compile(r"\^?" + _LEGAL + r"(?::\d{1,9})?\Z")
# In a function's body an output is written `node:output:index`.
_INPUT_OF_BODY = re.compile(
  r"\^?" + _LEGAL + r"(?::[a-zA-Z]\w*(?::\d{1,9})?|:0)?\Z"
)
# A function's; TensorFlow's own passes put attributes in brackets into it.
_FUNCTION = re.compile(r"[!-~]+\Z")
_FIELDS = {
  "string": "s",
  "int": "i",
  "float": "f",
  "bool": "b",
  "type": "type",
  "shape": "shape",
  "tensor": "tensor",
  "func": "func",
}
# Attributes that hold names of nodes, frames and variables, or of layouts.
_NAMING = frozenset(
  (
    "_class",
    "container",
    "data_format",
    "frame_name",
    "padding",
    "shared_name",
  )
)
_DTYPES = frozenset(
  number
  for number in tf1.AttrValue.DESCRIPTOR.fields_by_name[
    "type"
  ].enum_type.values_by_number
  if number
)
# TensorFlow takes no more dimensions than this.
_MOST_DIMENSIONS = 254
# Inputs or outputs that one attribute may count.
_MOST = 1 << 20
# Calls in calls in attributes: an attribute's function has attributes.
_DEEPEST = 8
# Calls of functions in functions.
_DEEPEST_CALLS = 200


def refuse_unsound(
  graph_def: tf1.GraphDef, signatures: Signatures, what: str
) -> None:
  """Raises GraphError where a GraphDef can't be worked with.

  Args:
    graph_def: the graph.
    signatures: OpDefs by name; ops without one are checked as far as can be.
    what: names the graph in the message.
  """
  fact = next(_Reading(graph_def, signatures).flaws(), None)
  if fact is not None:
    raise GraphError(f"use {what}", fact, "write or copy it again")


class _Stated(NamedTuple):
  """The statements of an OpDef on its nodes.

  Attributes:
    attrs: AttrDefs by name.
    tensors: names of attributes that are tensors, whatever is in them.
    counts: names of attributes that are numbers of inputs or outputs.
    flaws: what is wrong with the OpDef.
  """

  attrs: Dict[str, OpDef.AttrDef]
  tensors: Set[str]
  counts: Set[str]
  flaws: Tuple[str, ...]


class _Reading:
  """One pass over the nodes of a graph and of its functions."""

  def __init__(self, graph_def: tf1.GraphDef, signatures: Signatures):
    self._graph_def = graph_def
    self._signatures = signatures
    self._seen: Dict[str, _Stated] = {}
    # Attributes that are sound: most nodes state what others state as well.
    self._sound: Set[Tuple[str, str, bytes, bool]] = set()
    self._functions = {
      f.signature.name: f.signature for f in graph_def.library.function
    }

  def flaws(self) -> Iterator[str]:
    for node in self._graph_def.node:
      for fact in self._node(node):
        yield f"node {_quoted(node.name)} {fact}"
    for function in self._graph_def.library.function:
      for fact in self._function(function):
        yield f"function {_quoted(function.signature.name)} {fact}"
    yield from self._calls()

  def _calls(self) -> Iterator[str]:
    """Yields a function whose calls have no end, or end too deep.

    TensorFlow calls itself for every one of them when it imports a graph, and
    ends the process where that gets too deep.
    """
    callers: Dict[str, List[str]] = {name: [] for name in self._functions}
    waiting, depths = {}, dict.fromkeys(self._functions, 1)
    for function in self._graph_def.library.function:
      name = function.signature.name
      called = {n for node in function.node_def for n in functions_of(node)}
      known = {other for other in called if other in callers}
      waiting[name] = len(known)
      for other in known:
        callers[other].append(name)
    ready = [name for name, count in waiting.items() if not count]
    for name in ready:
      if depths[name] > _DEEPEST_CALLS:
        yield (
          f"function {_quoted(name)} calls functions that call functions, more "
          f"than {_DEEPEST_CALLS} deep"
        )
        return
      for caller in callers[name]:
        depths[caller] = max(depths[caller], depths[name] + 1)
        waiting[caller] -= 1
        if not waiting[caller]:
          ready.append(caller)
    circular = [name for name, count in waiting.items() if count]
    if circular:
      yield f"function {_quoted(circular[0])} calls itself"

  def _function(self, function: FunctionDef) -> Iterator[str]:
    signature = function.signature
    if not _FUNCTION.match(signature.name):
      yield "has a name that is not legal"
    for node in function.node_def:
      for fact in self._node(node, is_in_body=True):
        yield f"has a node {_quoted(node.name)} that {fact}"
    for key, value in function.attr.items():
      for fact in _value(value):
        yield f"has an attribute '{key}' that {fact}"
    yield from _op_def(signature)
    returned = [arg.name for arg in signature.output_arg]
    for name in returned:
      if name not in function.ret:
        yield f"does not say what its '{name}' is"
    body = _Body(function, self._outputs_of)
    for node in function.node_def:
      for text in node.input:
        if not body.holds(text):
          yield (
            f"has a node {_quoted(node.name)} that reads {_quoted(text)}, "
            "which is not in it"
          )
      for fact in self._lacks(node, body):
        yield f"has a node {_quoted(node.name)} that {fact}"
    for name in returned:
      if not body.holds(function.ret[name]):
        yield f"returns {_quoted(function.ret[name])}, which is not in it"

  def _known(self, op: str) -> Optional[OpDef]:
    """The OpDef of an op or a function; None where nobody knows."""
    if op in self._functions:
      return self._functions[op]
    return self._signatures[op] if op in self._signatures else None

  def _outputs_of(self, op: str) -> Optional[Set[str]]:
    known = self._known(op)
    return None if known is None else {arg.name for arg in known.output_arg}

  def _lacks(self, node: tf1.NodeDef, body: _Body) -> Iterator[str]:
    """Yields what a body's node does not have and its op takes."""
    known = self._known(node.op)
    if known is None:
      return
    missing = missing_attribute(node, known)
    if missing is not None:
      yield f"lacks attribute '{missing}', which its op {node.op} has to have"
      return
    counts = [
      node.attr[key].WhichOneof("value")
      for arg in known.input_arg
      for key in (arg.number_attr, arg.type_list_attr)
      if key in node.attr
    ]
    refs = [text for text in node.input if not text.startswith("^")]
    # Who calls the function says how many these are.
    if "placeholder" in counts or any(map(body.is_list, refs)):
      return
    count = sum(len(arg_dtypes(node, known, arg)) for arg in known.input_arg)
    if count != len(refs):
      yield f"has {len(refs)} inputs, and its op {node.op} takes {count}"

  def _node(self, node: tf1.NodeDef, is_in_body: bool = False) -> Iterator[str]:
    if not _NAME.match(node.name):
      yield "has a name that is not legal"
    if not _NAME.match(node.op):
      yield f"has an op {_quoted(node.op)}, which is no legal name"
    is_legal = (_INPUT_OF_BODY if is_in_body else _INPUT).match
    for text in node.input:
      if not is_legal(text):
        yield f"has an input {_quoted(text)}, which is no legal one"
    op = node.op
    stated = self._stated(op)
    for key, value in node.attr.items():
      kind, same = value.WhichOneof("value"), None
      if kind != "tensor":  # which may be large, and is mostly the only one
        same = op, key, value.SerializeToString(), is_in_body
        if same in self._sound:
          continue
      elif key in stated.tensors and not any(misfit(value.tensor)):
        continue
      flaws = list(_attribute_flaws(op, key, value, stated, is_in_body))
      yield from flaws
      if not flaws and same is not None:
        self._sound.add(same)
    if op == "Const" and "value" in node.attr and "dtype" in node.attr:
      if node.attr["value"].tensor.dtype != node.attr["dtype"].type:
        yield "is a Const of another dtype than its value"
    for fact in stated.flaws:
      yield f"has an op {_quoted(op)} that {fact}"

  def _stated(self, op: str) -> _Stated:
    if op not in self._seen:
      known = self._signatures[op] if op in self._signatures else OpDef()
      self._seen[op] = _Stated(
        {attr.name: attr for attr in known.attr},
        {
          attr.name
          for attr in known.attr
          if attr.type == "tensor" and not attr.HasField("allowed_values")
        },
        {arg.number_attr for arg in (*known.input_arg, *known.output_arg)},
        tuple(_op_def(known)),
      )
    return self._seen[op]


class _Body:
  """The names that nodes of a function's body may read."""

  def __init__(
    self,
    function: FunctionDef,
    outputs_of: Callable[[str], Optional[Set[str]]],
  ):
    self._args = {arg.name for arg in function.signature.input_arg}
    self._lists = {
      arg.name
      for arg in function.signature.input_arg
      if arg.number_attr or arg.type_list_attr
    }
    self._ops = {node.name: node.op for node in function.node_def}
    self._outputs_of = outputs_of

  def holds(self, text: str) -> bool:
    """Whether an input, as a body writes it, is there."""
    if text.startswith("^"):
      return text[1:] in self._ops or text[1:] in self._args
    name, *rest = text.split(":")
    if name in self._args:
      return rest in ([], ["0"])
    if name not in self._ops or len(rest) != 2:
      return False
    outputs = self._outputs_of(self._ops[name])
    return outputs is None or rest[0] in outputs

  def is_list(self, text: str) -> bool:
    """Whether an input may stand for several tensors, or for none."""
    return text.partition(":")[0] in self._lists


def _attribute_flaws(
  op: str, key: str, value: tf1.AttrValue, stated: _Stated, is_in_body: bool
) -> Iterator[str]:
  """Yields what is wrong with an attribute of a node of an op."""
  if not key.isprintable():  # TensorFlow logs those that it does not know
    yield f"has an attribute {_quoted(key)}, which is no legal name"
  for fact in _value(value):
    yield f"has an attribute {_quoted(key)} that {fact}"
  if key in _NAMING and not all(map(_is_text, _values(value))):
    yield f"has an attribute '{key}' that is not written in UTF-8"
  is_open = value.WhichOneof("value") == "placeholder"
  if is_open and not is_in_body:
    yield f"has an attribute {_quoted(key)} that only a function can have"
  if key in stated.attrs and not is_open:
    for fact in _unlike(value, stated.attrs[key], op):
      yield f"has an attribute '{key}' that {fact}"
  if key in stated.counts and value.i > _MOST:
    yield f"has {value.i} inputs or outputs, which is no model's"


def _is_text(value: Union[int, bytes]) -> bool:
  try:
    return not isinstance(value, bytes) or value.decode("utf-8") is not None
  except UnicodeDecodeError:
    return False


def _quoted(name: str) -> str:
  return f"'{name}'"


def _value(value: tf1.AttrValue, depth: int = 0) -> Iterator[str]:
  """Yields what is wrong with an attribute, whatever op it is of."""
  kind = value.WhichOneof("value")
  if kind == "type" and value.type not in _DTYPES:
    yield f"is of type {value.type}, which is none"
  elif kind == "shape":
    yield from _shape(value.shape)
  elif kind == "tensor":
    yield from misfit(value.tensor)
  elif kind == "func":
    yield from _func(value.func, depth)
  elif kind == "list":
    for dtype in value.list.type:
      if dtype not in _DTYPES:
        yield f"has type {dtype}, which is none"
    for shape in value.list.shape:
      yield from _shape(shape)
    for tensor in value.list.tensor:
      yield from misfit(tensor)
    for func in value.list.func:
      yield from _func(func, depth)


def _func(func: tf1.NameAttrList, depth: int) -> Iterator[str]:
  if depth > _DEEPEST:
    yield "holds functions in functions, too deep"
    return
  for value in func.attr.values():
    yield from _value(value, depth + 1)


def _shape(shape: TensorShapeProto) -> Iterator[str]:
  if len(shape.dim) > _MOST_DIMENSIONS:
    yield f"has {len(shape.dim)} dimensions"
  if any(dim.size < -1 for dim in shape.dim):
    yield f"has a dimension of {min(dim.size for dim in shape.dim)}"


def _unlike(
  value: tf1.AttrValue, stated: OpDef.AttrDef, op: str
) -> Iterator[str]:
  """Yields how an attribute is another than its OpDef states."""
  kind = value.WhichOneof("value")
  if kind is None:
    return  # it is missing
  inner = re.match(r"list\((\w+)\)\Z", stated.type)
  wanted = "list" if inner else _FIELDS.get(stated.type)
  if wanted is not None and kind != wanted:
    yield f"is no {stated.type}"
    return
  if inner:
    others = [f.name for f, _ in value.list.ListFields()]
    if set(others) - {_FIELDS.get(inner.group(1))}:
      yield f"is no {stated.type}"
      return
  yield from _outside(value, stated, op)


def _outside(
  value: tf1.AttrValue, stated: OpDef.AttrDef, op: str
) -> Iterator[str]:
  """Yields how an attribute is none of the values that its OpDef allows."""
  if stated.type == "int" and stated.has_minimum:
    if value.i < stated.minimum:
      yield f"is {value.i} and has to be {stated.minimum} at least"
  elif stated.type.startswith("list(") and stated.has_minimum:
    count = sum(len(held) for _, held in value.list.ListFields())
    if count < stated.minimum:
      yield f"has {count} values and has to have {stated.minimum} at least"
  if not stated.HasField("allowed_values"):
    return
  known = set(stated.allowed_values.list.type)
  known.update(stated.allowed_values.list.s)
  for one in _values(value):
    text = one.decode("utf-8", "replace") if isinstance(one, bytes) else one
    if one not in known and not _is_newer(text, op, stated.name):
      yield f"is {text!r}, which {op} does not take"


def _values(value: tf1.AttrValue) -> Tuple[Union[int, bytes], ...]:
  if value.HasField("type"):
    return (value.type,)
  if value.HasField("s"):
    return (value.s,)
  return (*value.list.type, *value.list.s)


def _is_newer(value: Union[int, str], op: str, key: str) -> bool:
  """Whether the newest TensorFlow on record allows a value."""
  newest = known_versions()[-1]
  if not knows_attribute(newest, op, key):
    return False
  values = allowed(newest, op, key)
  return not values or value in values


def _op_def(op: OpDef) -> Iterator[str]:
  """Yields what is wrong with an OpDef that a file brings along."""
  kinds = {attr.name: attr.type for attr in op.attr}
  for arg in (*op.input_arg, *op.output_arg):
    for key, kind in (
      (arg.type_attr, "type"),
      (arg.number_attr, "int"),
      (arg.type_list_attr, "list(type)"),
    ):
      if key and kinds.get(key) != kind:
        yield f"has an argument '{arg.name}' of no known type"
    if not (arg.type or arg.type_attr or arg.type_list_attr):
      yield f"has an argument '{arg.name}' of no type"
