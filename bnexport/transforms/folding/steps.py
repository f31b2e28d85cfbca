# SPDX-License-Identifier: Apache-2.0
"""Nodes that scale and shift each channel by constants."""

from __future__ import annotations

import numpy as np

from bnexport.analysis.dependence import uses_batch
from bnexport.analysis.shapes import data_format
from bnexport.batchnorm.folding import Affine, CannotFold
from bnexport.batchnorm.forms import NORM_OPS, op_form
from bnexport.transforms.folding.linear import is_float

SHIFTS = frozenset(("Add", "AddV2", "BiasAdd", "BiasAddV1", "Sub"))
# Ops that do nothing at inference and may go.
TRIVIAL = frozenset(("Identity", "PreventGradient", "Snapshot", "StopGradient"))
_COMMUTATIVE = frozenset(("Add", "AddV2", "Mul", "Sub"))
_FIRST = frozenset(("BiasAdd", "BiasAddV1", "Div", "RealDiv")) | NORM_OPS
_UNARY = TRIVIAL | {"Neg"}
_STEPS = _COMMUTATIVE | _FIRST | _UNARY
_ONE, _ZERO = np.ones(()), np.zeros(())


class Steps:
  """The steps of a graph: y = scale * x + shift, all but x constant."""

  def __init__(self, graph, constants):
    self._graph = graph
    self._constants = constants

  def input_of(self, name):
    """The x of a step; None where the node is none."""
    node = self._graph.node(name)
    slot = self._slot(node)
    return None if slot is None else self._graph.data_inputs(name)[slot]

  def _slot(self, node):
    if node.op not in _STEPS or not is_float(node):
      return None
    refs = self._graph.data_inputs(node.name)
    varying = [i for i, ref in enumerate(refs) if ref not in self._constants]
    if len(varying) != 1 or uses_batch(node):
      return None
    if node.op in _COMMUTATIVE:
      return varying[0]
    if node.op in _FIRST or node.op in _UNARY:
      return 0 if varying == [0] else None
    return None

  def affine(self, name, rank) -> Affine:
    """A step's scale and shift, as arrays that broadcast against x.

    Raises:
      CannotFold: its constants are more than is computed here.
    """
    node, op = self._graph.node(name), self._graph.op(name)
    if op in _UNARY:
      return Affine(-_ONE if op == "Neg" else _ONE, _ZERO)
    values, form = self._values(node), op_form(op)
    if form is not None:
      return form.affine(node, values, rank)
    (c,) = values
    if op == "Mul":
      return Affine(c, _ZERO)
    if op in ("RealDiv", "Div"):
      with np.errstate(all="ignore"):
        return Affine(1.0 / c, _ZERO)
    if op == "BiasAdd" and data_format(node) == b"NCHW":
      c = c.reshape([-1] + [1] * (rank - 2))
    if op != "Sub":
      return Affine(_ONE, c)
    return Affine(_ONE, -c) if self._slot(node) == 0 else Affine(-_ONE, c)

  def _values(self, node):
    slot, values = self._slot(node), []
    for i, ref in enumerate(self._graph.data_inputs(node.name)):
      if i != slot:
        values.append(self._constants.value(ref))
        if values[-1] is None or values[-1].dtype.kind != "f":
          raise CannotFold(f"the value of '{ref}' is not computed here")
    return values

  def is_scale(self, name):
    """Whether a step gives channels scales of their own, as a norm does."""
    node = self._graph.node(name)
    if node.op in NORM_OPS:
      return True
    if node.op not in ("Mul", "RealDiv", "Div"):
      return False
    try:
      return self._values(node)[0].size > 1
    except CannotFold:
      return False

  def why_none(self, node):
    """A clause: the reason why a norm that is one op is no step."""
    if uses_batch(node):
      return "it is in training mode"
    refs = self._graph.data_inputs(node.name)
    for what, ref in zip(op_form(node.op).inputs, refs):
      if what != "x" and ref not in self._constants:
        return f"its {what} '{ref}' is not constant"
    return "x is constant"
