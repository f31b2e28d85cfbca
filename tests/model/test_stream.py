# SPDX-License-Identifier: Apache-2.0
"""A graph written node by node, with constants that are read as they go."""

import numpy as np
import pytest

from bnexport import text
from bnexport.graph import Graph
from bnexport.graph.nodes import Signatures, deferred_attrs
from bnexport.model import Model, stream
from bnexport.tf1 import tf1


def with_deferred(array, dtype):
  """A Model of which one constant is read where the graph is written."""
  graph = Graph(text.loads("y = Identity(w)   w = Const() {value=<float 1>}"))
  attrs = deferred_attrs(array.shape, dtype, "w")
  graph.become("w", "Const", (), attrs)
  return Model(
    graph=graph,
    values=None,
    inputs=(),
    outputs=(),
    origin="",
    signatures=Signatures(),
    deferred={"w": lambda: array},
  )


@pytest.mark.parametrize("name", ["float32", "bfloat16", "bool", "complex64"])
@pytest.mark.parametrize("shape", [(3, 2), (), (0, 2)])
def test_deferred_values_are_written(name, shape):
  dtype = tf1.as_dtype(name)
  count = int(np.prod(shape))
  array = np.arange(1, 1 + count).reshape(shape).astype(dtype.as_numpy_dtype)
  written = b"".join(stream.pieces(with_deferred(array, dtype)))
  node = Graph(tf1.GraphDef.FromString(written)).node("w")
  found = tf1.make_ndarray(node.attr["value"].tensor)
  assert found.dtype == array.dtype
  assert found.shape == shape
  assert (found == array).all()
