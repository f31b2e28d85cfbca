# SPDX-License-Identifier: Apache-2.0
"""The forms that batch norms are written in, and finding norms by these.

A new form is a module here that answers what `batchnorm.form.Form` asks, and
an entry in `FORMS`. An op that computes the statistics of its batch by itself
is named in `graph.ops`, too, which tells how tensors depend on the batch.
"""

from __future__ import annotations

from typing import Optional

from bnexport.analysis.dependence import STATISTIC, Dependence, uses_batch
from bnexport.batchnorm.form import OpForm
from bnexport.batchnorm.forms.arithmetic import Arithmetic
from bnexport.batchnorm.forms.fused import Fused
from bnexport.batchnorm.forms.global_norm import GlobalNorm
from bnexport.batchnorm.norm import BATCH, STORED, UNKNOWN, BatchNorm
from bnexport.graph import ops
from bnexport.graph.origins import STORED_VIEWS, stored_name

FORMS = (Fused(), GlobalNorm(), Arithmetic())

_BY_OP = {op: form for form in FORMS for op in form.ops}
# Ops that each are a norm.
NORM_OPS = frozenset(
  op for form in FORMS if isinstance(form, OpForm) for op in form.ops
)


def find(graph, outputs):
  """All batch norms that the outputs need, in order of execution.

  Norms whose statistics belong to one row, such as layer and instance norms,
  are none of them.
  """
  order = graph.topological(
    graph.ancestors((ref.node for ref in outputs), control=False)
  )
  return find_among(graph, order, Dependence(graph, order))


def find_among(graph, order, dependence):
  """All batch norms among some nodes, in their order.

  Args:
    graph: stays as it is.
    order: names of nodes, inputs first.
    dependence: a Dependence that covers them.
  """
  members, found, without_x = set(order), [], set()
  for name in order:
    form = _BY_OP.get(graph.op(name))
    match = form and form.match(graph, graph.node(name), dependence, members)
    # What is folded into weights may take the stddev of one norm repeatedly.
    if match is not None and match not in without_x:
      if match.x is None:
        without_x.add(match)
      found.append(
        BatchNorm(form, name, *match, *_provenance(graph, dependence, match))
      )
  return found


def _provenance(graph, dependence, match):
  """The source of mean and variance, whatever form reads them.

  Returns:
    `statistics`, `moving_mean` and `moving_variance` of a BatchNorm.
  """
  refs = (match.mean, match.variance)
  level = max(dependence(ref) for ref in refs if ref is not None)
  # Read in a branch, they are what they are, whatever chooses the branch.
  through = STORED_VIEWS | ops.SWITCHES
  stored = [
    None if ref is None else stored_name(graph, ref, through) for ref in refs
  ]
  statistics = UNKNOWN
  if batch_statistic(graph, match.variance) is not None:
    statistics = BATCH
  elif None not in stored:
    statistics = STORED
  elif level == STATISTIC:
    statistics = BATCH
  return (statistics, *stored)


def op_form(op) -> Optional[OpForm]:
  """The form of the norms that an op is, or None."""
  form = _BY_OP.get(op)
  return form if isinstance(form, OpForm) else None


def batch_statistic(graph, ref):
  """A statistic that a norm hands out beside its result.

  Returns:
    The norm's x, and "mean" or "variance" for which statistic of the batch
    the tensor is; None where it is none, or not computed by a norm's op.
  """
  node = graph.node(ref.node)
  form = op_form(node.op)
  if form is None or not uses_batch(node) or ref.index >= len(form.outputs):
    return None
  which = form.outputs[ref.index]
  if which not in ("mean", "variance"):
    return None
  return form.input(graph, ref.node, "x"), which
