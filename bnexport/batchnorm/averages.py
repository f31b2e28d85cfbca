"""Which variable is the moving average of which batch statistic.

Found by what updates compute, not by names. An update is read as an equation:
the value that a variable settles at while the batch stays the same is its
fixed point, and a variable is the average of a statistic where its fixed
point is that statistic. This covers every way an average is written:
`v -= (v - m) * (1 - decay)`, `v = v * decay + m * (1 - decay)`, with zero
debias (whose step counter settles at infinity), with Bessel's factor, and
renorm's `v = relu(stddev ** 2 - epsilon)`.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import FrozenSet

import numpy as np

from bnexport import ops
from bnexport.batchnorm.dependence import (
  DATA,
  FREE,
  STATISTIC,
  Dependence,
  uses_batch,
)
from bnexport.graph import Graph, TensorRef
from bnexport.nodes import constant_value, uniform_value

# What a non-data scalar of unknown value, such as a decay, is taken for.
_UNKNOWN = 0.9
# Rows of the batches that statistics are told apart by.
_PROBES = (np.array([1.0, 2.0, 4.0, 7.5]), np.array([0.5, 3.0, -1.0, 6.0]))
_MOST_DEPTH = 120

_UNARY = {
  "Neg": np.negative,
  "Square": np.square,
  "Sqrt": np.sqrt,
  "Exp": np.exp,
  "Log": np.log,
  "Abs": np.abs,
  "Relu": lambda a: np.maximum(a, 0),
  "Rsqrt": lambda a: 1 / np.sqrt(a),
  "Reciprocal": lambda a: 1 / a,
  "Inv": lambda a: 1 / a,
  "Floor": np.floor,
}
_BINARY = {
  "Add": np.add,
  "AddV2": np.add,
  "Sub": np.subtract,
  "Mul": np.multiply,
  "RealDiv": np.divide,
  "Div": np.divide,
  "Pow": np.power,
  "Maximum": np.maximum,
  "Minimum": np.minimum,
  "SquaredDifference": lambda a, b: np.square(a - b),
  "DivNoNan": np.divide,
}
_SAME = (
  ops.CARRIERS
  | ops.RESHAPES
  | ops.RESOURCE_READS
  | ops.SWITCHES
  | {
    "Cast",
  }
)
_KNOWN = (
  frozenset(_UNARY)
  | frozenset(_BINARY)
  | _SAME
  | ops.MERGES
  | {
    "AddN",
    "Mean",
    "Sum",
    "Select",
    "SelectV2",
  }
  | ops.UPDATES
  | ops.FUSED_NORMS
)


@dataclasses.dataclass(frozen=True)
class Average:
  """A variable and the batch statistic that its updates put into it.

  Attributes:
    variable: name of the variable node.
    statistic: the tensor it averages; with `exact` the outputs need it.
    signature: what is averaged of what, comparable with `signature()`.
    helpers: variables that the update goes through, such as `biased`.
    update: name of the update node.
  """

  variable: str
  statistic: TensorRef
  signature: object
  helpers: FrozenSet[str]
  update: str


def variable_of(graph: Graph, ref: TensorRef):
  """Name of the variable whose handle, reference or value a tensor is."""
  seen = set()
  while ref.node not in seen:
    seen.add(ref.node)
    op = graph.op(ref.node)
    if op in ops.VARIABLES:
      return ref.node
    if (
      op in ops.CARRIERS
      or op in ops.SWITCHES
      or op in ops.MERGES
      or op in ops.RESOURCE_READS
    ):
      ref = graph.inputs(ref.node)[0]
    else:
      return None
  return None


class Averages:
  """All moving averages of batch statistics in a graph."""

  def __init__(self, graph: Graph, needed):
    """Reads every update of the graph.

    Args:
      graph: with the training part still in it.
      needed: names of the nodes that the outputs need.
    """
    self._graph = graph
    self._needed = needed
    self._updates = collections.OrderedDict()
    for node in graph:
      if node.op in ops.UPDATES:
        variable = variable_of(graph, graph.inputs(node.name)[0])
        if variable is not None:
          self._updates.setdefault(variable, []).append(node.name)
    names = [n for updates in self._updates.values() for n in updates]
    region = dict.fromkeys(needed)
    region.update(graph.ancestors(names, control=False))
    order = graph.topological(region)
    self.dependence = Dependence(graph, order)
    others = self._reductions_of_other_axes(order)
    if others:
      self.dependence = Dependence(graph, order, others)
    # Initialisers and restores write what no batch has a part in.
    self._updates = {
      v: kept
      for v, kept in (
        (v, [n for n in updates if self._written(n) != FREE])
        for v, updates in self._updates.items()
      )
      if kept
    }
    self._by_statistic = collections.defaultdict(list)
    self._by_signature = collections.defaultdict(list)
    self.all = []
    for variable, updates in self._updates.items():
      for update in updates:
        average = self._read(variable, update)
        if average is not None:
          self.all.append(average)
          self._by_statistic[average.statistic].append(average)
          if average.signature is not None:
            self._by_signature[average.signature].append(average)

  def _reductions_of_other_axes(self, order):
    """Averaged reductions that leave axis 0, where the batch mostly is.

    Time may be first, or channels may have been moved there. What is averaged
    into a variable of fixed size has no batch in it.
    """
    found = set()
    first = self.dependence
    for variable, updates in self._updates.items():
      for update in updates:
        if first(self._graph.data_inputs(update)[1]) != DATA:
          continue
        behind = self._reductions_behind(update, first)
        if behind and not behind <= found:
          self.dependence = Dependence(self._graph, order, behind)
          if self._read(variable, update) is not None:
            found |= behind
    self.dependence = first
    return found

  def _reductions_behind(self, update, dependence):
    graph = self._graph
    stack, seen, found = [graph.data_inputs(update)[1]], set(), set()
    for ref in stack:
      if ref in seen or dependence(ref) != DATA:
        continue
      seen.add(ref)
      op = graph.op(ref.node)
      if op in ("Mean", "Sum"):
        found.add(ref.node)
      elif op in _KNOWN:
        stack.extend(graph.data_inputs(ref.node))
    return found

  def is_updated(self, variable):
    """Whether some update writes batch dependent values into a variable."""
    return variable in self._updates

  def of(self, ref: TensorRef):
    """Averages of the tensor, or else of an equal statistic elsewhere."""
    found = self._by_statistic.get(ref)
    if not found:
      signature = self.signature(ref)
      found = [] if signature is None else self._by_signature[signature]
    return list({a.variable: a for a in found}.values())

  def signature(self, ref: TensorRef):
    """What a statistic is of what: equal for equal statistics.

    Returns:
      The tensor it is taken of and its values for two probe batches; None
      where it is no function of one tensor's rows.
    """
    sources = set()
    values = []
    for probe in _PROBES:
      reader = _Reader(self, {}, probe, sources)
      value = reader.value(ref)
      if value is None or np.ndim(value) or len(sources) != 1:
        return None
      values.append(round(float(value), 6))
    return (next(iter(sources)),) + tuple(values)

  def fused_signature(self, x: TensorRef, which):
    """Signatures that `which` ("mean" or "variance") of x may have."""
    source = source_of(self._graph, x)
    if which == "mean":
      return [(source,) + tuple(round(float(p.mean()), 6) for p in _PROBES)]
    return [
      (source,) + tuple(round(float(p.var(ddof=d)), 6) for p in _PROBES)
      for d in (0, 1)
    ]

  def of_fused(self, node, which):
    """Averages of the mean or variance that a fused norm computes."""
    found = list(
      self._by_statistic.get(
        TensorRef(node.name, 1 if which == "mean" else 2), ()
      )
    )
    x = self._graph.inputs(node.name)[0]
    for signature in self.fused_signature(x, which) if not found else ():
      found += self._by_signature.get(signature, ())
    return list({a.variable: a for a in found}.values())

  def _written(self, update):
    return self.dependence(self._graph.data_inputs(update)[1])

  def _read(self, variable, update):
    """The Average that an update keeps, or None."""
    if self._written(update) != STATISTIC:
      return None
    for candidate in self._candidates(update):
      helpers = self._settles_at(variable, update, candidate)
      if helpers is not None:
        return Average(
          variable,
          candidate,
          self.signature(candidate),
          frozenset(helpers),
          update,
        )
    return None

  def _candidates(self, update):
    """Statistics behind an update: needed ones first, nearest first."""
    graph = self._graph
    stack = [graph.data_inputs(update)[1]]
    seen, needed, others = set(), [], []
    for ref in stack:
      if ref in seen or self.dependence(ref) != STATISTIC:
        continue
      seen.add(ref)
      node = graph.node(ref.node)
      is_root = node.op in ops.FUSED_NORMS or any(
        self.dependence(r) == DATA for r in graph.data_inputs(ref.node)
      )
      if ref.node in self._needed and node.op not in ops.UPDATES:
        needed.append(ref)
      elif is_root:
        others.append(ref)
      if not is_root and node.op in _KNOWN:
        stack.extend(graph.data_inputs(ref.node))
    return needed + others

  def _settles_at(self, variable, update, statistic):
    """Helpers of the update, where its fixed point is the statistic."""
    ratios, helpers = [], set()
    for probe in (0.7, 2.3):
      reader = _Reader(self, {statistic: probe}, None, set())
      value = reader.fixed_point(variable, update)
      if value is None or not np.isfinite(value) or value == 0:
        return None
      ratios.append(value / probe)
      helpers |= reader.variables
    # A constant factor is Bessel's correction.
    if abs(ratios[0] - ratios[1]) > 1e-6 * abs(ratios[0]):
      return None
    return helpers - {variable}


class _Reader:
  """Computes expressions of an update in numbers, per channel.

  Attributes:
    variables: updated variables that were met.
  """

  def __init__(self, averages, given, rows, sources):
    """Prepares one computation.

    Args:
      averages: knows the graph and its updates.
      given: values by TensorRef.
      rows: what a data tensor holds, or None where none may be met.
      sources: collects the data tensors that were met.
    """
    self._graph = averages._graph
    self._dependence = averages.dependence
    self._updates = averages._updates
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
      return _UNKNOWN if value is None else float(value)
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
    if op in ops.FUSED_NORMS:
      return self._fused(node, ref, refs)
    if op in ops.REDUCTIONS and level != FREE:
      return self._reduce(op, refs)
    return self._arithmetic(op, refs, level)

  def _arithmetic(self, op, refs, level):
    if op in _UNARY or op in _BINARY or op == "AddN":
      values = [self.value(r) for r in refs]
      if any(v is None for v in values):
        return None
      if op == "AddN":
        return sum(values)
      return _UNARY[op](*values) if op in _UNARY else _BINARY[op](*values)
    return _UNKNOWN if level == FREE else None

  def _variable(self, name):
    if name in self._trial:
      return self._trial[name]
    updates = self._updates.get(name)
    if updates:
      return self.fixed_point(name, updates[0])
    return _UNKNOWN

  def _strongest(self, refs):
    """What training takes where a conditional offers two values."""
    return self.value(max(refs, key=self._dependence))

  def _is_part_of_moments(self, op, refs):
    """Whether a data tensor is x made ready for a mean, such as (x - m)^2."""
    return (
      op in _SAME
      or op in ("Square", "SquaredDifference")
      or (op == "Mul" and refs[0] == refs[1])
      or (op in _BINARY and STATISTIC in (self._dependence(r) for r in refs))
    )

  def _source(self, ref):
    if self._rows is None:
      return None
    self._sources.add(source_of(self._graph, ref))
    return self._rows

  def _fused(self, node, ref, refs):
    if self._rows is None or not ref.index or not uses_batch(node):
      return None
    x = self.value(refs[0])
    if x is None or not np.ndim(x):
      return None
    return np.mean(x) if ref.index == 1 else np.var(x, ddof=1)

  def _reduce(self, op, refs):
    value = self.value(refs[0])
    if value is None or not np.ndim(value):
      return value  # statistics of groups: their average is one again
    return {"Mean": np.mean, "Sum": np.sum, "Max": np.max, "Min": np.min}.get(
      op, lambda _: None
    )(value)


def source_of(graph, ref):
  """The tensor that a tensor is a view of."""
  while True:
    op = graph.op(ref.node)
    if op in ops.IDENTITIES or op in ops.RESHAPES or op == "Cast":
      ref = graph.inputs(ref.node)[0]
    else:
      return ref
