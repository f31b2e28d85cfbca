# SPDX-License-Identifier: Apache-2.0
"""Fixed points of updates, in numbers.

An update is read as an equation for its variable: the value that repeating it
leads to while the batch stays the same is its fixed point.
"""

from __future__ import annotations

import numpy as np

from bnexport.analysis import arithmetic
from bnexport.analysis.dependence import DATA, FREE, STATISTIC
from bnexport.analysis.sizes import Sizes, reduced_count
from bnexport.batchnorm.forms import NORM_OPS, batch_statistic, op_form
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import uniform_value
from bnexport.graph.origins import STORED_VIEWS, VIEWS, origin_of
from bnexport.graph.variables import variable_of
from bnexport.graph.writes import (
  ADD,
  PART_READS,
  SET,
  SUBTRACT,
  part_key,
  part_taken,
  write_of,
  written_variable,
)

# What a non-data scalar of unknown value, such as a decay, is taken for.
_UNKNOWN = 0.9
# Rows of a batch, where no batch is given.
_ROWS = 4
_MOST_DEPTH = 120
# A slope as near to 1 as this leaves a value where it is, but for what it adds.
_STILL = 1e-9

_ARITHMETIC = arithmetic.select(
  "Abs Add AddN AddV2 Div DivNoNan Exp Expm1 Floor Inv Log Log1p Maximum "
  "Minimum Mul Neg Pow RealDiv Reciprocal Relu Rsqrt Sqrt Square "
  "SquaredDifference Sub"
)
_SAME = STORED_VIEWS | ops.SWITCHES
# A value that is clipped goes through both.
BOUNDS = frozenset(("Maximum", "Minimum"))
_TAKES = PART_READS | {"Unpack"}
# Ops that are computed; statistics are looked for behind these.
KNOWN = (
  _ARITHMETIC
  | _SAME
  | ops.MERGES
  | ops.UPDATES
  | NORM_OPS
  | {"Mean", "Pack", "Sum", "Select", "SelectV2"}
)


class Reader:
  """Computes expressions of an update in numbers, per channel.

  Attributes:
    variables: updated variables that were met.
  """

  def __init__(
    self,
    graph,
    dependence,
    updates,
    given,
    rows,
    sources,
    unknown=_UNKNOWN,
    counted=np.inf,
    other=None,
    sizes=None,
    piece=None,
    is_inside=False,
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
      counted: what a counter has come to.
      other: what statistics of data are taken for that are not given, where
        no rows are; None where none may be met.
      sizes: the Sizes of tensors that no batch has a part in.
      piece: the Piece that is read of an update that writes several; or None.
      is_inside: whether values lie inside of the constant bounds that they are
        clipped to. What a running maximum has come to is no such bound.
    """
    if sizes is None:
      sizes = Sizes(graph, _ROWS if rows is None else len(rows))
    self._sizes = sizes
    self._counted, self._other, self._unknown = counted, other, unknown
    self._graph, self._dependence = graph, dependence
    self._updates = updates
    self._given = dict(given)
    self._is_inside = is_inside
    self._piece = piece
    self._chosen = {} if piece is None else piece.chosen
    if piece is not None:
      self._given.update(piece.given)
    self._told = dict(self._given)
    self._rows = rows
    self._sources = sources
    self._trial = {}
    self._depth = 0
    self.variables = set()

  def fixed_point(self, variable, update):
    """The value at which repeating an update leaves a variable; or None.

    Of an update that writes a part of its variable, that of this part.
    """
    line = self.line(variable, update)
    if line is None:
      return None
    slope, start = line
    with np.errstate(all="ignore"):
      if abs(slope - 1) < _STILL:
        return self._counted if start > 0 else None
      return start / (1 - slope)

  def line(self, variable, update):
    """Slope and start of the line on which an update moves; None for none.

    The slope is the share that an update keeps of what is stored, the start is
    what it adds.
    """
    if variable in self._trial:
      return None
    self.variables.add(variable)
    memo = self._given
    written = []
    keys = {part_key(self._graph, write_of(self._graph, update).part)}
    if self._piece is not None and self._piece.variable == variable:
      keys.add(part_key(self._graph, self._piece.part))
    # What was computed of the variable is another value in a trial.
    is_known = TensorRef(variable) in memo
    for trial in (0.0, 1.0):
      self._trial[variable] = keys, trial
      self._given = dict(self._told if is_known else memo)
      written.append(self._after(update, trial))
    del self._trial[variable]
    self._given = memo
    if any(value is None or np.ndim(value) for value in written):
      return None
    with np.errstate(all="ignore"):  # what is divided by a count of 0
      return written[1] - written[0], written[0]

  def _after(self, update, before):
    change, _, value = write_of(self._graph, update)
    value = self.value(value)
    if value is None or change == SET:
      return value
    if change in (ADD, SUBTRACT):
      return before - value if change == SUBTRACT else before + value
    return None

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
    if op in ops.VARIABLES:
      return self._variable(ref.node, None)
    if op in ops.UPDATES:
      return self._updated(ref.node)
    if ref in self._chosen:
      return self.value(self._chosen[ref])
    level = self._dependence(ref)
    refs = self._graph.data_inputs(ref.node)
    if level == DATA and not self._is_part_of_moments(op, refs):
      return self._source(ref)
    if op in _TAKES and level != DATA:
      variable = variable_of(self._graph, refs[0])
      if variable is not None:
        part = part_taken(self._graph, ref)
        return self._variable(variable, part) if part else None
    return self._computed(ref, node, level, refs)

  def _computed(self, ref, node, level, refs):
    """The value of a tensor that no variable and no batch is."""
    op = node.op
    if level == FREE:
      value = self._sizes.value(ref)
      value = None if value is None else uniform_value(value)
      if value is not None:
        return float(value)
    if op in _SAME or (op == "Pack" and len(refs) == 1):
      return self.value(refs[0])
    if op in ops.MERGES:
      return self._strongest(refs)
    if op in ops.SELECTS:
      return self._strongest(refs[1:])
    if op in NORM_OPS:
      return self._norm(ref)
    if op in ops.REDUCTIONS and level != FREE:
      return self._reduce(ref.node, refs)
    if self._is_inside and op in BOUNDS:
      moving = [r for r in refs if self._sizes.value(r) is None]
      if len(moving) == 1:
        return self.value(moving[0])
    if op in _ARITHMETIC:
      values = [self.value(r) for r in refs]
      known = all(v is not None for v in values)
      return arithmetic.compute(node, values) if known else None
    return self._unknown if level == FREE else None

  def _updated(self, update):
    variable = written_variable(self._graph, update)
    if variable in self._trial:
      # Written by an earlier update of the same run, or by this very one.
      keys, trial = self._trial[variable]
      part = write_of(self._graph, update).part
      is_same = part_key(self._graph, part) in keys
      return self._after(update, trial) if is_same else None
    return self.fixed_point(variable, update)

  def _variable(self, name, part):
    """The value of a variable, or of a part of it."""
    key = part_key(self._graph, part)
    if name in self._trial:
      tried, trial = self._trial[name]
      return trial if key in tried else None
    for update in self._updates.get(name, ()):
      if part_key(self._graph, write_of(self._graph, update).part) == key:
        return self.fixed_point(name, update)
    return self._unknown

  def _strongest(self, refs):
    """Training's choice where a conditional offers two values."""
    return self.value(max(refs, key=self._dependence))

  def _is_part_of_moments(self, op, refs):
    """Whether a data tensor is x made ready for a mean, such as (x - m)^2.

    Scaling is none of it: behind it lies the norm before this one.
    """
    return (
      op in _SAME
      or op in ("Square", "SquaredDifference")
      or (op == "Mul" and self._are_centred(refs))
      or (op == "Sub" and self._is_centre(refs[1]))
    )

  def _are_centred(self, refs):
    """Whether two factors are one, or one tensor about two of its means."""
    if refs[0] == refs[1]:
      return True
    found = [origin_of(self._graph, ref, VIEWS).node for ref in refs]
    if any(self._graph.op(name) != "Sub" for name in found):
      return False
    (x, a), (y, b) = map(self._graph.data_inputs, found)
    return x == y and self._is_centre(a) and self._is_centre(b)

  def _is_centre(self, ref):
    """Whether a tensor is a statistic, or the variable that averages one."""
    if self._dependence(ref) != FREE:
      return self._dependence(ref) == STATISTIC
    return variable_of(self._graph, ref) in self._updates

  def _source(self, ref):
    if self._rows is None:
      return None
    self._sources.add(origin_of(self._graph, ref, VIEWS))
    return self._rows

  def _norm(self, ref):
    statistic = batch_statistic(self._graph, ref)
    if self._rows is None or statistic is None:
      return None if statistic is None else self._other
    x, which = statistic
    x = self.value(x)
    if x is None or not np.ndim(x):
      return None
    if which == "mean":
      return np.mean(x)
    return np.var(x, ddof=op_form(self._graph.op(ref.node)).ddof)

  def _reduce(self, name, refs):
    value = self.value(refs[0])
    if value is None and self._rows is None:
      return self._other
    if not np.ndim(value):
      return value  # statistics of groups: their average is one again
    op = self._graph.op(name)
    reduce = arithmetic.REDUCTIONS.get(op)
    if reduce is None:
      return None
    count = reduced_count(self._graph, self._sizes, name)
    if op == "Sum" and count is not None:
      return np.mean(value) * count
    return reduce(value)
