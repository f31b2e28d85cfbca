# SPDX-License-Identifier: Apache-2.0
"""Candidates for a norm's averages among a checkpoint's keys, by name.

The last resort, for graphs whose updates were cut away: where these are still
there, what they compute tells (see `averages`). What names say is asked about,
not taken.
"""

from __future__ import annotations

import re

from bnexport.graph.nodes import in_scope

_MEAN = re.compile(r"mean|mu(?![a-z])", re.I)
_VARIANCE = re.compile(r"var|sigma", re.I)
_WORD = re.compile(r"[^/_.]+")


class Pairing:
  """Assigns the keys of a checkpoint to norms."""

  def __init__(self, shapes, taken, meant=()):
    """Collects the keys that may be averages.

    Args:
      shapes: the checkpoint's shapes by key.
      taken: names that are no averages: the graph's own constants.
      meant: names and scopes of keys that are averages, where that is said.
    """
    self._meant = meant
    self._by_shape = {}
    for key, shape in shapes.items():
      if shape and key not in taken and key.rpartition("/")[0] not in shapes:
        self._by_shape.setdefault(squeezed(shape), []).append(key)

  def of(self, shape, anchors, statistics):
    """The keys of a norm's stored mean and variance.

    Args:
      shape: of the norm's parameters, squeezed.
      anchors: names that belong to the norm: of its parameters and of itself.
      statistics: names of the nodes that compute its mean and variance.

    Returns:
      A pair of lists of keys that are equally near to the norm; both hold one
      key where names tell.
    """
    keys = self._by_shape.get(shape, ())
    own = [
      # ExponentialMovingAverage names a shadow for the tensor, in its scope.
      [key for key in keys if f"/{name}/" in "/" + key]
      for name in statistics
    ]
    if statistics and all(len(found) == 1 for found in own):
      return own
    means = [key for key in keys if _is_like(key, _MEAN, _VARIANCE)]
    variances = [key for key in keys if _is_like(key, _VARIANCE, _MEAN)]
    return tuple(
      _nearest(self._stated(keys), anchors) for keys in (means, variances)
    )

  def _stated(self, keys):
    """Those of some keys that are said to be averages; all where none is."""
    stated = [k for k in keys if any(in_scope(k, s) for s in self._meant)]
    return stated or keys


def squeezed(shape):
  """A shape without its dimensions of size 1."""
  return tuple(size for size in shape if size != 1)


def _is_like(key, wanted, other):
  """Whether the last part of a key that says anything says this."""
  for part in reversed(key.split("/")):
    if wanted.search(part) or other.search(part):
      return bool(wanted.search(part)) and not other.search(part)
  return False


def _nearest(keys, anchors):
  """The keys in the innermost scope that is also an anchor's.

  Without a scope in common, a key has to be the only one of its size.
  """
  scored = {key: max(_nearness(key, a) for a in anchors) for key in keys}
  best = max(scored.values(), default=None)
  if best and best[:2] == (0, 0) and len(keys) > 1:
    return []
  return [key for key in keys if scored[key] == best]


def _nearness(key, anchor):
  """Scopes in common, then words in common, then how little is left over."""
  a, b = key.split("/"), anchor.split("/")
  scopes = _common(a[:-1], b[:-1])
  words = _common(_WORD.findall(key), _WORD.findall(anchor))
  return scopes, words, scopes - len(a)


def _common(a, b):
  """Length of the common beginning of two lists."""
  count = 0
  for x, y in zip(a, b):
    if x != y:
      break
    count += 1
  return count
