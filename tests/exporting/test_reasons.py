# SPDX-License-Identifier: Apache-2.0
"""Each reason for NOT PROVEN speaks where it should, and only there."""

import dataclasses

import pytest
from judges.transforming import model_of

from bnexport.batchnorm.forms import find
from bnexport.exporting import reasons
from bnexport.exporting.export import Export
from bnexport.graph import TensorRef
from bnexport.model.request import Request
from bnexport.proof.alternatives import Alternative
from bnexport.proof.comparison import Comparison

# One norm that uses the batch.
GRAPH = """
x = Placeholder() {shape=[?,2,2,3]}
gamma = Const() {value=<float [3] 1 2 3>}
beta = Const() {value=<float [3] 1 0 1>}
none = Const() {value=<float [0]>}
y = FusedBatchNorm(x, gamma, beta, none, none) {epsilon=0.001, is_training=true}
"""
FROZEN = Request("frozen_graph", "net.pb")
LOST = Alternative("'t' is no input", "1", matters=True, lost="t")


def made(
  request=None, is_stored=True, has_norms=True, graph=GRAPH, named=(), **more
):
  """An Export of a graph with a norm that uses the batch."""
  model = model_of(graph)
  model.request, model.decisions.named = request, named
  if is_stored:
    model.decisions.stored = {TensorRef("mean", 0): object()}
  norms = find(model.graph, model.outputs) if has_norms else []
  return Export(model, norms, {}, **more)


def joint(**more):
  return Comparison(is_joint=True, feeds={"x": (4, 2, 2, 3)}, **more)


@pytest.mark.parametrize(
  "rule, export, proof, said",
  [
    (
      "joint_beside_stored",
      made(has_norms=False),
      joint(),
      "the rebuilt model",
    ),
    ("joint_beside_stored", made(has_norms=False), Comparison(), None),
    ("joint_beside_stored", made(), joint(), None),
    (
      "joint_beside_stored",
      made(is_stored=False, has_norms=False),
      joint(),
      None,
    ),
    (
      "joint_beside_stored",
      made(has_norms=False, recalibrated=[object()]),
      joint(),
      None,
    ),
    ("said_before", made(), Comparison(missing="no reference"), "no reference"),
    ("said_before", made(), Comparison(), None),
    ("half_replaced", made(), Comparison(), "--keep_batch_statistics=y "),
    ("half_replaced", made(kept=("y",)), Comparison(), None),
    ("half_replaced", made(is_stored=False), Comparison(), None),
    ("half_replaced", made(has_norms=False), Comparison(), None),
    ("joint_without_training", made(FROZEN), joint(), "--checkpoint=PREFIX"),
    ("joint_without_training", made(FROZEN), Comparison(), None),
    ("joint_without_training", made(), joint(), None),
    (
      "joint_without_training",
      made(Request("meta_graph", "net.meta")),
      joint(),
      None,
    ),
    (
      "joint_without_training",
      made(dataclasses.replace(FROZEN, training="net.meta")),
      joint(),
      None,
    ),
    (
      "joint_without_training",
      made(FROZEN, graph="x = Placeholder()\ny = Relu(x)"),
      joint(),
      None,
    ),
    (
      "swayed_by_the_batch",
      made(named=("y",)),
      Comparison(is_swayed=True),
      "--meta_graph=FILE",
    ),
    ("swayed_by_the_batch", made(named=("y",)), joint(), None),
    ("swayed_by_the_batch", made(), Comparison(is_swayed=True), None),
    ("lost_input", made(), Comparison(alternatives=[LOST]), "depend on 't'"),
    (
      "lost_input",
      made(),
      Comparison(alternatives=[dataclasses.replace(LOST, matters=False)]),
      None,
    ),
    (
      "lost_input",
      made(),
      Comparison(alternatives=[dataclasses.replace(LOST, lost=None)]),
      None,
    ),
  ],
)
def test_a_rule_speaks_only_where_it_should(rule, export, proof, said):
  reason = getattr(reasons, rule)(export, proof)
  if said is None:
    assert reason is None
  else:
    assert said in reason.fact


def test_the_first_reason_counts():
  proof = joint(missing="no reference", alternatives=[LOST])
  export = made(FROZEN, has_norms=False)
  assert "the rebuilt model" in reasons.find(export, proof).fact
  export.model.decisions.stored = {}
  assert reasons.find(export, proof).fact == "no reference"
  assert reasons.find(export, Comparison(alternatives=[LOST])).note == (
    "keep it as an input with --input_node=t"
  )
  assert reasons.find(export, Comparison()) is None


def test_every_rule_is_asked():
  rules = [
    value
    for name, value in vars(reasons).items()
    if callable(value)
    and getattr(value, "__module__", "") == reasons.__name__
    and not name.startswith("_")
    and name not in ("find", "Reason")
  ]
  assert rules == list(reasons.RULES)
