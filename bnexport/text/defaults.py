# SPDX-License-Identifier: Apache-2.0
"""Attributes that a node may leave out, and their values.

The rules, for an op whose OpDef is known; other nodes stay as they are.

- A type that the OpDef ties to inputs is the first known dtype of these; a
  count or a list of types of inputs is what the inputs are.
- The dtype of a Const is its value's.
- Else the OpDef's default holds, where it has one.
- Else: a type is float, and any other attribute of which the OpDef lists the
  values is the first of them; a type that can't be float as well. A number is
  1, or what the OpDef demands at least; a bool false; a string ""; a shape
  []; a tensor a zero of the node's dtype. A list is as long as the OpDef
  demands; `strides`, of which it says nothing, are 4. A function stays out.
"""

from __future__ import annotations

from typing import (
  Callable,
  Dict,
  Iterable,
  Iterator,
  List,
  Mapping,
  Optional,
  Set,
  Tuple,
)

from bnexport.graph.nodes import arg_dtypes, int_attr, tensor_attr, type_attr
from bnexport.tf1 import FunctionDef, OpDef, op_def, tf1

_CLOSES_LOOP = ("NextIteration", "RefNextIteration")
_FLOAT = tf1.float32.as_datatype_enum


def fill(graph_def: tf1.GraphDef) -> None:
  """Adds the attributes that nodes leave out, functions included."""
  for scope in _scopes(graph_def):
    scope.fill()


def fill_nodes(
  nodes: Iterable[tf1.NodeDef],
  library: Mapping[str, FunctionDef],
  outputs: Mapping[str, List[int]],
) -> None:
  """Adds the attributes that some nodes of a graph leave out.

  Args:
    nodes: the NodeDefs; may read each other.
    library: FunctionDefs by name.
    outputs: DataTypes of the tensors of other nodes, by the nodes' names.
  """
  signatures = {name: f.signature for name, f in library.items()}
  scope = _Scope(nodes, signatures, ())
  for name, dtypes in outputs.items():
    scope.outputs[name] = [("", dtypes)]
  scope.fill()


def told_by_inputs(
  node: tf1.NodeDef, signature: OpDef, dtype_of: Callable[[str], int]
) -> Dict[str, tf1.AttrValue]:
  """Attributes that follow from the inputs of a node: types and counts.

  Args:
    node: a NodeDef; lists of types and counts that it states are heeded.
    signature: the OpDef of its op.
    dtype_of: from an input, as the node writes it, to its DataType; 0 where
      that is not known.

  Returns:
    AttrValues by name.
  """
  found: Dict[str, tf1.AttrValue] = {}
  if node.op == "Const" and "value" in node.attr:
    found["dtype"] = type_attr(node.attr["value"].tensor.dtype)
  for arg, texts in _arguments(node, signature):
    dtypes = [dtype_of(text) for text in texts]
    known = [dtype for dtype in dtypes if dtype]
    if arg.number_attr:
      found.setdefault(arg.number_attr, int_attr(len(texts)))
    if arg.type_list_attr:
      types = tf1.AttrValue()
      types.list.type.extend(dtype or _FLOAT for dtype in dtypes)
      found[arg.type_list_attr] = types
    elif arg.type_attr and known:
      found.setdefault(arg.type_attr, type_attr(known[0]))
  return found


def strip(graph_def: tf1.GraphDef) -> None:
  """Removes attributes that `fill` puts back as they were.

  Types, counts of inputs and the OpDefs' defaults, that is; what an OpDef
  leaves to the user stays.
  """
  full = type(graph_def)()
  full.CopyFrom(graph_def)
  fill(full)
  for scope, filled in zip(_scopes(graph_def), _scopes(full)):
    filled.fill()  # nothing is left to add; its dtypes are known now
    for node in scope.nodes:
      filled.strip(node)


def _scopes(graph_def: tf1.GraphDef) -> Iterator[_Scope]:
  """Yields the scopes of node names: the graph and each of its functions."""
  library = {f.signature.name: f.signature for f in graph_def.library.function}
  yield _Scope(graph_def.node, library, ())
  for function in graph_def.library.function:
    yield _Scope(function.node_def, library, function.signature.input_arg)


class _Scope:
  """Nodes that read each other, and the dtypes of what they read.

  Attributes:
    nodes: the NodeDefs.
    outputs: by the name of a node that is filled, or of what is read besides,
      a list of (name, dtypes) by output argument.
  """

  def __init__(
    self,
    nodes: Iterable[tf1.NodeDef],
    library: Mapping[str, OpDef],
    args: Iterable[OpDef.ArgDef],
  ):
    # A list, since the protos of a field may be new objects each time.
    self.nodes = list(nodes)
    self._library = library
    self._by_name: Dict[str, tf1.NodeDef] = {}
    for node in self.nodes:
      self._by_name.setdefault(node.name, node)
    # For each filled node, a list of (name, dtypes) by output argument.
    self.outputs = {arg.name: [(arg.name, [arg.type])] for arg in args}

  def fill(self) -> None:
    for node in self._inputs_first():
      signature = self._signature(node)
      if signature is not None:
        self._fill_node(node, signature)
        self.outputs.setdefault(
          node.name,
          [
            (arg.name, arg_dtypes(node, signature, arg))
            for arg in signature.output_arg
          ],
        )

  def strip(self, node: tf1.NodeDef) -> None:
    """Removes the attributes of a node that `fill` puts back."""
    signature = self._signature(node)
    if signature is None:
      return
    # Padding, strides and values are what a person looks for; nobody knows
    # our defaults of them.
    stated = {k: node.attr[k] for k in _required(signature) if k in node.attr}
    bare = self._filled(node, signature, stated)
    short = {
      key: value
      for key, value in node.attr.items()
      if key in stated or key not in bare or bare[key] != value
    }
    again = self._filled(node, signature, short)
    # One attribute may decide about another.
    if all(again[key] == value for key, value in node.attr.items()):
      for key in [key for key in node.attr if key not in short]:
        del node.attr[key]

  def _filled(
    self,
    node: tf1.NodeDef,
    signature: OpDef,
    attrs: Mapping[str, tf1.AttrValue],
  ) -> Dict[str, tf1.AttrValue]:
    """Attributes that a node gets where it states these alone."""
    made = tf1.NodeDef(name=node.name, op=node.op, input=node.input)
    for key, value in attrs.items():
      made.attr[key].CopyFrom(value)
    self._fill_node(made, signature)
    return dict(made.attr.items())

  def _signature(self, node: tf1.NodeDef) -> Optional[OpDef]:
    # A call may have the function's name for its op.
    return self._library.get(node.op) or op_def(node.op)

  def _inputs_first(self) -> Iterator[tf1.NodeDef]:
    """Yields the nodes, inputs first; loops are entered at their Merge."""
    seen: Set[int] = set()
    for root in self.nodes:
      stack = [(root, False)]
      while stack:
        node, is_ready = stack.pop()
        if is_ready:
          yield node
          continue
        if id(node) in seen:
          continue
        seen.add(id(node))
        stack.append((node, True))
        for text in reversed(node.input):
          source = self._by_name.get(text.partition(":")[0])
          if source is not None and source.op not in _CLOSES_LOOP:
            stack.append((source, False))

  def _dtype(self, text: str) -> int:
    """Dtype of an input; 0 where it is not known.

    Args:
      text: `a`, `a:1` or, in functions, `a:output:1`.
    """
    name, *rest = text.split(":")
    outputs = self.outputs.get(name, [])
    if len(rest) == 2:
      outputs = [output for output in outputs if output[0] == rest[0]]
    dtypes = [dtype for _, output in outputs for dtype in output]
    index = int(rest[-1]) if rest and rest[-1].isdigit() else 0
    return dtypes[index] if index < len(dtypes) else 0

  def _fill_node(self, node: tf1.NodeDef, signature: OpDef) -> None:
    inferred = told_by_inputs(node, signature, self._dtype)
    # Types first: the value of a Const depends on its dtype.
    for attr in sorted(signature.attr, key=lambda attr: attr.type != "type"):
      name = attr.name
      if name in node.attr:
        _coerce(node.attr[name], attr.type)
        continue
      if name in inferred:
        value = inferred[name]
      elif attr.HasField("default_value"):
        value = attr.default_value
      else:
        value = _least(attr, node)
      if value is not None:
        node.attr[name].CopyFrom(value)


def _required(signature: OpDef) -> List[str]:
  """Attributes without a default that neither are types nor count inputs."""
  counts = {arg.number_attr for arg in signature.input_arg}
  return [
    attr.name
    for attr in signature.attr
    if not attr.HasField("default_value")
    and attr.type not in ("type", "list(type)")
    and attr.name not in counts
  ]


def _arguments(
  node: tf1.NodeDef, signature: OpDef
) -> Iterator[Tuple[OpDef.ArgDef, List[str]]]:
  """Yields the OpDef's input arguments with the inputs that each takes."""
  texts = [text for text in node.input if not text.startswith("^")]
  lengths: List[Optional[int]] = []
  for arg in signature.input_arg:
    length: Optional[int] = 1
    if arg.type_list_attr:
      length = None
      if arg.type_list_attr in node.attr:
        length = len(node.attr[arg.type_list_attr].list.type)
    elif arg.number_attr:
      length = None
      if arg.number_attr in node.attr:
        length = node.attr[arg.number_attr].i
    lengths.append(length)
  # Arguments of open length share the rest evenly, as lists of one count do.
  rest = len(texts) - sum(length or 0 for length in lengths)
  share = max(rest, 0) // max(lengths.count(None), 1)
  start = 0
  for arg, length in zip(signature.input_arg, lengths):
    end = start + (share if length is None else length)
    yield arg, texts[start:end]
    start = end


def _coerce(value: tf1.AttrValue, kind: str) -> None:
  """Converts an int to float, or a shape to list(int), where `kind` is that."""
  if kind == "float" and value.HasField("i"):
    value.f = value.i
  elif kind == "list(int)" and value.HasField("shape"):
    sizes = [dim.size for dim in value.shape.dim]
    value.list.i.extend(sizes)


def _least(attr: OpDef.AttrDef, node: tf1.NodeDef) -> Optional[tf1.AttrValue]:
  """The value of a required attribute, or None; see the module's docstring."""
  kind = attr.type
  if not kind.startswith("list("):
    return _least_element(attr, kind, node)
  element = _least_element(attr, kind[len("list(") : -1], node)
  made = tf1.AttrValue()
  made.list.SetInParent()
  if element is not None:
    field = element.WhichOneof("value")
    length = attr.minimum or (4 if attr.name == "strides" else 0)
    getattr(made.list, field).extend([getattr(element, field)] * length)
  return made


def _least_element(
  attr: OpDef.AttrDef, kind: str, node: tf1.NodeDef
) -> Optional[tf1.AttrValue]:
  allowed = attr.allowed_values.list
  if kind == "type":
    types = list(allowed.type)
    return type_attr(_FLOAT if _FLOAT in types or not types else types[0])
  if kind == "string":
    return tf1.AttrValue(s=allowed.s[0] if allowed.s else b"")
  if kind == "int":
    # In a list the minimum is the list's length.
    return int_attr(max(1, attr.minimum) if attr.type == "int" else 1)
  if kind == "float":
    return tf1.AttrValue(f=1.0)
  if kind == "bool":
    return tf1.AttrValue(b=False)
  if kind == "shape":
    shape = tf1.AttrValue()
    shape.shape.SetInParent()
    return shape
  if kind == "tensor" and "dtype" in node.attr:
    dtype = tf1.as_dtype(node.attr["dtype"].type)
    return tensor_attr(b"" if dtype == tf1.string else 0, dtype)
  return None
