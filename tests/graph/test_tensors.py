# SPDX-License-Identifier: Apache-2.0
"""TensorProtos that do not hold what they declare, and those that may."""

from __future__ import annotations

import numpy as np
import pytest

from bnexport.errors import GraphError
from bnexport.graph.tensors import array_of, misfit, shape_proto
from bnexport.tf1 import tf1


def proto(dtype=tf1.float32, dims=(3,), content=b"", **listed):
  made = tf1.AttrValue().tensor
  made.dtype = getattr(dtype, "as_datatype_enum", dtype)
  for size in dims:
    made.tensor_shape.dim.add(size=size)
  made.tensor_content = content
  for field, values in listed.items():
    getattr(made, field).extend(values)
  return made


@pytest.mark.parametrize(
  "tensor, values",
  [
    (proto(content=np.float32([1, 2, 3]).tobytes()), [1, 2, 3]),
    (proto(float_val=[5]), [5, 5, 5]),
    (proto(float_val=[1, 2, 3, 4]), [1, 2, 3]),
    (proto(), [0, 0, 0]),
    (proto(dims=(0,), float_val=[7]), []),
    (proto(tf1.complex64, (1,), scomplex_val=[1, 2, 3, 4]), [1 + 2j]),
    (proto(tf1.string, string_val=[b"a", b"", b"c"]), [b"a", b"", b"c"]),
  ],
)
def test_what_tensorflow_takes_is_decoded(tensor, values):
  assert list(misfit(tensor)) == []
  assert array_of(tensor).tolist() == values


@pytest.mark.parametrize(
  "tensor, words",
  [
    (proto(content=b"\0" * 8), "12 bytes that holds 8"),
    (proto(content=b"\0" * 13), "12 bytes that holds 13"),
    (proto(dims=(-1, 3)), "no shape"),
    (proto(dims=(1 << 40, 1 << 40)), "elements"),
    (proto(0), "type 0"),
    (proto(99), "type 99"),
    (proto(tf1.resource), "type 20"),
    (proto(tf1.float32.as_datatype_enum + 100), "type 101"),
  ],
)
def test_what_does_not_fit_is_said(tensor, words):
  (fact,) = misfit(tensor)
  assert words in fact


def test_a_value_that_stands_for_many_is_not_spread_without_end():
  tensor = proto(dims=(1 << 34,), float_val=[1])
  assert list(misfit(tensor)) == []
  with pytest.raises(GraphError, match="68719476736 bytes, all of one value"):
    array_of(tensor)


@pytest.mark.parametrize("sizes", [None, (), (3,), (None, 0, 2)])
def test_shapes_are_those_of_tensorflow(sizes):
  assert shape_proto(sizes) == tf1.TensorShape(sizes).as_proto()
  if sizes:
    opened = tuple(-1 if size is None else size for size in sizes)
    assert shape_proto(opened) == shape_proto(sizes)
