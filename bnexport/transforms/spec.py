# SPDX-License-Identifier: Apache-2.0
r"""Transforms as text: `name(param=value, param="quo,ted \"value\"") name2`.

This is what the Graph Transform Tool's --transforms took, and:

- Transforms stand next to each other; blanks and line ends between parts are
  free, and a backslash may stand at the end of a line.
- A comma between parameters may be left out.
- A value is bare where it has letters, digits and `_./:*?+-` only, else in
  double or single quotes. `\"`, `\'` and `\\` in quotes mean the character.
- A parameter that takes several values is repeated: `op=Identity, op=Cast`.
- `ignore_errors` may be given to every transform and changes nothing: what a
  transform can't do it refuses before the graph is touched.

What a transform is: a frozen dataclass with a `name`. Its fields are its
parameters, their annotations say how values are read.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import typing
from typing import (
  TYPE_CHECKING,
  Any,
  Callable,
  ClassVar,
  Dict,
  Iterable,
  List,
  Mapping,
  NamedTuple,
  NoReturn,
  Sequence,
  Tuple,
  Type,
  Union,
)

from bnexport.errors import TransformError, nearest
from bnexport.graph.tensors import shape_proto
from bnexport.tf1 import is_dtype, tf1

if TYPE_CHECKING:
  from typing import Protocol  # Python 3.7 has none

  from bnexport.model import Model

  class Transform(Protocol):
    """A frozen dataclass that rewrites a model; its fields are its options."""

    name: ClassVar[str]
    __dataclass_fields__: ClassVar[Dict[str, Any]]

    def apply(self, model: Model) -> List[str]:
      """Edits the model; returns what was done, a line each."""

  Specs = Union[str, Transform, Iterable[Union[str, Transform]]]

_BLANK = re.compile(r"(?:\s|\\\r?\n)*")
_WORD = re.compile(r"[A-Za-z0-9_]+")
_BARE = re.compile(r"[A-Za-z0-9_./:*?+-]+")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.S)
_ESCAPED = re.compile(r"\\([\"'\\])")
_IGNORED = "ignore_errors"


class Shape(tuple):
  """Sizes of a tensor, written `1,224,224,3`; -1, also `?`, is an open one."""

  @classmethod
  def parse(cls, text: str) -> Shape:
    """Reads `1,224,224,3`; an empty text is the shape of a scalar.

    Raises:
      ValueError: it is another text.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    sizes = cls(-1 if part == "?" else int(part) for part in parts)
    if any(size < -1 for size in sizes):
      raise ValueError(text)
    return sizes

  def __str__(self) -> str:
    return ",".join(str(size) for size in self)

  def as_proto(self) -> Any:
    return shape_proto(self)


class Value(NamedTuple):
  """A parameter's value as it is written, and where in the text it stands."""

  text: str
  at: int


@dataclasses.dataclass
class Call:
  """One transform as it is written."""

  name: str
  at: int
  parameters: Dict[str, List[Value]] = dataclasses.field(default_factory=dict)
  places: Dict[str, int] = dataclasses.field(default_factory=dict)


def read(text: str) -> List[Call]:
  """Reads a list of transforms; which there are is not looked at.

  Raises:
    TransformError: the text is no such list; the message says where.
  """
  return _Reader(text).calls()


def refuse(text: str, at: int, fact: str, way: str) -> NoReturn:
  """Raises TransformError about a place in a text.

  Args:
    text: the whole text.
    at: index of the character.
    fact: what is wrong there.
    way: what to do, or a list of offers from `nearest`.
  """
  line = text.count("\n", 0, at) + 1
  column = at - text.rfind("\n", 0, at)
  where = f"column {column}"
  if "\n" in text.strip():
    where = f"line {line}, {where}"
  raise TransformError(
    f"read the transforms at {where}",
    fact,
    way,
  )


class _Reader:
  """A text and a place in it."""

  def __init__(self, text):
    self._text = text
    self._at = 0

  def calls(self):
    found = []
    self._skip_blanks()
    while self._at < len(self._text):
      found.append(self._call())
      self._skip_blanks()
    return found

  def _call(self):
    at = self._at
    call = Call(self._word("a transform's name"), at)
    self._skip_blanks()
    opened = self._at
    if not self._take("("):
      return call
    self._skip_blanks()
    while not self._take(")"):
      self._refuse_end(f"'(' of '{call.name}' is not closed", opened)
      if call.parameters and self._take(","):
        self._skip_blanks()
      self._parameter(call)
      self._skip_blanks()
    return call

  def _parameter(self, call):
    at = self._at
    key = self._word("a parameter's name or ')'")
    self._skip_blanks()
    if not self._take("="):
      self._refuse("'=' and a value")
    self._skip_blanks()
    start = self._at
    call.parameters.setdefault(key, []).append(Value(self._value(), start))
    call.places.setdefault(key, at)

  def _value(self):
    start = self._at
    quoted = _QUOTED.match(self._text, start)
    if quoted:
      self._at = quoted.end()
      inner = quoted.group(1) if quoted.group(2) is None else quoted.group(2)
      return _ESCAPED.sub(r"\1", inner)
    if self._text[start : start + 1] in ('"', "'"):
      refuse(self._text, start, "the quote is not closed", "close it")
    bare = _BARE.match(self._text, start)
    if not bare:
      self._refuse("a value; other characters go in double quotes")
    self._at = bare.end()
    return bare.group()

  def _skip_blanks(self):
    self._at = _BLANK.match(self._text, self._at).end()

  def _take(self, character):
    if self._text.startswith(character, self._at):
      self._at += 1
      return True
    return False

  def _word(self, what):
    match = _WORD.match(self._text, self._at)
    if not match:
      self._refuse(what)
    self._at = match.end()
    return match.group()

  def _refuse_end(self, fact, at):
    if self._at >= len(self._text):
      refuse(self._text, at, fact, "write ')' behind the last parameter")

  def _refuse(self, wanted):
    there = self._text[self._at : self._at + 1]
    fact = f"there is '{there}'" if there else "the text ends"
    refuse(self._text, self._at, fact, f"write {wanted} there")


# Transforms and their parameters.


class Parameter(NamedTuple):
  """A field of a transform.

  Attributes:
    key: what it is called in a spec.
    field: the dataclass field.
    kind: what one value is: str, int, float, bool, Shape or a tf DType.
    is_repeated: whether it takes any number of values.
    is_mapping: whether the values are written `KEY=VALUE`.
  """

  key: str
  field: dataclasses.Field
  kind: Any
  is_repeated: bool
  is_mapping: bool

  @property
  def is_required(self) -> bool:
    missing = dataclasses.MISSING
    return (
      self.field.default is missing and self.field.default_factory is missing
    )

  @property
  def default(self) -> Any:
    if self.field.default_factory is not dataclasses.MISSING:
      return self.field.default_factory()
    return self.field.default


def parameter(key: str, default: Any) -> Any:
  """A dataclass field whose parameter is called otherwise than the field."""
  return dataclasses.field(default=default, metadata={"parameter": key})


def parameters_of(cls: Type[Transform]) -> Dict[str, Parameter]:
  """The parameters of a transform, by what they are called in a spec."""
  hints = typing.get_type_hints(cls)
  found = {}
  for field in dataclasses.fields(cls):
    key = field.metadata.get("parameter", field.name)
    found[key] = Parameter(key, field, *_kind(hints[field.name]))
  return found


def _kind(hint: Any) -> Tuple[Any, bool, bool]:
  """The kind of value that an annotation states, and how many."""
  origin = getattr(hint, "__origin__", None)
  if origin is typing.Union:  # Optional
    (inner,) = [arg for arg in hint.__args__ if arg is not type(None)]
    return _kind(inner)
  if origin is tuple:
    return hint.__args__[0], True, False
  if origin is collections.abc.Mapping:
    return str, True, True
  return hint, False, False


def make(cls: Type[Transform], call: Call, text: str = "") -> Transform:
  """Makes a transform from what is written.

  Args:
    cls: the transform's class.
    call: the transform as it is written.
    text: the whole text, for messages.

  Raises:
    TransformError: a parameter is unknown, missing, given twice where there
      is one value, or its value can't be read.
  """
  known = parameters_of(cls)
  given = {}
  for key, values in call.parameters.items():
    if key == _IGNORED:
      for value in values:
        _value(bool, key, value, text)
      continue
    if key not in known:
      _refuse_unknown(cls, known, key, call.places[key], text)
    given[known[key].field.name] = _values(known[key], values, text)
  for key, parameter in known.items():
    if parameter.is_required and parameter.field.name not in given:
      refuse(
        text,
        call.at,
        f"'{cls.name}' needs parameter '{key}'",
        f"write {cls.name}({key}=...)",
      )
  return cls(**given)


def _refuse_unknown(
  cls: Type[Transform],
  known: Mapping[str, Parameter],
  key: str,
  at: int,
  text: str,
) -> NoReturn:
  there = "it has no parameters"
  if known:
    there = f"its parameters are {', '.join(known)}"
  refuse(
    text,
    at,
    f"'{cls.name}' has no parameter '{key}'",
    nearest(key, known, there),
  )


def _values(parameter: Parameter, values: Sequence[Value], text: str) -> Any:
  key = parameter.key
  if parameter.is_mapping:
    pairs = {}
    for value in values:
      name, equals, inner = value.text.partition("=")
      if not equals or not name:
        refuse(
          text,
          value.at,
          f"'{value.text}' is no NAME=VALUE",
          f'write {key}="NAME=VALUE"',
        )
      pairs[name] = inner
    return pairs
  read_values = [_value(parameter.kind, key, value, text) for value in values]
  if parameter.is_repeated:
    return tuple(read_values)
  if len(values) > 1:
    refuse(
      text,
      values[1].at,
      f"'{key}' is given {len(values)} times",
      "give it once",
    )
  return read_values[0]


_BOOLS = {"true": True, "1": True, "false": False, "0": False}
_KINDS: Dict[Any, Tuple[Callable[[str], Any], str]] = {
  str: (str, ""),
  int: (int, "a whole number"),
  float: (float, "a number"),
  bool: (lambda text: _BOOLS[text.lower()], "true or false"),
  Shape: (Shape.parse, 'sizes, like "1,224,224,3" with -1 for an open one'),
  tf1.DType: (tf1.as_dtype, "a type, like float or int32"),
}


def _value(kind: Any, key: str, value: Value, text: str) -> Any:
  convert, what = _KINDS[kind]
  try:
    return convert(value.text)
  except (ValueError, KeyError, TypeError):
    refuse(
      text,
      value.at,
      f"'{value.text}' is no value of '{key}'",
      f"write {what}",
    )


def spec_of(transform: Transform) -> str:
  """The text that makes this transform; defaults are left out."""
  parts: List[str] = []
  for key, parameter in parameters_of(type(transform)).items():
    value = getattr(transform, parameter.field.name)
    if not parameter.is_required and value == parameter.default:
      continue
    if parameter.is_mapping:
      value = ["%s=%s" % pair for pair in value.items()]
    elif not parameter.is_repeated:
      value = [value]
    parts.extend(f"{key}={value_text(item)}" for item in value)
  if not parts:
    return transform.name
  return f"{transform.name}({', '.join(parts)})"


def value_text(value: Any) -> str:
  """A value as a spec writes it."""
  if isinstance(value, bool):
    text = "true" if value else "false"
  elif is_dtype(value):
    text = value.name
  elif isinstance(value, tuple):
    text = str(Shape(value))
  else:
    text = str(value)
  if _BARE.fullmatch(text):
    return text
  return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"')
