# SPDX-License-Identifier: Apache-2.0
"""Draws of the random ops that stay, the same in several runs."""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np


class Draws:
  """Numbers of random ops: a row keeps its own, alone and in any batch.

  Attributes:
    names: of the random ops.
  """

  def __init__(self, names: Sequence[str], draw: Callable):
    """Has drawn nothing yet.

    Args:
      names: of the random ops.
      draw: gives their arrays for feeds, by node name; what it runs may ask
        here while it does, and gets nothing.
    """
    self.names = list(names)
    self._draw = draw
    self._is_drawing = False
    self._shapes: Dict[Tuple, List[Tuple[int, ...]]] = {}
    self._arrays: Dict[str, np.ndarray] = {}

  def beside(self, feeds: Mapping) -> Dict[str, np.ndarray]:
    """Arrays of the random ops for feeds, by name.

    Raises:
      ComparisonError: they can't be asked for, as in a loop.
    """
    if self._is_drawing:
      return {}
    key = tuple(sorted((name, np.shape(feeds[name])) for name in feeds))
    if key not in self._shapes:
      self._shapes[key] = self._drawn(feeds)
    return {
      name: self._arrays[name][tuple(map(slice, shape))]
      for name, shape in zip(self.names, self._shapes[key])
    }

  def _drawn(self, feeds):
    """Shapes of what is drawn; larger arrays have the smaller ones in them."""
    self._is_drawing = True
    try:
      arrays = list(map(np.asarray, self._draw(self.names, feeds)))
    finally:
      self._is_drawing = False
    for name, array in zip(self.names, arrays):
      old = self._arrays.get(name, array)
      if old.ndim != array.ndim:
        old = array
      size = tuple(map(max, zip(old.shape, array.shape)))
      if size != old.shape:
        array = np.resize(array, size)
        array[tuple(map(slice, old.shape))] = old
        self._arrays[name] = array
      else:
        self._arrays[name] = old
    return [array.shape for array in arrays]
