# SPDX-License-Identifier: Apache-2.0
"""Graphs and attribute values read from text."""

from __future__ import annotations

import re

from google.protobuf import text_format

from bnexport.errors import GraphError
from bnexport.text import defaults
from bnexport.text.tensors import STRING, TYPES, store
from bnexport.tf1 import tf1

# Names, ops, keys, numbers: all that needs no quotes.
WORD = r"[A-Za-z0-9_./:?\\-]+"
_TOKEN = re.compile(
  f'(?P<mark>->|[(){{}}\\[\\]<>,=@^+$])|(?P<string>"[^"\\\\\\n]*(?:\\\\.[^"\\\\\\n]*)*")|(?P<word>{WORD})|(?P<other>.)'
)
_BLANK = re.compile(r"(?:\s+|#[^\n]*)*")
_INT = re.compile(r"-?[0-9]+")
_FLOAT = re.compile(
  r"-?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=e))(?:e-?[0-9]+)?|-?inf|nan"
)
_CAPITALS = re.compile(r"[A-Z][A-Z0-9_]*")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
# The reader calls itself for a function in an attribute of a function.
_DEEPEST = 50
_ESCAPED = {b"n": b"\n", b"t": b"\t", b'"': b'"', b"\\": b"\\"}


def loads(text: str, fill: bool = True) -> tf1.GraphDef:
  """Reads a graph; any graph, also one that TensorFlow would refuse.

  Args:
    text: statements as bnexport.text describes them.
    fill: False leaves attributes out that the text leaves out.

  Returns:
    A GraphDef.

  Raises:
    GraphError: the text can't be read; the error says where.
  """
  return _Reader(text).graph(fill)


def read_value(text: str) -> tf1.AttrValue:
  """Reads one attribute's value into an AttrValue."""
  return _Reader(text).value()


class _Reader:
  """A recursive descent parser with one method for each part of the notation.

  What is next is `_text`, of the kind `_kind`: a mark, a string, a word,
  other (no token starts so), or None at the end.
  """

  def __init__(self, source):
    self._source = source
    self._end = 0
    self._depth = 0  # of functions in attributes of functions
    self._advance()

  def graph(self, fill):
    graph = tf1.GraphDef()
    is_complete = self._text == "graph" and self._is_before("{")
    if is_complete:
      self._advance()
      is_complete = self._header(graph)
    while self._kind:
      if self._text == "function" and not self._is_before("="):
        self._advance()
        self._function(graph.library.function.add())
      else:
        self._node(graph.node.add(), "a statement")
    if fill and not is_complete:
      defaults.fill(graph)
    return graph

  def _header(self, graph):
    """Reads the header; returns whether the graph is complete."""
    start, stated = self._start, tf1.NodeDef().attr
    self._attrs(stated)
    self._rest(graph)
    try:
      for key, value in stated.items():
        if key == "bad_consumers":
          graph.versions.bad_consumers.extend(value.list.i)
        elif key != "complete":
          setattr(graph.versions, key, value.i)
    except (AttributeError, ValueError):
      self._start = start
      self._fail("complete, producer, min_consumer and bad_consumers")
    return stated["complete"].b

  def _node(self, node, expected):
    node.name = self._name(expected)
    self._expect("=")
    node.op = self._name("an op")
    self._expect("(")
    while not self._accept(")"):
      control = "^" if self._accept("^") else ""
      node.input.append(control + self._name("an input or ')'"))
      self._separate(")")
    if self._text == "{":
      self._attrs(node.attr)
    if self._accept("@"):
      node.device = self._name("the device in quotes")
    self._rest(node)

  def _function(self, function):
    signature = function.signature
    signature.name = self._name("the function's name")
    self._expect("(")
    while not self._accept(")"):
      self._argument(signature.input_arg.add())
      self._separate(")")
    if self._text == "{":
      self._attrs(function.attr)
    self._expect("->")
    self._expect("(")
    while not self._accept(")"):
      self._result(function)
      self._separate(")")
    self._rest(function)
    self._expect("{")
    while not self._accept("}"):
      self._node(function.node_def.add(), "a statement or '}'")

  def _argument(self, arg):
    arg.name = self._name("an argument or ')'")
    if self._kind == "word":
      arg.type = self._type()
    self._rest(arg)

  def _result(self, function):
    if self._accept("^"):
      name, sources = self._name("a result"), function.control_ret
      function.signature.control_output.append(name)
    else:
      arg, sources = function.signature.output_arg.add(), function.ret
      self._argument(arg)
      name = arg.name
    if self._accept("="):
      sources[name] = self._name("a tensor")

  def _attrs(self, attrs):
    self._expect("{")
    while not self._accept("}"):
      key = self._name("an attribute or '}'")
      self._expect("=")
      attrs[key].CopyFrom(self.value())
      self._separate("}")

  # Values.

  def value(self):
    """Reads a value into a new AttrValue."""
    out = tf1.AttrValue()
    if self._kind in ("word", "string"):
      self._word(out)
    elif self._text == "[":
      self._shape(out.shape)
    elif self._text == "+":
      self._rest(out)
    elif self._accept("<"):
      self._tensor(out.tensor)
    elif self._accept("("):
      self._list(out.list)
    elif self._accept("$"):
      out.placeholder = self._name("the placeholder's name")
    else:
      self._fail("a value")
    return out

  def _word(self, out):
    text = self._text
    if self._is_before("{"):
      if self._depth == _DEEPEST:
        self._error(f"functions are more than {_DEEPEST} deep in attributes")
      self._depth += 1
      out.func.name = self._name("a function")
      self._attrs(out.func.attr)
      self._depth -= 1
      return
    if self._kind == "string":
      out.s = self._string()
      return
    if text == "?":
      out.shape.unknown_rank = True
    elif text in ("true", "false"):
      out.b = text == "true"
    elif text in TYPES:
      out.type = TYPES[text]
    elif _INT.fullmatch(text):
      out.i = self._int("a value")
      return
    elif _FLOAT.fullmatch(text):
      out.f = float(text)
    elif _CAPITALS.fullmatch(text):
      out.s = text.encode()
    else:
      self._fail("a value; strings are quoted")
    self._advance()

  def _list(self, out):
    out.SetInParent()
    while not self._accept(")"):
      start = self._start
      value = self.value()
      kind = value.WhichOneof("value")
      if kind in (None, "list", "placeholder"):
        self._fail("a value that lists can hold", start)
      getattr(out, kind).extend([getattr(value, kind)])
      self._separate(")")

  def _shape(self, out):
    out.SetInParent()
    self._expect("[")
    while not self._accept("]"):
      if self._text == "?":
        self._advance()
        out.dim.add(size=-1)
      else:
        out.dim.add(size=self._int("a size, '?' or ']'"))
      self._separate("]")

  def _tensor(self, out):
    out.dtype = self._type()
    out.tensor_shape.SetInParent()
    if self._text == "[":
      self._shape(out.tensor_shape)
    elif self._text == "?":
      self._advance()
      out.tensor_shape.unknown_rank = True
    way = ""
    if self._text in ("listed", "packed"):
      way = self._text
      self._advance()
    if self._text == "...":
      self._error("the values of this tensor are left out; dump it whole")
    if out.dtype == STRING:
      while self._kind == "string":
        out.string_val.append(self._string())
    else:
      self._numbers(out, way)
    self._expect(">")

  def _numbers(self, out, way):
    start, words = self._start, []
    while self._kind == "word":
      words.append(self._text)
      self._advance()
    try:
      store(out, words, way)
    except ValueError:
      self._fail("numbers of this dtype", start)

  # What the parts are made of.

  def _type(self):
    if self._text not in TYPES:
      self._fail("a type")
    number = TYPES[self._text]
    self._advance()
    return number

  def _int(self, expected):
    text = self._text
    if not _INT.fullmatch(text) or not -(1 << 63) <= int(text) < 1 << 63:
      self._fail(expected)
    self._advance()
    return int(text)

  def _name(self, expected):
    """Takes a word or a string and returns it as str."""
    text = self._text
    if self._kind == "word":
      self._advance()
      return text
    if self._kind != "string":
      self._fail(expected)
    start = self._start
    try:
      return self._string().decode()
    except UnicodeDecodeError:
      self._fail(expected + " in UTF-8", start)

  def _string(self):
    """Takes a string and returns it as bytes."""
    start, quoted = self._start, self._text[1:-1].encode()
    self._advance()
    try:
      return _ESCAPE.sub(_unescaped, quoted)
    except KeyError:
      self._fail(r"a string with no escapes but \n \t \" \\ \xNN", start)

  def _rest(self, proto):
    """Merges the text format that stands behind a plus, if there is a plus."""
    if not self._accept("+"):
      return
    start, text = self._start, self._name("protobuf's text format in quotes")
    try:
      text_format.Merge(text, proto)
    except text_format.ParseError as error:
      expected = f"{type(proto).__name__} in text format ({error})"
      self._fail(expected, start)

  def _separate(self, end):
    if self._text != end and not self._accept(","):
      self._fail(f"',' or '{end}'")

  def _expect(self, mark):
    if not self._accept(mark):
      self._fail(f"'{mark}'")

  def _accept(self, mark):
    # No word or string looks like a mark.
    if self._text != mark:
      return False
    self._advance()
    return True

  def _is_before(self, mark):
    """Tells whether `mark` is the token after the next one."""
    return self._source.startswith(
      mark, _BLANK.match(self._source, self._end).end()
    )

  def _advance(self):
    self._start = _BLANK.match(self._source, self._end).end()
    found = _TOKEN.match(self._source, self._start)
    if found is None:
      self._kind, self._text, self._end = None, "", self._start
    else:
      self._kind, self._text = found.lastgroup, found.group()
      self._end = found.end()

  def _fail(self, expected, start=None):
    """Raises GraphError at `start`, or at the next token."""
    found = _TOKEN.match(self._source, self._start if start is None else start)
    found = f"'{found.group()[:40]}'" if found else "the end"
    self._error(f"expected {expected}, found {found}", start)

  def _error(self, fact, start=None):
    start = self._start if start is None else start
    line_start = self._source.rfind("\n", 0, start) + 1
    line = self._source.count("\n", 0, start) + 1
    raise GraphError(
      f"read the graph at line {line}, column {start - line_start + 1}",
      fact.replace("\n", " "),
    )


def _unescaped(match):
  escape = match.group(1)
  if len(escape) == 3:
    return bytes([int(escape[1:], 16)])
  return _ESCAPED[escape]
