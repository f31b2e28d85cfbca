# SPDX-License-Identifier: Apache-2.0
"""Arrays of TensorProtos, and TensorProtos of arrays, without TensorFlow.

Both are what TensorFlow's make_ndarray and make_tensor_proto give, byte for
byte; what is not plain here is left to them.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

import numpy as np

from bnexport.tf1 import loading, protos
from bnexport.tf1.dtypes import DType, as_dtype

# The field that lists values, by the name of the dtype.
_LISTED = {
  "bfloat16": "half_val",
  "bool": "bool_val",
  "complex128": "dcomplex_val",
  "complex64": "scomplex_val",
  "float16": "half_val",
  "float32": "float_val",
  "float64": "double_val",
  "int64": "int64_val",
  "string": "string_val",
  "uint32": "uint32_val",
  "uint64": "uint64_val",
  **dict.fromkeys(
    (
      *("int8", "int16", "int32", "uint8", "uint16"),
      *("qint8", "qint16", "qint32", "quint8", "quint16"),
    ),
    "int_val",
  ),
}
# Dtypes of which several elements are listed and not packed as bytes.
_NEVER_PACKED = ("bool", "complex64", "complex128", "string", "uint16")
# Kinds of NumPy's dtypes that Python's numbers may have, by that of the dtype.
_KINDS = {"b": "b", "i": "biu", "u": "biu", "f": "biuf", "c": "biufc"}
_MOST_BYTES = 1 << 31


def make_ndarray(tensor: Any) -> np.ndarray:
  """The array of a TensorProto.

  Raises:
    TypeError: its dtype has no arrays.
    ValueError: it does not hold what it declares.
  """
  dtype = as_dtype(tensor.dtype)
  if dtype.name not in _LISTED:
    return _tensorflow().make_ndarray(tensor)
  shape = [dim.size for dim in tensor.tensor_shape.dim]
  if tensor.tensor_content:
    held = np.frombuffer(tensor.tensor_content, dtype.as_numpy_dtype)
    return held.copy().reshape(shape)
  listed = getattr(tensor, _LISTED[dtype.name])
  count = int(np.prod(shape, dtype=np.int64))
  if dtype.name == "string":
    texts = list(listed)
    texts += (texts[-1:] or [""]) * (count - len(texts))
    return np.array(texts, np.object_).reshape(shape)
  values = _values(listed, dtype)
  if not values.size:
    return np.zeros(shape, dtype.as_numpy_dtype)
  missing = count - values.size
  if missing:  # the last value stands for those that are not listed
    values = np.concatenate([values, np.repeat(values[-1:], missing)])
  return values.reshape(shape)


def _values(listed: Any, dtype: DType) -> np.ndarray:
  numpy_type = dtype.as_numpy_dtype
  if dtype.is_complex:
    parts = np.array(listed, dtype.real_dtype.as_numpy_dtype)
    return parts[: len(parts) // 2 * 2].view(numpy_type)
  if dtype.name in ("float16", "bfloat16"):  # listed by their bits
    return np.fromiter(listed, np.uint16, len(listed)).view(numpy_type)
  if dtype.is_quantized:
    plain = np.dtype(numpy_type)[0]
    return np.fromiter(listed, plain, len(listed)).view(numpy_type)
  return np.fromiter(listed, numpy_type, len(listed))


def make_tensor_proto(
  values: Any, dtype: Any = None, shape: Optional[Sequence[int]] = None
) -> Any:
  """A TensorProto of an array, a Python number or text, or lists of them.

  Args:
    values: an array keeps its dtype; Python's numbers become float32 and int32
      where they fit.
    dtype: what they become, or None.
    shape: of the tensor, where it is not that of the values; the last value
      stands for those that are missing.

  Raises:
    TypeError: the values are not of this dtype.
    ValueError: they are of no shape, or more than 2 GB.
  """
  wanted = as_dtype(dtype) if dtype else None
  array = _array(values, wanted)
  if array is None or shape is not None:
    return _tensorflow().make_tensor_proto(values, dtype, shape)
  found = as_dtype(array.dtype)
  made = protos.classes()["TensorProto"](dtype=int(found))
  made.tensor_shape.SetInParent()  # a scalar's is there, and empty
  for size in array.shape:
    made.tensor_shape.dim.add(size=size)
  if array.size > 1 and found.name not in _NEVER_PACKED:
    if array.nbytes >= _MOST_BYTES:
      raise ValueError("a TensorProto of 2 GB or more can't be made")
    made.tensor_content = array.tobytes()
    return made
  listed = getattr(made, _LISTED[found.name])
  if found.is_complex:
    array = np.ascontiguousarray(array).view(found.real_dtype.as_numpy_dtype)
  elif _LISTED[found.name] == "half_val":
    array = array.view(np.uint16)
  listed.extend(array.ravel().tolist())
  return made


def _array(values: Any, wanted: Optional[DType]) -> Optional[np.ndarray]:
  """The values as an array; None where that is TensorFlow's to say."""
  if wanted is not None and (wanted.name not in _LISTED or wanted.is_quantized):
    return None
  if isinstance(values, (np.ndarray, np.generic)):
    made = np.asarray(values)
    if wanted is not None and wanted.name != "string":
      made = made.astype(wanted.as_numpy_dtype)
    known = made.dtype.kind in "biufc" or made.dtype.name == "bfloat16"
    if known and made.dtype.isnative and made.dtype.name in _LISTED:
      return made if wanted is None or wanted.name != "string" else None
    return _texts(made) if made.dtype.kind in "OSU" else None
  if not _is_plain(values):
    return None
  made = np.array(values)
  if wanted is None:
    return _of_python(made, values)
  if wanted.name == "string":
    return _texts(_of_texts(values))
  kind = "f" if wanted.is_floating else np.dtype(wanted.as_numpy_dtype).kind
  if made.size and made.dtype.kind not in _KINDS[kind]:
    return None
  try:
    return np.array(values, wanted.as_numpy_dtype)
  except OverflowError:
    return None


def _of_python(made: np.ndarray, values: Any) -> Optional[np.ndarray]:
  """An array of Python's numbers or texts, in the types TensorFlow prefers."""
  if made.dtype.kind in "SU":
    return _texts(_of_texts(values))
  if made.dtype == np.float64:
    return made.astype(np.float32)
  if made.dtype == np.int64:
    short = made.astype(np.int32)
    return short if (short == made).all() else made
  return made if made.dtype.kind in "bc" else None


def _of_texts(values: Any) -> np.ndarray:
  """An array of objects; one of bytes would lose the zeros at their end."""
  made = np.empty(np.array(values).shape, np.object_)
  made[...] = values
  return made


def _texts(array: np.ndarray) -> Optional[np.ndarray]:
  """Texts as bytes; None where some of them are something else."""
  flat = array.ravel().tolist()
  if not all(isinstance(text, (str, bytes)) for text in flat):
    return None
  made = np.empty(len(flat), np.object_)
  made[:] = [t.encode() if isinstance(t, str) else t for t in flat]
  return made.reshape(array.shape)


def _is_plain(values: Any) -> bool:
  """Tells whether these are Python's numbers or texts, or lists of them."""
  if isinstance(values, (list, tuple)):
    is_list = [isinstance(value, (list, tuple)) for value in values]
    if any(is_list):
      lengths = {len(v) for v in values if isinstance(v, (list, tuple))}
      return all(is_list) and len(lengths) == 1 and all(map(_is_plain, values))
    return len({_word(value) for value in values}) < 2 and all(
      map(_is_plain, values)
    )
  return isinstance(values, (bool, int, float, complex, str, bytes, np.number))


def _word(value: Any) -> str:
  """What values of a list have to have in common."""
  return "text" if isinstance(value, (str, bytes)) else "number"


def _tensorflow() -> Any:
  return loading.full().tf1
