# SPDX-License-Identifier: Apache-2.0
"""Transforms: their parameters, and the texts that make and spell them.

A transform is a frozen dataclass with a `name`. Its fields are its parameters;
their annotations say how values are read.
"""

from __future__ import annotations

import collections.abc
import dataclasses
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

from bnexport.errors import nearest
from bnexport.graph.tensors import shape_proto
from bnexport.tf1 import is_dtype, tf1
from bnexport.transforms import calls

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


def make(cls: Type[Transform], call: calls.Call, text: str = "") -> Transform:
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
      calls.refuse(
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
  calls.refuse(
    text,
    at,
    f"'{cls.name}' has no parameter '{key}'",
    nearest(key, known, there),
  )


def _values(
  parameter: Parameter, values: Sequence[calls.Value], text: str
) -> Any:
  key = parameter.key
  if parameter.is_mapping:
    pairs = {}
    for value in values:
      name, equals, inner = value.text.partition("=")
      if not equals or not name:
        calls.refuse(
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
    calls.refuse(
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


def _value(kind: Any, key: str, value: calls.Value, text: str) -> Any:
  convert, what = _KINDS[kind]
  try:
    return convert(value.text)
  except (ValueError, KeyError, TypeError):
    calls.refuse(
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
  return calls.spelled(text)
