# SPDX-License-Identifier: Apache-2.0
"""The values that a TensorProto stores, as against those it declares.

One stored value stands for all elements of a constant of any size, so what
is stored and what is declared are kept apart here.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Optional, Sequence

import numpy as np

from bnexport.graph.nodes import element_count
from bnexport.tf1 import tf1

_ENUM = tf1.AttrValue.DESCRIPTOR.fields_by_name["type"].enum_type
TYPE_NAMES = {
  number: value.name[len("DT_") :].lower()
  for number, value in _ENUM.values_by_number.items()
}
TYPES = {name: number for number, name in TYPE_NAMES.items()}
# The names that tf.DType and NumPy have for them.
for _other, _name in (
  ("float16", "half"),
  ("float32", "float"),
  ("float64", "double"),
):
  TYPES[_other] = TYPES[_name]

STRING = TYPES["string"]


class NoNotation(Exception):
  """A proto holds more than the notation can say."""


class _Storage(NamedTuple):
  """The fields and NumPy types in which TensorProtos store a dtype.

  Attributes:
    field: the repeated field, where values are listed.
    numbers: NumPy dtype of the numbers.
    listed: NumPy dtype of the same bytes in `field`, where it is another.
    width: numbers an element has.
    packs: whether make_tensor_proto of any TensorFlow packs them as bytes.
  """

  field: str
  numbers: Any
  listed: Any = None
  width: int = 1
  packs: bool = True


_STORAGE = {
  TYPES["float"]: _Storage("float_val", np.float32),
  TYPES["double"]: _Storage("double_val", np.float64),
  TYPES["half"]: _Storage("half_val", np.float16, np.uint16),
  TYPES["bfloat16"]: _Storage(
    "half_val", tf1.bfloat16.as_numpy_dtype, np.uint16
  ),
  TYPES["int8"]: _Storage("int_val", np.int8),
  TYPES["int16"]: _Storage("int_val", np.int16),
  TYPES["int32"]: _Storage("int_val", np.int32),
  TYPES["int64"]: _Storage("int64_val", np.int64),
  TYPES["uint8"]: _Storage("int_val", np.uint8),
  TYPES["uint16"]: _Storage("int_val", np.uint16, packs=False),
  TYPES["uint32"]: _Storage("uint32_val", np.uint32),
  TYPES["uint64"]: _Storage("uint64_val", np.uint64),
  TYPES["bool"]: _Storage("bool_val", np.bool_, packs=False),
  TYPES["complex64"]: _Storage(
    "scomplex_val", np.float32, width=2, packs=False
  ),
  TYPES["complex128"]: _Storage(
    "dcomplex_val", np.float64, width=2, packs=False
  ),
}


def stored_count(tensor: tf1.TensorProto) -> Optional[int]:
  """Number of elements that a TensorProto stores; None for unknown dtypes."""
  if tensor.dtype == STRING:
    return len(tensor.string_val)
  storage = _STORAGE.get(tensor.dtype)
  if storage is None:
    return None
  if tensor.tensor_content:
    size = np.dtype(storage.numbers).itemsize * storage.width
    return len(tensor.tensor_content) // size
  return len(getattr(tensor, storage.field)) // storage.width


def number_words(tensor: tf1.TensorProto) -> List[str]:
  """Texts of the numbers that a TensorProto stores.

  A complex number is two of them.

  Raises:
    NoNotation: its dtype has none, or its bytes are not whole numbers.
  """
  storage = _STORAGE.get(tensor.dtype)
  if storage is None:
    raise NoNotation
  dtype = np.dtype(storage.numbers)
  if tensor.tensor_content:
    if len(tensor.tensor_content) % dtype.itemsize:
      raise NoNotation
    numbers = np.frombuffer(tensor.tensor_content, dtype)
  else:
    listed = np.array(getattr(tensor, storage.field))
    numbers = listed.astype(storage.listed or dtype).view(dtype)
  return [_short(number_word(number)) for number in numbers]


def number_word(number: np.generic) -> str:
  """The shortest text from which a NumPy number can be read again."""
  if isinstance(number, np.bool_):
    return "true" if number else "false"
  return str(number).replace("e+", "e")


def _short(word: str) -> str:
  return word[: -len(".0")] if word.endswith(".0") else word


def store(tensor: tf1.TensorProto, words: Sequence[str], way: str) -> None:
  """Puts numbers into a TensorProto.

  Args:
    tensor: has its dtype and shape.
    words: texts of the numbers.
    way: "packed" into bytes, or "listed"; empty for what is usual: to pack
      all elements if they are several.

  Raises:
    ValueError: a word is no number of this dtype.
  """
  if tensor.dtype not in _STORAGE:
    raise ValueError("no numbers of this dtype can be written")
  storage = _STORAGE[tensor.dtype]
  numbers = _parsed(words, np.dtype(storage.numbers))
  count = len(numbers) // storage.width
  is_whole = count > 1 and count == element_count(tensor)
  if way == "packed" or (is_whole and storage.packs and not way):
    tensor.tensor_content = numbers.tobytes()
  else:
    listed = numbers.view(storage.listed or numbers.dtype)
    getattr(tensor, storage.field).extend(listed.tolist())


def _parsed(words: Sequence[str], dtype: np.dtype) -> np.ndarray:
  if dtype == np.bool_:
    if not set(words) <= {"true", "false"}:
      raise ValueError("no bool")
    return np.array([word == "true" for word in words], dtype)
  if dtype.kind not in "iu":
    with np.errstate(over="ignore"):  # what is too large is inf, as in C
      return np.array([float(word) for word in words]).astype(dtype)
  integers = [int(word) for word in words]
  least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
  if any(not least <= integer <= most for integer in integers):
    raise ValueError("out of range")
  return np.array(integers, dtype)
