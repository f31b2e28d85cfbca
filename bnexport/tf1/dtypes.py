# SPDX-License-Identifier: Apache-2.0
"""Types of tensors, as tf.DType has them.

Which ones there are is read off the installed TensorFlow's enum DataType. A
DType here is that enum's number, by which TensorFlow takes it wherever it takes
a type, and is equal to TensorFlow's own.
"""

from __future__ import annotations

import importlib
from typing import Any, Dict, Optional

import numpy as np

from bnexport.tf1 import loading
from bnexport.tf1.definitions import installed

# A DataType of this much more is a reference to what a variable holds.
_REF = 100
# Names that are not those of the enum's values.
_NAMES = {"half": "float16", "float": "float32", "double": "float64"}
_NUMPY: Dict[str, Any] = {
  name: getattr(np, name)
  for name in (
    *("float16", "float32", "float64", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
  )
}
_NUMPY["bool"] = np.bool_
_NUMPY["string"] = object  # of any length
_QUANTIZED = {
  "q" + name: np.dtype([("q" + name, getattr(np, name))])
  for name in ("int8", "int16", "int32", "uint8", "uint16")
}
_NUMPY.update(_QUANTIZED)
_HANDLES = ("resource", "variant")
# What an array takes for an element, which is a pointer, or nothing.
_SIZES = {"string": 8, **dict.fromkeys(_HANDLES, 0)}


class DType(int):
  """A type, by its DataType."""

  @property
  def as_datatype_enum(self) -> int:
    return int(self)

  @property
  def name(self) -> str:
    return _NAME_OF[int(self)]

  @property
  def base_dtype(self) -> DType:
    return DType(int(self) % _REF)

  @property
  def as_numpy_dtype(self) -> Any:
    """The NumPy type of arrays.

    Raises:
      KeyError: a handle's; there are no arrays of them.
    """
    name = self.base_dtype.name
    if name in _HANDLES:
      raise KeyError(int(self))
    return _NUMPY[name] if name in _NUMPY else _extended(int(self))

  @property
  def size(self) -> int:
    """Bytes of an element of an array."""
    own = _SIZES.get(self.base_dtype.name)
    return np.dtype(self.as_numpy_dtype).itemsize if own is None else own

  @property
  def is_floating(self) -> bool:
    return self.base_dtype.name.startswith(("float", "bfloat"))

  @property
  def is_integer(self) -> bool:
    """Whether it is an integer's, and not a quantized one's."""
    return self.base_dtype.name.startswith(("int", "uint"))

  @property
  def is_unsigned(self) -> bool:
    return self.base_dtype.name.startswith("uint")

  @property
  def is_complex(self) -> bool:
    return self.base_dtype.name.startswith("complex")

  @property
  def is_bool(self) -> bool:
    return self.base_dtype.name == "bool"

  @property
  def is_quantized(self) -> bool:
    return self.base_dtype.name in _QUANTIZED

  @property
  def real_dtype(self) -> DType:
    """The type of a complex number's real part; of others, the type."""
    if not self.is_complex:
      return self
    return as_dtype("float32" if self.size == 8 else "float64")

  @property
  def min(self) -> Any:
    return self._limits().min

  @property
  def max(self) -> Any:
    return self._limits().max

  def _limits(self) -> Any:
    numpy_type = self.as_numpy_dtype
    return (np.iinfo if self.is_integer else np.finfo)(numpy_type)

  def is_compatible_with(self, other: Any) -> bool:
    """Whether a tensor of another type may be given where this one is asked."""
    other = as_dtype(other)
    return self in (other, other.base_dtype)

  def __repr__(self) -> str:
    return "tf." + self.name

  def __str__(self) -> str:
    return f"<dtype: '{self.name}'>"

  def __format__(self, spec: str) -> str:
    return format(str(self), spec)

  def __reduce__(self) -> Any:
    return DType, (int(self),)


_NAME_OF: Dict[int, str] = {}
_BY_NAME: Dict[str, DType] = {}


def define(enum: Any) -> Dict[str, DType]:
  """The DTypes of TensorFlow's enum DataType, by name."""
  for key, number in enum.items():
    word = key[len("DT_") :].lower()
    word, ref, _ = word.partition("_ref")
    name = _NAMES.get(word, word) + ref
    if number:  # 0 is invalid
      _NAME_OF[number] = name
      _BY_NAME[name] = _BY_NAME[word + ref] = DType(number)
  names = [*_NAME_OF.values(), "half", "double"]
  return {name: _BY_NAME[name] for name in names}


def as_dtype(value: Any) -> DType:
  """The DType that a DType, an enum, a name or a NumPy type means.

  Raises:
    TypeError: there is none.
  """
  found: Optional[DType]
  if isinstance(value, str):
    found = _BY_NAME.get(value)
  elif isinstance(value, int):
    found = DType(value) if value in _NAME_OF else None
  elif value is float:
    found = _BY_NAME["float32"]
  elif value is bool:
    found = _BY_NAME["bool"]
  elif hasattr(value, "as_datatype_enum"):  # TensorFlow's own
    found = DType(value.as_datatype_enum)
  else:
    found = _of_numpy(value)
  if found is None:
    raise TypeError(f"{value!r} is no type of tensors")
  return found


def _of_numpy(value: Any) -> Optional[DType]:
  if value is int or value is str or value is bytes or value is None:
    return None
  try:
    dtype = np.dtype(value)
  except TypeError:
    return None
  if dtype.kind in "OSUT":
    return _BY_NAME["string"]
  if dtype.names:
    return _BY_NAME.get(dtype.names[0])
  # The types that NumPy does not have bear TensorFlow's names.
  return _BY_NAME.get(dtype.name)


def _extended(number: int) -> Any:
  """The NumPy type of bfloat16 and other types that NumPy does not have."""
  if number not in _EXTENDED:
    _EXTENDED[number] = _told(number)
  return _EXTENDED[number]


_EXTENDED: Dict[int, Any] = {}


def _told(number: int) -> Any:
  # As of 2.16 they are surely those of ml_dtypes, which may also be installed
  # beside an older TensorFlow that has its own.
  if (installed() or (0,)) >= (2, 16):
    extended = importlib.import_module("ml_dtypes")
    if hasattr(extended, DType(number).base_dtype.name):
      return getattr(extended, DType(number).base_dtype.name)
  full = loading.full()
  return full.tf1.as_dtype(number).as_numpy_dtype
