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
from bnexport.graph import ops
from bnexport.proof import fixed_point
from bnexport.proof.comparison import DIFFERS, PROVEN
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


# Whole: each model is given three faults of many, so no two repeat each other.
@pytest.mark.part(1, oldest=3)
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


# Epsilon of a norm only. A training graph is the definition of its model: where
# it has a norm for inference of its own, that one's epsilon is what its author
# evaluates with, whatever training uses; where it has not, the one norm's is.
# Nothing else could tell that another was meant. What can be wrong is an export
# with another epsilon than that.


def with_epsilon(case, value, is_training):
  """The Model of a case whose norms that train, or that don't, have it."""
  model = trained(case.prefix, [case.output])
  norms = [
    node
    for node in model.graph
    if node.op in ops.FUSED_NORMS and node.attr["is_training"].b == is_training
  ]
  assert norms
  for node in norms:
    node.attr["epsilon"].f = value
  return export(model)


@pytest.mark.parametrize("name", ["contrib_fused_phase", "layers_fused_phase"])
def test_epsilon_is_that_of_the_graphs_own_norm_for_inference(cases, name):
  case = cases(name)
  in_training, in_inference = (
    with_epsilon(case, 0.1, is_training) for is_training in (True, False)
  )
  assert in_training.prove().verdict == PROVEN
  assert distance(case, in_training) <= 1
  assert in_inference.prove().verdict == PROVEN
  assert distance(case, in_inference) > 10


@pytest.mark.parametrize(
  "name", ["contrib_fused_literal", "layers_fused_literal"]
)
def test_an_export_with_another_epsilon_than_its_graph_differs(cases, name):
  case = cases(name)
  right, other = (with_epsilon(case, value, True) for value in (0.1, 0.001))
  assert right.prove().verdict == PROVEN
  assert {np.float32(norm.epsilon) for norm in right.norms} == {np.float32(0.1)}
  other.reference = right.reference
  assert other.prove().verdict == DIFFERS
  # The updates' fixed point tells it without that reference.
  other.original = right.original
  found = fixed_point.examine(other, {case.input: case.x})
  assert not found.holds and not found.why_not
