# SPDX-License-Identifier: Apache-2.0
"""An average that training keeps of what an export computes of each batch."""

import numpy as np
import pytest
from judges import opening
from judges.norms import graph_of

from bnexport.exporting.export import Options
from bnexport.exporting.export import export as export_model
from bnexport.graph import TensorRef
from bnexport.proof.comparison import NOT_PROVEN, PROVEN
from bnexport.proof.rows import averaged
from bnexport.proof.runs import ImportedGraph
from bnexport.proof.tracking import tracked
from bnexport.tf1 import session, tf1

EXPORT = """
x = Placeholder() {shape=[?,3]}
axes = Const() {value=<int32 [1] 0>}
most = Max(x, axes)
y = Sub(x, most)
"""
# Of a VariableV2 `kept`.
KEEP = """
kept = VariableV2() {shape=[3]}
rate = Const() {value=<float 0.1>}
"""
FEEDS = {"x": np.random.RandomState(3).randn(4, 3).astype(np.float32)}


def tracked_by(update, known=()):
  export = graph_of(EXPORT)
  return export, tracked(graph_of(EXPORT + KEEP + update), export, known)


def first_averaged(export, found):
  with ImportedGraph(export.to_graph_def(), ["y"]) as runner:
    return averaged(runner, found.tensors, FEEDS)


def test_a_statistic_that_is_averaged_is_found_whatever_it_is():
  export, found = tracked_by(
    "a = Sub(kept, most) b = Mul(a, rate) u = AssignSub(kept, b)"
  )
  assert found.tensors == {TensorRef("most"): "kept"}
  assert first_averaged(export, found) == TensorRef("most")


def test_data_that_is_averaged_is_no_statistic():
  export, found = tracked_by("m = Mean(x, axes) u = Assign(kept, m)")
  assert found.tensors == {TensorRef("x"): "kept"}
  assert first_averaged(export, found) is None
  assert found.unread == ["kept"]


@pytest.mark.parametrize(
  "update, known",
  [
    ("u = Assign(kept, most)", ["kept"]),
    ("c = Const() {value=<float [3] 1 2 3>} u = Assign(kept, c)", []),
    ("r = ReluGrad(x, x) m = Max(r, axes) u = AssignSub(kept, m)", []),
  ],
)
def test_what_is_read_or_not_of_the_batch_is_not_missed(update, known):
  assert tracked_by(update, known)[1].unread == []


def centred(training, statistic, keep):
  """Rows less a statistic of theirs, of which training keeps what is asked."""
  x = tf1.placeholder(tf1.float32, [None, 3], "x")
  kept = tf1.get_variable("kept", [3], trainable=False, use_resource=False)
  used = statistic(x) if training else kept
  if training:
    tf1.assign_sub(kept, (kept - keep(x, used)) * 0.1)
  tf1.identity(x - used, "y")


def median(x):
  """Nothing that any form knows: the third of the sorted rows."""
  return tf1.transpose(tf1.nn.top_k(tf1.transpose(x), 3)[0])[-1]


@pytest.mark.parametrize(
  "statistic, keep, verdict",
  [
    (median, lambda x, used: used, NOT_PROVEN),
    (median, lambda x, used: median(x * 1.0), NOT_PROVEN),
    (median, lambda x, used: tf1.zeros([3]), PROVEN),
  ],
)
def test_export_that_reads_the_batch(tmp_path, statistic, keep, verdict):
  with tf1.Graph().as_default() as graph, session(graph) as running:
    centred(True, statistic, keep)
    running.run(tf1.global_variables_initializer())
    prefix = tf1.train.Saver().save(running, str(tmp_path / "model.ckpt"))
  made = export_model(opening.trained(prefix, ["y"]), Options())
  proof = made.prove(FEEDS)
  assert proof.verdict == verdict, proof
  assert ("training keeps" in proof.missing) == (verdict == NOT_PROVEN)
