# SPDX-License-Identifier: Apache-2.0
"""Norms that a proof does not reach are found, and it is not called one."""

import functools

import pytest
from judges.transforming import model_of

from bnexport.batchnorm.forms import find
from bnexport.exporting.export import Export
from bnexport.proof import sensitivity
from bnexport.proof.comparison import DIFFERS, NOT_PROVEN, PROVEN, prove
from bnexport.proof.runs import ImportedGraph
from bnexport.proof.sensitivity import Sensitivity

# Two norms; what each adds to the answer goes through $first and $second.
NET = """
x = Placeholder() {{shape=[?,2,2,3]}}
gamma = Const() {{value=<float [3] 1.5 0.5 2>}}
beta = Const() {{value=<float [3] 0.1 0.2 0.3>}}
mean = Const() {{value=<float [3] 0.5 -0.25 0.125>}}
variance = Const() {{value=<float [3] 1.25 0.75 2>}}
mean/1 = Const() {{value=<float [3] {mean} 0.25 -0.125>}}
variance/1 = Const() {{value=<float [3] 1.5 0.5 1>}}
norm = FusedBatchNorm(x, gamma, beta, mean, variance) {{is_training=false}}
low = Const() {{value=<float {threshold}>}}
moved = Sub(x, low)
other = FusedBatchNorm(moved, gamma, beta, mean/1, variance/1)
        {{is_training=false}}
alive = Relu(other)
y = {op}(norm, alive)
"""


def net(threshold=0.0, mean=1.0, op="Add"):
  return NET.format(threshold=threshold, mean=mean, op=op)


def proof_of(text, reference):
  model, other = (model_of(t, outputs=["y"]) for t in (text, reference))
  export = Export(model, find(model.graph, model.outputs), {})
  return prove(
    export.to_graph_def(),
    model.outputs,
    ImportedGraph(other.graph.to_graph_def(), ["y"]),
    sensitivity=functools.partial(Sensitivity, export),
  )


@pytest.fixture(params=["tried out", "derivatives"])
def ways(request, monkeypatch):
  """Both ways of telling: derivatives count where runs take long."""
  if request.param == "derivatives":
    monkeypatch.setattr(sensitivity, "_AT_ONCE", 0.0)


def test_norms_that_show_are_proven(ways):
  proof = proof_of(net(), net())
  assert proof.verdict == PROVEN
  assert (proof.statistics, proof.blind, proof.further) == (4, [], 1)


def test_derivatives_tell_without_a_run(monkeypatch):
  monkeypatch.setattr(sensitivity, "_AT_ONCE", 0.0)
  monkeypatch.setattr(
    Sensitivity, "_moves", lambda *args: pytest.fail("it was tried out")
  )
  assert proof_of(net(), net()).blind == []


def test_feeds_are_looked_for_that_reach_a_norm(ways):
  proof = proof_of(net(100.0), net(100.0))
  assert proof.verdict == PROVEN
  assert proof.further > 0


def test_a_fault_where_made_up_rows_do_not_reach_is_found(ways):
  proof = proof_of(net(100.0, mean=1.5), net(100.0))
  assert proof.verdict == DIFFERS
  assert proof.arrays["x"].max() > 100
  assert proof.parting.first.output in ("other", "alive", "y")


def test_what_nothing_reaches_is_not_proven(ways):
  renamed = net(1e9).replace("other", "theirs").replace("alive", "live")
  proof = proof_of(net(1e9), renamed)
  assert proof.verdict == NOT_PROVEN
  assert proof.blind == ["mean of norm 'other'", "variance of norm 'other'"]
  assert "2 of 4 stored statistics" in proof.missing
  assert any("--feeds" in note for note in proof.notes)


# One norm, of two towers: a distance does not tell where their mean is.
DISTANCE = """
x = Placeholder() {shape=[?,2,2,3]}
gamma = Const() {value=<float [3] 1.5 0.5 2>}
beta = Const() {value=<float [3] 0.1 0.2 0.3>}
mean = Const() {value=<float [3] 0.5 -0.25 0.125>}
variance = Const() {value=<float [3] 1.25 0.75 2>}
other = Square(x)
a = FusedBatchNorm(x, gamma, beta, mean, variance) {is_training=false}
b = FusedBatchNorm(other, gamma, beta, mean, variance) {is_training=false}
y = Sub(a, b)
"""


def test_what_cancels_is_compared_inside(ways):
  assert proof_of(DISTANCE, DISTANCE).verdict == PROVEN
  renamed = DISTANCE.replace("\na =", "\nc =").replace("\nb =", "\nd =")
  proof = proof_of(DISTANCE, renamed.replace("Sub(a, b)", "Sub(c, d)"))
  assert proof.verdict == NOT_PROVEN
  assert proof.blind == ["mean of norm 'a'", "mean of norm 'b'"]


# A flag chooses; on the other side of it nothing is stored.
CHOICE = """
x = Placeholder() {{shape=[?,2,2,3]}}
flag = Placeholder() {{dtype=bool, shape=[]}}
three = Const() {{value=<float [] 3>}}
more = Const() {{value=<float [] {factor}>}}
first = Mul(x, three)
second = Mul(x, more)
y = Select(flag, first, second)
"""


@pytest.mark.parametrize("chosen", [True, False])
def test_both_values_of_a_flag_are_compared(chosen):
  right, wrong = CHOICE.format(factor=2), CHOICE.format(factor=2.5)
  if chosen:
    right, wrong = (
      t.replace("first, second", "second, first") for t in (right, wrong)
    )
  assert proof_of(right, right).verdict == PROVEN
  assert proof_of(right, right).further == 2
  assert proof_of(wrong, right).verdict == DIFFERS
