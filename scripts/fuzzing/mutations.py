# SPDX-License-Identifier: Apache-2.0
"""Damage to files: to their bytes, and to what a graph's protos say."""

from __future__ import annotations

import os
import random

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from bnexport.tf1 import SavedModelProto, tf1

# A FIFO that nobody writes to, and a file that nothing may make.
TRAP, CANARY = "trap", "canary"
# Python's function of this name makes the canary.
TOKEN = "pyfunc_0"

_NAMES = (
  "",
  "/",
  "^",
  "a:b",
  "a b",
  "\x1b[31mred\x1b[0m",
  "line\nbreak",
  "right\u202eleft",
  "../up",
  "a" * 4000,
  "<script>alert(1)</script>",
  "$(touch canary)",
  "'; touch canary; '",
  "%s%n%d",
  "{0}",
)
_INTS = (-1, 0, 1, 2, 3, 7, 1 << 20, 1 << 31, (1 << 62), -(1 << 62))
_OPS = (
  "Merge",
  "Switch",
  "Case",
  "If",
  "While",
  "PartitionedCall",
  "Enter",
  "Exit",
  "NextIteration",
  "LoopCond",
  "Fill",
  "ReadFile",
  "MatchingFiles",
  "PyFuncStateless",
  "DecodePng",
  "IdentityN",
  "VariableV2",
  "VarHandleOp",
  "ReadVariableOp",
  "Assign",
  "AssignAdd",
  "Placeholder",
  "PlaceholderWithDefault",
  "Const",
  "FusedBatchNorm",
  "FusedBatchNormV3",
  "Conv2D",
  "MatMul",
  "Mean",
  "Reshape",
  "Squeeze",
  "SaveV2",
  "ConcatV2",
  "Split",
  "NoOp",
  "Nobody",
)


def damage_bytes(path: str, draw: random.Random) -> None:
  """Changes some bytes of a file."""
  with open(path, "rb") as f:
    data = bytearray(f.read())
  for _ in range(draw.choice((1, 1, 2, 5, 20))):
    at = draw.randrange(len(data) + 1)
    kind = draw.randrange(6)
    if kind == 0 and at < len(data):
      data[at] ^= 1 << draw.randrange(8)
    elif kind == 1 and at < len(data):
      data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
    elif kind == 2:
      del data[at : at + draw.choice((1, 2, 8, 100, len(data)))]
    elif kind == 3:
      data[at:at] = bytes(draw.randrange(256) for _ in range(9))
    elif kind == 4:
      start = draw.randrange(len(data) + 1)
      data[at:at] = data[start : start + draw.choice((4, 30, 3000))]
    else:
      data[at:at] = draw.choice(_NAMES).encode()
  with open(path, "wb") as f:
    f.write(data)


def damage_structure(path: str, draw: random.Random) -> None:
  """Changes what the graph in a file says; its bytes where it has none."""
  proto = _proto(path)
  try:
    with open(path, "rb") as f:
      proto.ParseFromString(f.read())
    graph_def = _graph_of(proto, draw)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
      draw.choice(_EDITS)(graph_def, draw)
    data = proto.SerializeToString()
  except (DecodeError, IndexError, ValueError, UnicodeError):
    damage_bytes(path, draw)
    return
  with open(path, "wb") as f:
    f.write(data)


def as_text(source: str, path: str) -> None:
  """Writes a binary GraphDef as text; copies what is none."""
  with open(source, "rb") as f:
    data = f.read()
  try:
    text = text_format.MessageToString(tf1.GraphDef.FromString(data))
    data = text.encode("utf-8", "surrogatepass")
  except DecodeError:
    pass
  with open(path, "wb") as f:
    f.write(data)


def has_structure(path: str) -> bool:
  """Whether a file holds a graph."""
  return path.endswith((".pb", ".meta"))


def _proto(path: str) -> Message:
  if path.endswith(".meta"):
    return tf1.MetaGraphDef()
  if os.path.basename(path) == "saved_model.pb":
    return SavedModelProto()
  return tf1.GraphDef()


def _graph_of(proto, draw):
  if isinstance(proto, SavedModelProto):
    return draw.choice(proto.meta_graphs).graph_def
  return proto if isinstance(proto, tf1.GraphDef) else proto.graph_def


def _node(graph_def, draw):
  """A node of the graph, or of one of its functions."""
  functions = [f for f in graph_def.library.function if f.node_def]
  if functions and not draw.randrange(3):
    return draw.choice(draw.choice(functions).node_def)
  return draw.choice(graph_def.node)


def _lose_attribute(graph_def, draw):
  node = _node(graph_def, draw)
  del node.attr[draw.choice(sorted(node.attr))]


def _swap_attributes(graph_def, draw):
  one, other = _node(graph_def, draw), _node(graph_def, draw)
  key = draw.choice(sorted(one.attr))
  one.attr[key].CopyFrom(other.attr[draw.choice(sorted(other.attr))])


def _change_attribute(graph_def, draw):
  node = _node(graph_def, draw)
  attr = node.attr[draw.choice(sorted(node.attr))]
  kind = draw.randrange(9)
  if kind == 0:
    attr.type = draw.choice((0, 1, 3, 7, 9, 10, 20, 21, 99, 101, 103))
  elif kind == 1:
    attr.i = draw.choice(_INTS)
  elif kind == 2:
    attr.f = draw.choice((float("nan"), float("inf"), -1.0, 0.0, 1e38))
  elif kind == 3:
    attr.s = draw.choice(_NAMES).encode()
  elif kind == 4:
    attr.list.i.extend(draw.choice(_INTS) for _ in range(draw.randrange(5)))
  elif kind == 5:
    attr.list.type.extend(draw.randrange(25) for _ in range(draw.randrange(5)))
  elif kind == 6:
    attr.func.name = draw.choice(
      [f.signature.name for f in graph_def.library.function] or ["nobody"]
    )
  elif kind == 7:
    attr.placeholder = "T"
  else:
    _break_shape(attr.shape, draw)


def _break_shape(shape, draw):
  if draw.randrange(4) == 0:
    shape.unknown_rank = True
  for _ in range(draw.randrange(4)):
    shape.dim.add(size=draw.choice(_INTS))
  if shape.dim and draw.randrange(2):
    draw.choice(shape.dim).size = draw.choice(_INTS)


def _break_constant(graph_def, draw):
  node = draw.choice([n for n in graph_def.node if n.op == "Const"])
  tensor = node.attr["value"].tensor
  kind = draw.randrange(5)
  if kind == 0:
    tensor.tensor_content = tensor.tensor_content[: draw.randrange(9)]
  elif kind == 1:
    _break_shape(tensor.tensor_shape, draw)
  elif kind == 2:
    tensor.dtype = draw.randrange(30)
  elif kind == 3:
    tensor.float_val.extend([float("nan")] * draw.randrange(5))
  else:
    tensor.string_val.extend([b"\xff"] * draw.randrange(5))


def _change_input(graph_def, draw):
  node = _node(graph_def, draw)
  others = [n.name for n in graph_def.node]
  said = draw.choice(others + list(node.input) * 3)
  said += draw.choice(
    ("", "", ":1", ":7", ":99999999999999999999", ":x", ":-1")
  )
  said = draw.choice(("", "", "", "^", "^^")) + said
  kind = draw.randrange(4)
  if kind == 0:
    node.input.append(said)
  elif kind == 1:
    node.input.insert(0, draw.choice((said, draw.choice(_NAMES))))
  elif kind == 2:
    del node.input[draw.randrange(len(node.input)) :]
  else:
    node.input[draw.randrange(len(node.input))] = said


def _change_op(graph_def, draw):
  _node(graph_def, draw).op = draw.choice(
    _OPS + tuple(n.op for n in graph_def.node)
  )


def _change_name(graph_def, draw):
  node = _node(graph_def, draw)
  old, new = node.name, draw.choice(_NAMES)
  node.name = new
  if draw.randrange(2):
    for reader in graph_def.node:
      for slot, text in enumerate(reader.input):
        if text == old:
          reader.input[slot] = new


def _lose_node(graph_def, draw):
  del graph_def.node[draw.randrange(len(graph_def.node))]


def _repeat_node(graph_def, draw):
  copied = graph_def.node.add()
  copied.CopyFrom(draw.choice(graph_def.node))
  if draw.randrange(2):
    copied.name += draw.choice(("_", "/", ":0"))


def _break_function(graph_def, draw):
  function = draw.choice(graph_def.library.function)
  kind = draw.randrange(6)
  if kind == 0:
    function.ret.clear()
  elif kind == 1:
    function.ret[draw.choice(sorted(function.ret))] = draw.choice(_NAMES)
  elif kind == 2:
    del function.signature.input_arg[:1]
  elif kind == 3:
    function.signature.output_arg.add(name="more", type=1)
  elif kind == 4:
    function.signature.name = draw.choice(_NAMES)
  else:  # it calls itself
    made = function.node_def.add(name="again", op="PartitionedCall")
    made.attr["f"].func.name = function.signature.name


def _change_versions(graph_def, draw):
  graph_def.versions.producer = draw.choice((-1, 0, 1, 1 << 30))
  graph_def.versions.min_consumer = draw.choice((-1, 0, 1 << 30))


def _reach_out(graph_def, draw):
  """Lets a reader of a constant read what its value is computed by."""
  node = draw.choice([n for n in graph_def.node if n.input])
  said = graph_def.node.add(name="said", op="Const")
  said.attr["dtype"].type = 7
  path = draw.choice((TRAP, CANARY)).encode()
  said.attr["value"].tensor.dtype = 7
  said.attr["value"].tensor.string_val.append(path)
  said.attr["value"].tensor.tensor_shape.SetInParent()
  made = graph_def.node.add(name="made", op=draw.choice(_REACHING))
  made.input.append("said")
  if made.op == "WriteFile":
    made.input.append("said")
  if "PyFunc" in made.op:
    made.attr["token"].s = TOKEN.encode()
    made.attr["Tin"].list.type.append(7)
    made.attr["Tout"].list.type.append(7)
  waits = draw.randrange(2) or made.op == "WriteFile"
  if waits:
    node.input.append("^made")
  else:
    node.input[0] = "made"


_REACHING = (
  "ReadFile",
  "MatchingFiles",
  "PyFuncStateless",
  "PyFunc",
  "WriteFile",
)


def _grow(graph_def, draw):
  """States huge sizes to compute."""
  node = draw.choice([n for n in graph_def.node if n.input])
  dims = graph_def.node.add(name="dims", op="Const")
  dims.attr["dtype"].type = 3
  dims.attr["value"].tensor.dtype = 3
  dims.attr["value"].tensor.int_val.extend([1 << 16, 1 << 14])
  dims.attr["value"].tensor.tensor_shape.dim.add(size=2)
  value = graph_def.node.add(name="value", op="Const")
  value.attr["dtype"].type = 1
  value.attr["value"].tensor.dtype = 1
  value.attr["value"].tensor.float_val.append(1)
  value.attr["value"].tensor.tensor_shape.SetInParent()
  if draw.randrange(2):
    value.attr["value"].tensor.tensor_shape.dim.add(size=1 << 34)
    node.input[0] = "value"
    return
  made = graph_def.node.add(name="huge", op="Fill", input=["dims", "value"])
  made.attr["T"].type = 1
  made.attr["index_type"].type = 3
  node.input[0] = "huge"


_EDITS = (
  _lose_attribute,
  _swap_attributes,
  _change_attribute,
  _change_attribute,
  _break_constant,
  _break_constant,
  _change_input,
  _change_input,
  _change_op,
  _change_name,
  _lose_node,
  _repeat_node,
  _break_function,
  _change_versions,
  _reach_out,
  _grow,
)
