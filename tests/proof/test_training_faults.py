# SPDX-License-Identifier: Apache-2.0
"""Faults in how averages are kept never end in a wrong number that is proven.

-s prints the table. The truth is what the rebuilt model of the graph without the
fault answers: a fault changes what an update tracks and, with it, what training
would have stored, so an export that uses what is stored as it is is wrong.
"""

import itertools

import numpy as np
import pytest
from judges.opening import trained
from judges.training_faults import FAULTS, planted

from bnexport.errors import Error
from bnexport.exporting.export import Options, export
from bnexport.proof.comparison import PROVEN
from bnexport.proof.runs import ImportedGraph

MODELS = (
  "answer_argmax_literal contrib_dense_literal contrib_fused_inplace_literal "
  "contrib_nchw_literal contrib_neither_literal contrib_siamese_literal "
  "contrib_unfused_literal contrib_zero_debias_literal decoy_same_shapes "
  "ema_literal formula_divide_sqrt formula_stddev_tracked formula_sums "
  "hand_assign_literal hand_bessel hand_resource_assign keras_training_true "
  "layers_dense_literal layers_float64 layers_fused_literal "
  "layers_renorm_literal layers_resource_literal layers_shared_twice "
  "layers_volume_literal net_capsules net_mobile net_residual_v2 "
  "towers_first"
).split()
# So many faults are planted in each.
_SOME = 3


@pytest.fixture(scope="module")
def table():
  rows = []
  yield rows
  width = max(len(row[0]) for row in rows)
  for name, fault, verdict, off in rows:
    print(f"\n{name:{width}} {fault:16} {verdict:10} {off}", end="")


def answers(case, made):
  graph_def = made.to_graph_def()
  ends = made.model.outputs, made.model.initializers
  with ImportedGraph(graph_def, *ends) as run:
    return run.run({case.input: case.x})


def distance(case, made):
  """How far an export is from the truth, in tolerances of the case."""
  truth = [case.y] + list(case.also_y)
  apart = [
    np.max(np.abs(np.float64(a) - b)) / max(1.0, np.max(np.abs(b)))
    for a, b in zip(answers(case, made), truth)
  ]
  return max(apart) / case.tol


def verdict_of(case, model):
  """The verdict on a training graph's export, and how far that is off."""
  options = Options(
    settings={name: str(value) for name, value in case.set.items()},
    data_format="NHWC" if case.no_run_115 else None,
  )
  try:
    made = export(model, options)
    proof = made.prove()
  except Error as error:
    return "refused", str(error)
  return proof.verdict, distance(case, made)


@pytest.mark.parametrize("name", MODELS)
def test_no_fault_in_training_is_proven_right(cases, table, name):
  case = cases(name)

  def load():
    inputs = [case.input] if case.cut_input else []
    return trained(case.prefix, [case.output] + list(case.also), inputs)

  begin = MODELS.index(name) * _SOME
  kinds = [FAULTS[(begin + i) % len(FAULTS)] for i in range(_SOME)]
  wrong = []
  for number, kind in enumerate(kinds):
    for model in itertools.islice(planted(kind, load), number, number + 1):
      verdict, off = verdict_of(case, model)
      table.append((name, kind.__name__, verdict, str(off)[:90]))
      if verdict == PROVEN and not off <= 1:
        wrong.append(table[-1])
  assert not wrong
