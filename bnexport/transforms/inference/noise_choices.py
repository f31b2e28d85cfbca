# SPDX-License-Identifier: Apache-2.0
"""Random choices between tensors, and which of them have a mean for sure."""

from __future__ import annotations

from bnexport.analysis.flow import is_product
from bnexport.analysis.randomness import FILLS, Randomness
from bnexport.editing import selection
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value
from bnexport.graph.origins import VIEWS, origin_of
from bnexport.transforms.inference.noise_identities import Identities

_BRANCH_VIEWS = ops.IDENTITIES | ops.SWITCHES | ops.ENTERS
_ADDS = frozenset(("Add", "AddV2", "AddN"))


class Choices:
  """The relations of tensors that a draw chooses from."""

  def __init__(
    self, graph: Graph, randomness: Randomness, identities: Identities
  ):
    self._graph = graph
    self._randomness = randomness
    self._identities = identities

  def is_sure(
    self, ref: TensorRef, predicate: TensorRef, a: TensorRef, b: TensorRef
  ) -> bool:
    """Whether inference has the mean of a choice between two tensors.

    It has for a tensor or nothing, for a tensor with or without what weights
    add to it, and where each element has its old state or what weights make of
    that. Of other tensors, such as a picture and its mirror image, inference
    may have one.
    """
    if self.is_zero(a) or self.is_zero(b):
      return not self.is_raw(a) and not self.is_raw(b)
    if self._is_by_element(ref, predicate):
      return self._leads(a, b) or self._leads(b, a)
    return self._adds(a, b) or self._adds(b, a)

  def _is_by_element(self, ref, predicate):
    """Whether each element is chosen by a draw of its own, as in zoneout."""
    needed = self._graph.ancestors([predicate.node], control=False)
    drawn = [n for n in needed if self._randomness.is_noise(TensorRef(n))]
    shapes = [self._identities.shape(r) for r in (ref, predicate)]
    return (
      self._graph.op(ref.node) in ops.SELECTS
      and len(shapes[0] or ()) > 1
      and shapes[0] == shapes[1]
      and not any(self._graph.op(name) in FILLS for name in drawn)
    )

  def _adds(self, first, second):
    """Whether a tensor is another one and what weights made."""
    first = origin_of(self._graph, first, _BRANCH_VIEWS)
    stack, seen = [second], set()
    while stack:
      ref = origin_of(self._graph, stack.pop(), _BRANCH_VIEWS)
      if ref == first:
        return self._leads(first, second)
      if ref not in seen and self._graph.op(ref.node) in _ADDS:
        seen.add(ref)
        stack += self._graph.data_inputs(ref.node)
    return False

  def is_zero(self, ref: TensorRef) -> bool:
    """Whether all elements of a tensor are 0."""
    origin = origin_of(self._graph, ref, VIEWS | _BRANCH_VIEWS)
    op = self._graph.op(origin.node)
    if op == "ZerosLike":
      return True
    if op in FILLS:
      origin = self._graph.data_inputs(origin.node)[1 if op == "Fill" else 0]
    value = constant_value(self._graph, origin)
    return value is not None and not value.any()

  def _leads(self, first, second):
    """Whether weights make one tensor of another."""
    first = origin_of(self._graph, first, _BRANCH_VIEWS).node
    needed = self._graph.ancestors([second.node], control=False)
    if first not in needed:
      return False
    path = selection.forward(self._graph, [first], within=needed, control=False)
    return any(self._weighs(name) for name in path if name != first)

  def is_raw(self, ref: TensorRef) -> bool:
    """Whether a tensor is data that no weights were applied to."""
    needed = self._graph.ancestors([ref.node], control=False)
    return self._randomness.is_data(ref) and not any(map(self._weighs, needed))

  def _weighs(self, name):
    """Whether a node applies weights to data."""
    refs = self._graph.data_inputs(name)
    return is_product(self._graph.op(name)) and any(
      self._randomness.is_data(ref) for ref in refs
    )
