# SPDX-License-Identifier: Apache-2.0
"""Values of the parameters of noise: stated, stored, or made up to try."""

from __future__ import annotations

from typing import Mapping, Optional, Union

import numpy as np

from bnexport.analysis.randomness import Randomness
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape, uniform_value
from bnexport.tf1 import tf1

# Constants and variables of more elements are no parameters of a distribution.
_LARGEST = 4096
# A vector of open size has so many rates.
_ITEMS = 64


def trial_value(
  graph: Graph,
  randomness: Randomness,
  node: tf1.NodeDef,
  trial: int,
  values: Optional[Mapping[str, np.ndarray]] = None,
) -> Optional[Union[np.ndarray, np.generic]]:
  """The value of what nothing computes, as floats; None for all else.

  Args:
    graph: the graph.
    randomness: of the graph.
    node: a constant, a variable or a placeholder.
    trial: which values placeholders and variables have; any number.
    values: of the variables by name; made up where it is None.
  """
  ref = TensorRef(node.name)
  if node.op == "Const":
    value = constant_value(graph, ref, _LARGEST)
    if value is None or value.dtype.kind not in "fiub":
      return None
    uniform = uniform_value(value) if value.size > 1 else None
    return np.float64(value if uniform is None else uniform)
  if node.op not in ops.VARIABLES and node.op not in ops.PLACEHOLDERS:
    return None
  shape = static_shape(graph, ref) or ()
  if randomness.is_data(ref) or np.prod(shape) > _LARGEST:
    return None
  if node.op in ops.VARIABLES and values is not None:
    return np.float64(values[node.name]) if node.name in values else None
  return _made_up(node, shape, trial)


def _made_up(node, shape, trial):
  """No two have the same value, so that what cancels is the same."""
  dtype = tf1.as_dtype(node.attr["dtype"].type)
  shape = [_ITEMS if size < 0 else size for size in shape]
  random = np.random.RandomState([trial, *bytearray(node.name.encode())])
  if dtype.is_integer:
    return np.float64(random.randint(1, 9, shape))
  return random.uniform(0.15, 0.85, shape) if dtype.is_floating else None
