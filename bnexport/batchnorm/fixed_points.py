# SPDX-License-Identifier: Apache-2.0
"""What an update settles at, in numbers.

An update is read as an equation for its variable: the value that repeating it
leads to while the batch stays the same is its fixed point.
"""

from __future__ import annotations

import numpy as np

from bnexport.analysis import arithmetic
from bnexport.analysis.dependence import DATA, FREE, STATISTIC
from bnexport.batchnorm.forms import NORM_OPS, batch_statistic, op_form
from bnexport.graph import ops
from bnexport.graph.nodes import constant_value, uniform_value
from bnexport.graph.origins import STORED_VIEWS, VIEWS, origin_of
from bnexport.graph.variables import variable_of

# What a non-data scalar of unknown value, such as a decay, is taken for.
_UNKNOWN = 0.9
_MOST_DEPTH = 120

_ARITHMETIC = arithmetic.select(
  "Abs Add AddN AddV2 Div DivNoNan Exp Floor Inv Log Maximum Minimum Mul Neg "
  "Pow RealDiv Reciprocal Relu Rsqrt Sqrt Square SquaredDifference Sub"
)
_SAME = STORED_VIEWS | ops.SWITCHES
# Ops that are computed; statistics are looked for behind these.
KNOWN = (
  _ARITHMETIC
  | _SAME
  | ops.MERGES
  | ops.UPDATES
  | NORM_OPS
  | {"Mean", "Sum", "Select", "SelectV2"}
)


class Reader:
  """Computes expressions of an update in numbers, per channel.

  Attributes:
    variables: updated variables that were met.
  """

  def __init__(
    self, graph, dependence, updates, given, rows, sources, unknown=_UNKNOWN
  ):
    """Prepares one computation.

    Args:
      graph: holds the expressions.
      dependence: a Dependence that covers them.
      updates: names of update nodes by the variable they write.
      given: values by TensorRef.
      rows: what a data tensor holds, or None where none may be met.
      sources: collects the data tensors that were met.
      unknown: what scalars of unknown value, such as a decay, are taken for.
    """
    self._unknown = unknown
    self._graph = graph
    self._dependence = dependence
    self._updates = updates
    self._given = dict(given)
    self._rows = rows
    self._sources = sources
    self._trial = {}
    self._depth = 0
    self.variables = set()

  def fixed_point(self, variable, update):
    """The value at which repeating an update leaves a variable; or None."""
    if variable in self._trial:
      return self._trial[variable]
    self.variables.add(variable)
    memo = self._given
    written = []
    for trial in (0.0, 1.0):
      self._trial[variable] = trial
      self._given = dict(memo)
      written.append(self._after(variable, update, trial))
    del self._trial[variable]
    self._given = memo
    if any(value is None or np.ndim(value) for value in written):
      return None
    slope = written[1] - written[0]
    with np.errstate(all="ignore"):
      if abs(slope - 1) < 1e-9:
        return np.inf if written[0] > 0 else None  # a counter
      return written[0] / (1 - slope)

  def _after(self, variable, update, before):
    value = self.value(self._graph.data_inputs(update)[1])
    op = self._graph.op(update)
    if value is None or op in ops.ASSIGN:
      return value
    return before - value if op in ops.ASSIGN_SUB else before + value

  def value(self, ref):
    """The value of a tensor; None where it can't be told."""
    if ref not in self._given:
      if self._depth > _MOST_DEPTH:
        return None
      self._depth += 1
      with np.errstate(all="ignore"):
        self._given[ref] = self._compute(ref)
      self._depth -= 1
    return self._given[ref]

  def _compute(self, ref):
    node = self._graph.node(ref.node)
    op = node.op
    if op == "Const":
      value = constant_value(self._graph, ref)
      value = None if value is None else uniform_value(value)
      return self._unknown if value is None else float(value)
    if op in ops.VARIABLES:
      return self._variable(ref.node)
    if op in ops.UPDATES:
      variable = variable_of(self._graph, self._graph.inputs(ref.node)[0])
      return self.fixed_point(variable, ref.node)
    level = self._dependence(ref)
    refs = self._graph.data_inputs(ref.node)
    if level == DATA and not self._is_part_of_moments(op, refs):
      return self._source(ref)
    if op in _SAME:
      return self.value(refs[0])
    if op in ops.MERGES:
      return self._strongest(refs)
    if op in ("Select", "SelectV2"):
      return self._strongest(refs[1:])
    if op in NORM_OPS:
      return self._norm(ref)
    if op in ops.REDUCTIONS and level != FREE:
      return self._reduce(op, refs)
    if op in _ARITHMETIC:
      values = [self.value(r) for r in refs]
      known = all(v is not None for v in values)
      return arithmetic.compute(node, values) if known else None
    return self._unknown if level == FREE else None

  def _variable(self, name):
    if name in self._trial:
      return self._trial[name]
    updates = self._updates.get(name)
    if updates:
      return self.fixed_point(name, updates[0])
    return self._unknown

  def _strongest(self, refs):
    """What training takes where a conditional offers two values."""
    return self.value(max(refs, key=self._dependence))

  def _is_part_of_moments(self, op, refs):
    """Whether a data tensor is x made ready for a mean, such as (x - m)^2.

    Scaling is none of it: behind it lies the norm before this one.
    """
    return (
      op in _SAME
      or op in ("Square", "SquaredDifference")
      or (op == "Mul" and refs[0] == refs[1])
      or (op == "Sub" and STATISTIC in map(self._dependence, refs))
    )

  def _source(self, ref):
    if self._rows is None:
      return None
    self._sources.add(origin_of(self._graph, ref, VIEWS))
    return self._rows

  def _norm(self, ref):
    statistic = batch_statistic(self._graph, ref)
    if self._rows is None or statistic is None:
      return None
    x, which = statistic
    x = self.value(x)
    if x is None or not np.ndim(x):
      return None
    if which == "mean":
      return np.mean(x)
    return np.var(x, ddof=op_form(self._graph.op(ref.node)).ddof)

  def _reduce(self, op, refs):
    value = self.value(refs[0])
    if value is None or not np.ndim(value):
      return value  # statistics of groups: their average is one again
    reduce = arithmetic.REDUCTIONS.get(op)
    return None if reduce is None else reduce(value)
