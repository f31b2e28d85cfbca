# SPDX-License-Identifier: Apache-2.0
"""Faults edited into right exports are told; -s prints the table."""

import itertools

import numpy as np
import pytest
from judges.exporting import export
from judges.planting import FAULTS

from bnexport.batchnorm.forms import find
from bnexport.batchnorm.norm import STORED
from bnexport.errors import ComparisonError
from bnexport.graph import Graph
from bnexport.proof.comparison import DIFFERS, PROVEN, prove
from bnexport.proof.rounding import compared
from bnexport.proof.runs import ImportedGraph

# Where answers hide what is wrong behind them, each fault is planted.
HIDING = (
  "answer_argmax answer_argmax_literal answer_thousand_classes "
  "answer_two_heads answer_boxes_and_scores answer_embedding "
  "answer_bytes_relu answer_bytes_labels answer_deep_relu answer_relu_last "
  "net_image_bytes"
).split()
# Elsewhere some of them, in turn.
OTHERS = (
  "contrib_batch_weights contrib_dense_literal contrib_fused_phase "
  "contrib_nchw_literal contrib_neither_literal contrib_renorm_phase "
  "contrib_siamese_literal contrib_unfused_literal contrib_volume_phase "
  "decoy_same_shapes dropout_by_hand ema_cond_pointnet ema_literal "
  "flow_defun_norm flow_if_fused formula_divide_sqrt formula_global_legacy_op "
  "formula_kept_dimensions formula_sums hand_bessel hand_tflearn "
  "hand_where_select input_fifo_queue keras_functional keras_sequential_dense "
  "layers_axis_1 layers_fused_literal layers_float64 layers_nchw_phase "
  "layers_resource_sequence layers_unfused_phase layers_volume_literal "
  "loop_norm_around net_autoencoder net_capsules net_detector net_mobile "
  "net_multi_output net_point_cloud net_residual_v2 net_squeeze_excite "
  "net_text_classifier net_triplet net_u_net net_video"
).split()
# How many faults are planted there.
_SOME = 4
_ROWS = 32
# A fault has to be told where it changes an answer by so many tolerances.
_TOLERANCES = 10


@pytest.fixture(scope="module")
def table():
  rows = []
  yield rows
  width = max(len(row[0]) for row in rows)
  for name, kind, change, verdict, by in rows:
    print(f"\n{name:{width}} {kind:20} {change:9.3g} {verdict:10} {by}", end="")


def drawn(case):
  """Feeds that the proof does not know: the case's, and more like them."""
  x, random = case.x, np.random.RandomState(77)
  shape = (_ROWS, *x.shape[1:])
  more = x
  if x.dtype.kind == "f":
    more = random.normal(x.mean(), x.std() + 1e-6, shape).astype(x.dtype)
  elif x.dtype.kind in "iu":
    more = random.randint(x.min(), int(x.max()) + 1, shape).astype(x.dtype)
  return [{case.input: x}, {case.input: more}]


class Right:
  """A right export, and how its answers change where it is edited."""

  def __init__(self, case):
    self.export = export(case, folds=False)
    model = self.export.model
    self.outputs, self.initializers = model.outputs, model.initializers
    self.graph_def = self.export.to_graph_def()
    self.run = self.opened(self.graph_def)
    self.answers = []
    for feeds in drawn(case):
      try:
        self.answers.append((feeds, self.run.run(feeds)))
      except ComparisonError:  # a batch of fixed size
        assert self.answers

  def opened(self, graph_def):
    return ImportedGraph(graph_def, self.outputs, self.initializers)

  def proof(self, graph_def):
    return prove(
      graph_def,
      self.outputs,
      self.export.reference,
      initializers=self.initializers,
      keeps_batch=self.export.keeps_batch,
    )

  def faults(self, kinds):
    """One fault of each kind, in another place each time."""
    graph = Graph(self.graph_def)
    norms = [n for n in find(graph, self.outputs) if n.statistics == STORED]
    for number, kind in enumerate(kinds):
      places = list(kind(graph, norms))
      if places:
        yield kind.__name__, places[number % len(places)].to_graph_def()

  def change(self, graph_def):
    """By how many tolerances a fault changes an answer."""
    most = 0.0
    with self.opened(graph_def) as wrong:
      for feeds, answers in self.answers:
        found = compared(
          self.run, self.outputs, feeds, answers, wrong.run(feeds)
        )
        for one in found:
          most = max(most, one.largest / (one.limit or 1e-30))
    return most


def caught_by(proof):
  parts = [
    (not all(d.holds for d in proof.differences), "answers"),
    (proof.batch is False, "a row alone"),
    (proof.repeats is False, "a second run"),
  ]
  found = [word for is_so, word in parts if is_so]
  if proof.parting is not None:
    found.append(f"first '{proof.parting.first.output}'")
  return ", ".join(found)


def kinds_of(name):
  if name in HIDING:
    return FAULTS
  begin = OTHERS.index(name) * _SOME
  return list(itertools.islice(itertools.cycle(FAULTS), begin, begin + _SOME))


# Whole: one model alone may show what a proof has lost. A fourth elsewhere; of
# every third model each would have the same faults planted.
@pytest.mark.part(1, oldest=4)
@pytest.mark.parametrize("name", HIDING + OTHERS)
def test_planted_faults_differ(cases, table, name):
  right = Right(cases(name))
  assert right.proof(right.graph_def).verdict == PROVEN
  missed = []
  for kind, graph_def in right.faults(kinds_of(name)):
    change, proof = right.change(graph_def), right.proof(graph_def)
    table.append((name, kind, change, proof.verdict, caught_by(proof)))
    if change >= _TOLERANCES and proof.verdict != DIFFERS:
      missed.append(table[-1])
  right.run.close()
  right.export.reference.close()
  assert not missed
