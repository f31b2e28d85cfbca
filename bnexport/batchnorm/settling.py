# SPDX-License-Identifier: Apache-2.0
"""The statistic that the update of a variable settles at.

Statistics are known by their signature: what they are taken of, and what they
come to for two probe batches.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, Collection, Dict, List, Mapping, Optional, Set, Tuple

import numpy as np

from bnexport.analysis.dependence import DATA, STATISTIC, Dependence
from bnexport.analysis.sizes import Sizes
from bnexport.batchnorm.fixed_points import BOUNDS, KNOWN, Reader
from bnexport.batchnorm.forms import batch_statistic
from bnexport.batchnorm.pieces import Piece
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import static_shape
from bnexport.graph.origins import VIEWS, origin_of
from bnexport.graph.writes import part_shape, write_of

# The tensor that a statistic is taken of, and its values for probe batches.
Signature = Tuple[Any, ...]

# Factors are the same up to rounding.
_SAME_RATIO = 1e-6
# How near n / (n - 1) tells n; Keras 2.2 writes n / (n - 1 - epsilon).
_NEAR_COUNT = 2e-3
# Rows of a batch for which a constant n / (n - 1) may be Bessel's correction.
_FEWEST = 8
# Numbers of rows, and of whatever else is not known, that Bessel's correction
# is told by from another factor.
_COUNTS = (2, 5)
# What statistics are taken for that an average may only go by; and what a step
# counter has come to where an average is of all batches alike.
_OTHER = 1.37
_STEPS = 64.0
_MOST_OTHERS = 40
# Tensors behind one update that are looked at, the nearest first.
MOST_BEHIND = 400
# Rows of the batches that statistics are told apart by.
PROBES = (np.array([1.0, 2.0, 4.0, 7.5]), np.array([0.5, 3.0, -1.0, 6.0]))


def is_taken_of_data(
  graph: Graph, dependence: Dependence, ref: TensorRef
) -> bool:
  """Whether an op makes a statistic of data, and not of other statistics."""
  return batch_statistic(graph, ref) is not None or (
    dependence(ref) == STATISTIC
    and any(dependence(r) == DATA for r in graph.data_inputs(ref.node))
  )


class Settling:
  """Reads the updates of one graph in numbers.

  Attributes:
    dependence: the Dependence of what the outputs or an update need.
  """

  def __init__(
    self,
    graph: Graph,
    dependence: Dependence,
    needed: Collection[str],
    updates: Dict[str, List[str]],
  ):
    """Reads nothing yet.

    Args:
      graph: stays as it is.
      dependence: covers what the outputs or an update need.
      needed: names of the nodes that the outputs need.
      updates: names of update nodes by the variable that they write.
    """
    self.dependence = dependence
    self._graph = graph
    self._needed = needed
    self._updates = updates
    self._has_bounds = any(node.op in BOUNDS for node in graph)
    counts = {*map(len, PROBES), *_COUNTS}
    self._sizes = {count: Sizes(graph, count) for count in counts}
    self._signatures: Dict[TensorRef, Optional[Signature]] = {}
    self._blends: Optional[Set[str]] = None

  def signature(self, ref: TensorRef) -> Optional[Signature]:
    """A key of a statistic: equal for equal statistics of equal tensors.

    Returns:
      The tensor it is taken of and its values for two probe batches; None
      where it is no function of one tensor's rows.
    """
    if ref not in self._signatures:
      self._signatures[ref] = self._probed(ref)
    return self._signatures[ref]

  def _probed(self, ref: TensorRef) -> Optional[Signature]:
    sources: Set[TensorRef] = set()
    values = []
    for probe in PROBES:
      reader = self.reader({}, probe, sources)
      value = reader.value(ref)
      if value is None or np.ndim(value) or len(sources) != 1:
        return None
      values.append(round(float(value), 6))
    return (next(iter(sources)),) + tuple(values)

  def signatures_of(self, x: TensorRef, which: str) -> List[Signature]:
    """Signatures that "mean", "variance" or "squares", E[x^2], may have."""
    source = origin_of(self._graph, x, VIEWS)
    if which != "variance":
      power = 1 if which == "mean" else 2
      means = [float((probe**power).mean()) for probe in PROBES]
      return [(source,) + tuple(round(mean, 6) for mean in means)]
    return [
      (source,) + tuple(round(float(p.var(ddof=d)), 6) for p in PROBES)
      for d in (0, 1)
    ]

  def reader(
    self,
    given: Mapping[TensorRef, float],
    rows: Optional[np.ndarray],
    sources: Set[TensorRef],
    count: int = len(PROBES[0]),
    **more: Any,
  ) -> Reader:
    """A Reader of some values, see there; `count` is the number of rows."""
    return Reader(
      self._graph,
      self.dependence,
      self._updates,
      given,
      rows,
      sources,
      sizes=self._sizes[count],
      **more,
    )

  def candidates(
    self, update: str, piece: Optional[Piece] = None
  ) -> Tuple[List[TensorRef], List[TensorRef]]:
    """Statistics behind an update: needed ones, then those of data.

    The second list has the others, from which such a one was computed. Each
    list has the nearest first. Of a Piece, those that are written to it.
    """
    chosen = {} if piece is None else piece.chosen
    graph = self._graph
    stack = [write_of(graph, update).value]
    seen: Set[TensorRef] = set()
    needed, roots, others = [], [], []
    for ref in itertools.islice(stack, MOST_BEHIND):
      if ref in seen or self.dependence(ref) != STATISTIC:
        continue
      seen.add(ref)
      if ref in chosen:
        stack.append(chosen[ref])
        continue
      node = graph.node(ref.node)
      is_root = is_taken_of_data(graph, self.dependence, ref)
      if ref.node in self._needed and node.op not in ops.UPDATES:
        needed.append(ref)
      elif is_root:
        roots.append(ref)
      elif node.op in KNOWN and node.op not in ops.UPDATES:
        others.append(ref)
      if not is_root and node.op in KNOWN:
        stack.extend(graph.data_inputs(ref.node))
    return needed + roots, others[:_MOST_OTHERS]

  def leaves(self, variable: str, update: str, piece: Piece) -> bool:
    """Whether an update leaves what a mask is zero for as it was."""
    rest = dataclasses.replace(piece, given=dict.fromkeys(piece.given, 0.0))
    reader = self.reader({}, None, set(), other=_OTHER, piece=rest)
    return reader.line(variable, update) == (1.0, 0.0)

  def is_blend(self, ref: TensorRef) -> bool:
    """Whether stored averages are part of a statistic, not by way of x."""
    if ref.node in self._updates:
      return True
    if self._blends is None:
      self._blends = self._readers_of_stored()
    return ref.node in self._blends and self.dependence(ref) != DATA

  def _readers_of_stored(self) -> Set[str]:
    """Nodes that read stored averages, or what is computed of them."""
    found: Set[str] = set()
    stack = [name for name in self._updates if name in self._graph]
    for name in stack:
      for ref in self._graph.reads(name):
        is_on = name in self._updates or self.dependence(ref) != DATA
        if ref.control or not is_on:
          continue
        new = [n for n in self._graph.readers_of(ref) if n not in found]
        found.update(new)
        stack.extend(new)
    return found

  def settles_at(
    self,
    variable: str,
    update: str,
    statistic: TensorRef,
    is_exact: bool,
    piece: Optional[Piece] = None,
  ) -> Optional[Set[str]]:
    """Helpers of the update, where its fixed point is the statistic.

    Bessel's correction n / (n - 1) is the only factor that there may be: a
    statistic times another number is another statistic.

    Args:
      variable: name of the variable.
      update: name of its update.
      statistic: the tensor.
      is_exact: whether there may be no factor at all.
      piece: the Piece of the variable that is meant; None for the whole.
    """
    ratio, helpers = self._ratio(variable, update, statistic, piece=piece)
    if ratio is None and self._has_bounds:
      ratio, helpers = self._ratio(
        variable, update, statistic, piece=piece, is_inside=True
      )
    if ratio is None:
      return None
    if abs(ratio - 1) > _SAME_RATIO:
      if is_exact or not self._may_be_corrected(statistic):
        return None
      ratios = [
        self._ratio(
          variable, update, statistic, count=n, unknown=float(n), piece=piece
        )[0]
        for n in _COUNTS
      ]
      if not _are_bessels(ratios, self._rows_of(variable, statistic, piece)):
        return None
    return helpers - {variable}

  def _rows_of(
    self, variable: str, statistic: TensorRef, piece: Optional[Piece]
  ) -> Optional[int]:
    """The number of elements behind each of a statistic; None where open.

    Args:
      variable: name of the variable, which has one for each statistic.
      statistic: the tensor.
      piece: the Piece of the variable that has them; None for the whole.
    """
    signature = self.signature(statistic)
    if signature is None:
      return None
    part = None if piece is None else piece.part
    whole = static_shape(self._graph, TensorRef(variable))
    sizes = []
    for shape in (
      static_shape(self._graph, signature[0]),
      part_shape(self._graph, part, whole),
    ):
      if shape is None or min(shape, default=1) < 1:
        return None
      sizes.append(int(np.prod(shape)))
    return sizes[0] // sizes[1]

  def _may_be_corrected(self, statistic: TensorRef) -> bool:
    """Whether a tensor may be a variance; a mean has no Bessel's correction.

    Nor has what a rate was applied to.
    """
    signature = self.signature(statistic)
    return signature is None or signature in self.signatures_of(
      signature[0], "variance"
    )

  def _ratio(
    self, variable: str, update: str, statistic: TensorRef, **more: Any
  ) -> Tuple[Optional[float], Set[str]]:
    """The fixed point over the statistic, if that is constant; the helpers."""
    ratios: List[float] = []
    helpers: Set[str] = set()
    for probe in (0.7, 2.3):
      for counted in (np.inf, _STEPS):
        reader = self.reader(
          {statistic: probe},
          None,
          set(),
          counted=counted,
          other=_OTHER,
          **more,
        )
        value = reader.fixed_point(variable, update)
        helpers |= reader.variables
        if value is not None and np.isfinite(value):
          break
      else:
        return None, helpers
      if value == 0:
        return None, helpers
      ratios.append(value / probe)
    if abs(ratios[0] - ratios[1]) > _SAME_RATIO * abs(ratios[0]):
      return None, helpers
    return ratios[0], helpers


def _are_bessels(ratios: List[Optional[float]], rows: Optional[int]) -> bool:
  """Whether factors are n / (n - 1) for whole numbers n of at least 2.

  Args:
    ratios: the factor for each of `_COUNTS`. Where it is always the same, it
      is a constant of the graph.
    rows: which n is right where it is a constant; None where that isn't known:
      a batch of some rows is meant.
  """
  counts = []
  for ratio in ratios:
    if ratio is None or not 1 < ratio <= 2 + 2 * _NEAR_COUNT:
      return False
    count = ratio / (ratio - 1)
    if abs(count - round(count)) > _NEAR_COUNT * count:
      return False
    counts.append(round(count))
  if len(set(counts)) > 1:
    return True
  return counts[0] == rows or (rows is None and counts[0] >= _FEWEST)
