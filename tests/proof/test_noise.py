# SPDX-License-Identifier: Apache-2.0
"""The reference integrates noise for itself, and catches wrong means."""

import numpy as np
import pytest
from judges import planting
from judges.exporting import export
from judges.opening import trained
from judges.transforming import answers, model_of

from bnexport.batchnorm.forms import find
from bnexport.errors import ComparisonError
from bnexport.exporting.export import Options
from bnexport.exporting.export import export as export_model
from bnexport.graph import Graph, TensorRef
from bnexport.proof import comparison, noise
from bnexport.proof.runs import ImportedGraph

F = np.float32
X = np.array([[0.5, -1, 2, 3], [1, 4, -2, 0.25]], F)
BASE = """
  x = Placeholder() {shape=[?,4]}   keep = Const() {value=<float 0.7>}
  half = Const() {value=<float 0.5>}   one = Const() {value=<float 1>}
  each = Const() {value=<float [4] 0.1 0.5 0.9 1>}
  n = Shape(x)   r = RandomStandardNormal(n)   u = RandomUniform(n)
  v = RandomUniform(n)   scalar = Const() {value=<int32 [0] >}
  s = RandomUniform(scalar)   low = Const() {value=<int32 2>}
  high = Const() {value=<int32 6>}   w = RandomUniformInt(scalar, low, high)
"""

MEANS = {
  "a = Add(x, r)": X,
  "a = Add(x, u)": X + 0.5,
  "p = Add(u, keep)   m = Floor(p)   a = Mul(x, m)": X * 0.7,
  "p = Add(u, each)   m = Floor(p)   a = Mul(x, m)": X * [0.1, 0.5, 0.9, 1],
  "b = Less(u, keep)   m = Cast(b) {DstT=float}   a = Mul(x, m)": X * 0.7,
  "b = Less(u, keep)   z = ZerosLike(x)   a = SelectV2(b, x, z)": X * 0.7,
  "p = Add(u, keep)   m = Floor(p)   q = Mul(m, v)   a = Mul(x, q)": X * 0.35,
  "b = Less(u, keep)   c = Less(v, half)   d = LogicalAnd(b, c)"
  "   m = Cast(d) {DstT=float}   a = Mul(x, m)": X * 0.35,
  "g = Square(u)   l = Less(g, half)   m = Cast(l) {DstT=float}"
  "   a = Mul(x, m)": X * 0.5**0.5,
  "t = Tanh(r)   a = Add(x, t)": X,
  "c = Cast(w) {DstT=float}   a = Mul(x, c)": X * 3.5,
  "e = Equal(w, low)   m = Cast(e) {DstT=float}   a = Mul(x, m)": X / 4,
  "p = Less(s, keep)   t = Switch(x, p)   q = Mul(t:1, half)"
  "   a = Merge(t, q)": X * (0.3 + 0.35),
}


@pytest.mark.parametrize("statements", MEANS)
def test_noise_is_its_mean(statements):
  model = model_of(BASE + statements + "   y = Neg(a)")
  assert noise.expect(model, {}) == []
  model.graph.lint()
  found = [answers(model, {"x": X})[0] for _ in range(2)]
  assert np.array_equal(*found)
  assert np.allclose(found[0], -MEANS[statements], atol=2e-6)


@pytest.mark.parametrize(
  "statements", ["m = Exp(r)   a = Add(x, m)", "m = Square(r)   a = Mul(x, m)"]
)
def test_noise_whose_mean_does_not_show_is_named(statements):
  model = model_of(BASE + statements + "   y = Neg(a)")
  assert noise.expect(model, {}) == ["m"]
  found = [answers(model, {"x": X})[0] for _ in range(2)]
  assert not np.allclose(*found)


def test_what_is_kept_stays_random():
  model = model_of(BASE + "q = Add(x, u)   a = Add(q, v)   y = Neg(a)")
  noise.expect(model, {}, keep=["u"])
  found = [answers(model, {"x": X})[0] for _ in range(2)]
  assert not np.allclose(*found)
  assert np.all(-found[0] - X >= 0.5) and np.all(-found[0] - X <= 1.5)


@pytest.mark.parametrize("name, value", [("u", F(3)), ("s", F(2))])
def test_value_that_is_stated_is_taken(name, value):
  model = model_of(BASE + f"a = Pow(x, {name})   y = Neg(a)")
  assert noise.expect(model, {name: value}) == []
  expected = -(np.abs(X) ** value) * np.sign(X) ** value
  assert np.allclose(answers(model, {"x": X})[0], expected, atol=1e-5)


def alpha(value, scale):
  return model_of(
    BASE
    + f"""
      rate = Const() {{value=<float 0.1>}}
      alpha = Const() {{value=<float {value}>}}
      ca = Const() {{value=<float {scale}>}}
      cb = Const() {{value=<float {-scale * value * 0.1}>}}
      b = GreaterEqual(u, rate)   m = Cast(b) {{DstT=float}}   k = Mul(x, m)
      rest = Sub(one, m)   dropped = Mul(alpha, rest)   both = Add(k, dropped)
      scaled = Mul(ca, both)   a = Add(scaled, cb)   y = Neg(a)
    """
  )


_ALPHA = -1.7580993408473766
_SCALE = (0.9 * (1 + 0.1 * _ALPHA**2)) ** -0.5
MOMENTS = [("a", TensorRef("x"))]


def test_claim_of_mean_and_variance_is_tried():
  model = alpha(_ALPHA, _SCALE)
  noise.expect(model, {}, moments=MOMENTS)
  assert np.array_equal(answers(model, {"x": X})[0], -X)


@pytest.mark.parametrize("value, scale", [(_ALPHA, 1.0), (0.0, _SCALE)])
def test_claim_of_mean_and_variance_that_is_wrong_is_refused(value, scale):
  with pytest.raises(ComparisonError, match="does not keep mean 0"):
    noise.expect(alpha(value, scale), {}, moments=MOMENTS)


FAULTS = {
  "noise_unscaled": (0.8, 0.7),
  "noise_path_unscaled": (0.5, 1.0),
  "noise_shake_drop": (0.6, 1.0),
  "noise_depth_gate": (0.75, 1.0),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_wrong_mean_in_an_export_differs(cases, name):
  """One constant of the export is changed; the reference has its own."""
  right, wrong = FAULTS[name]
  exported = export(cases(name))
  assert exported.prove().holds
  changed = 0
  for graph in (exported.model.graph, exported.unfolded):
    for node in graph:
      value = node.op == "Const" and node.attr["value"].tensor
      if value and len(value.float_val) == 1 and not value.tensor_shape.dim:
        if abs(value.float_val[0] - right) < 1e-5:
          value.float_val[0] = wrong
          changed += 1
  assert changed
  assert exported.prove().verdict == "DIFFERS"


def kept(cases, name, scope):
  case = cases(name)
  model = trained(case.prefix, [case.output], [])
  return export_model(model, Options(keep_random=(scope,)))


def test_what_stays_random_on_purpose_is_proven_with_the_same_draws(cases):
  exported = kept(cases, "noise_unscaled", "ToFloat")
  proof = exported.prove()
  assert proof.verdict == "PROVEN" and proof.batch
  assert proof.drawn == ["random_uniform/RandomUniform"]
  assert any("random_uniform/RandomUniform" in note for note in proof.notes)
  assert proof.fixed_point.holds and not proof.fixed_point.why_not
  named = [w.node for w in exported.model.warnings if "draws random" in w]
  assert named == ["random_uniform/RandomUniform"]
  (one,) = [a for a in proof.alternatives if a.other == "its mean"]
  assert one.matters and one.apart > 1e-2


@pytest.mark.parametrize("fault", [planting.mean_off, planting.relu_dropped])
def test_a_wrong_export_that_draws_differs(cases, fault):
  exported = kept(cases, "noise_unscaled", "ToFloat")
  whole = exported.before_folding()
  graph = Graph(whole.to_graph_def())
  norms = find(graph, whole.model.outputs)
  for wrong in fault(graph, norms):
    proof = comparison.prove(
      wrong.to_graph_def(),
      whole.model.outputs,
      exported.reference,
      kept=exported.model.decisions.random_kept,
    )
    assert proof.verdict == "DIFFERS" and proof.drawn


def test_what_draws_in_a_loop_is_not_proven(cases):
  proof = kept(cases, "noise_gates_loop", "rnn").prove()
  assert proof.verdict == "NOT PROVEN"
  assert proof.missing == "the graph draws random numbers"


def test_noise_that_nobody_kept_is_asked_about(cases):
  exported = kept(cases, "noise_unscaled", "ToFloat")
  exported.model.decisions.random_kept = ()
  exported.original = None
  exported.reference = ImportedGraph(
    exported.to_graph_def(), exported.model.outputs
  )
  proof = exported.prove()
  exported.reference.close()
  assert proof.verdict == "NOT PROVEN"
  assert any("--keep_random=random_uniform" in note for note in proof.notes)
