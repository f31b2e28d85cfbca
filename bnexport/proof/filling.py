# SPDX-License-Identifier: Apache-2.0
"""Values for placeholders of a training graph that feeds do not name."""

from __future__ import annotations

from typing import Iterable, Mapping

import numpy as np

from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import static_shape
from bnexport.tf1 import tf1


def shaped(graph: Graph, name: str, value, rows: int = 1) -> np.ndarray:
  """An array of one value, in the shape of a node; its open batch has `rows`.

  Other open sizes are 1.
  """
  shape = static_shape(graph, TensorRef(name)) or ()
  sizes = [
    rows if i == 0 and size < 0 else max(size, 1)
    for i, size in enumerate(shape)
  ]
  return np.full(sizes, value)


def filled(graph: Graph, names: Iterable[str], feeds: Mapping):
  """Arrays for some placeholders, by name, with as many rows as the data.

  Labels have a row for each row of the data.

  Args:
    graph: the placeholders' Graph.
    names: of the placeholders.
    feeds: arrays by node name.
  """
  rows = max((len(v) for v in feeds.values() if np.ndim(v)), default=1)
  return {name: _filled(graph, name, rows) for name in names}


def _filled(graph, name, rows):
  dtype = tf1.as_dtype(graph.node(name).attr["dtype"].type)
  value = b"" if dtype == tf1.string else 1
  if dtype.is_floating:
    value = 0.5  # it may be a rate of dropout: neither 0 nor 1 is one
  return shaped(graph, name, value, rows).astype(dtype.as_numpy_dtype)
