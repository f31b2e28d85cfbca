# SPDX-License-Identifier: Apache-2.0
"""Facts about a few nodes, laid over those about a whole graph."""

from __future__ import annotations

from typing import Any, Dict, Set, Union

from bnexport.graph.refs import TensorRef

# A node's name or one of its outputs.
Place = Union[str, TensorRef]


class Overlay:
  """A map over another one, which is asked for the nodes that it leaves alone.

  It has what a sweep over a graph needs of a dict.
  """

  def __init__(self, below: Dict[Any, Any], again: Set[str]):
    """Begins with nothing of its own.

    Args:
      below: the map of the whole graph; stays as it is until `settle`.
      again: names of the nodes whose facts are found again; grows meanwhile.
    """
    self._below, self._again = below, again
    self._own: Dict[Any, Any] = {}

  def __contains__(self, place: Place) -> bool:
    return place in self._of(place)

  def __getitem__(self, place: Place) -> Any:
    return self._of(place)[place]

  def __setitem__(self, place: Place, fact: Any) -> None:
    self._own[place] = fact

  def get(self, place: Place, default: Any = None) -> Any:
    return self._of(place).get(place, default)

  def settle(self) -> None:
    """Makes its facts those of the map below."""
    for name in self._again:
      for place in (name, TensorRef(name), TensorRef(name, 1)):
        self._below.pop(place, None)
    self._below.update(self._own)

  def _of(self, place: Place) -> Dict[Any, Any]:
    name = place if isinstance(place, str) else place.node
    return self._own if name in self._again else self._below
