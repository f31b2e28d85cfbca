# SPDX-License-Identifier: Apache-2.0
"""Noise counts as its mean where it enters data linearly; else it is refused."""

import numpy as np
import pytest
from judges.transforming import answers, checkpoint, model_of, spelled

from bnexport.errors import TransformError
from bnexport.transforms.inference.remove_noise import RemoveNoise

F = np.float32
X = np.array([[0.5, -1, 2, 3], [1, 4, -2, 0.25]], F)
# `w` is what weights make of the input, `x`.
BASE = """
  x = Placeholder() {shape=[?,4]}   k = Const() {value=<float [4,4]
    1 0 2 0 0 1 0 3 1 0 1 0 0 2 0 1>}
  w = MatMul(x, k)   scale = Const() {value=<float 0.2>}
  half = Const() {value=<float -0.5>}   one = Const() {value=<float 1>}
  keep = Const() {value=<float 0.75>}   zero = Const() {value=<float 0>}
  n = Shape(x)   r = RandomStandardNormal(n)   u = RandomUniform(n)
  scalar = Const() {value=<int32 [0] >}   s = RandomUniform(scalar)
"""
W = X @ np.array([[1, 0, 2, 0], [0, 1, 0, 3], [1, 0, 1, 0], [0, 2, 0, 1]], F)


def applied(statements, outputs=("y",), keep=(), **how):
  model = model_of(BASE + statements, outputs, **how)
  told = RemoveNoise(keep).apply(model)
  model.graph.lint()
  return model, told


IDENTITIES = [
  "q = Mul(x, r)   a = AddV2(x, q)",
  "a = AddV2(x, r)",
  "a = Add(r, x)",
  "m = Mul(r, scale)   a = AddV2(x, m)",
  "t = TruncatedNormal(n)   a = AddV2(x, t)",
  "m = Add(u, half)   a = AddV2(x, m)",
  "m = Add(u, half)   a = Sub(x, m)",
  "c = Cast(r) {DstT=float}   i = Identity(c)   a = AddV2(x, i)",
  "s2 = VariableV2() {shape=[]}   m = Mul(r, s2)   a = AddV2(x, m)",
  "m = Add(r, one)   a = Mul(x, m)",
  "q = Neg(r)   m = AddN(x, q, r)   a = AddN(m, r)",
]


@pytest.mark.parametrize("noise", IDENTITIES)
def test_noise_that_changes_nothing_on_average_goes(noise):
  model, told = applied(noise + "   y = Relu(a)")
  assert spelled(model.graph, "y") == "Relu(x)"
  assert told and all(line.startswith("removed noise") for line in told)


# Selu's saturated value, and the scale and shift that keep mean and variance.
_ALPHA = -1.7580993408473766
_A = (0.9 * (1 + 0.1 * _ALPHA**2)) ** -0.5
ALPHA = f"""
  rate = Const() {{value=<float 0.1>}}   alpha = Const() {{value=<float {_ALPHA}>}}
  ca = Const() {{value=<float {_A}>}}
  cb = Const() {{value=<float {-_A * _ALPHA * 0.1}>}}
  b = GreaterEqual(u, rate)   m = Cast(b) {{DstT=float}}   k1 = Mul(x, m)
  rest = Sub(one, m)   dropped = Mul(alpha, rest)   both = AddV2(k1, dropped)
  scaled = Mul(ca, both)   a = AddV2(scaled, cb)   y = Relu(a)
"""


def test_dropout_that_keeps_mean_and_variance_goes():
  model, told = applied(ALPHA)
  assert spelled(model.graph, "y") == "Relu(x)"
  assert told == ["removed dropout 'a', which keeps mean 0 and variance 1"]
  ((name, tensor),) = model.decisions.moments
  assert (name, str(tensor)) == ("a", "x")


def test_what_shifts_the_mean_is_no_such_dropout():
  model, told = applied(
    ALPHA.replace(
      "alpha = Const() {value=<float -1.7", "alpha = Const() {value=<float -1.2"
    ).replace("(x, m)", "(w, m)")
  )
  assert not any("variance" in line for line in told)
  assert model.decisions.moments == ()
  mean = 0.9 * W - 0.1 * 1.2580993408473766
  expected = np.maximum(_A * mean - _A * _ALPHA * 0.1, 0)
  assert np.allclose(answers(model, {"x": X})[0], expected, atol=1e-5)


MEANS = {
  "a = AddV2(w, u)": W + 0.5,
  "m = Add(r, one)   a = AddV2(w, m)": W + 1,
  "m = Mul(u, half)   a = Sub(w, m)": W + 0.25,
  "a = Mul(u, w)": W / 2,
  "e = Exp(w)   a = RealDiv(u, e)": 0.5 / np.exp(W),
  "p = Add(u, keep)   m = Floor(p)   a = Mul(w, m)": W * 0.75,
  "m = Round(u)   a = Mul(w, m)": W * 0.5,
  "p = Sub(u, half)   m = Ceil(p)   a = Mul(w, m)": W * 1.5,
  "b = Less(u, keep)   m = Cast(b) {DstT=float}   a = Mul(w, m)": W * 0.75,
  "b = Greater(keep, u)   m = Cast(b) {DstT=float}   a = Mul(w, m)": W * 0.75,
  "v = Sub(u, half)   b = Less(v, keep)   m = Cast(b) {DstT=float}"
  "   a = Mul(w, m)": W * 0.25,
  "b = Less(u, keep)   nb = LogicalNot(b)   m = Cast(nb) {DstT=float}"
  "   a = Mul(w, m)": W * 0.25,
  "b = Less(u, keep)   a = SelectV2(b, w, zero)": W * 0.75,
  "b = Less(u, keep)   z = ZerosLike(w)   a = SelectV2(b, z, w)": W * 0.25,
  "p = Add(s, keep)   m = Floor(p)   q = Sub(m, s)   t = Mul(q, s)"
  "   a = Mul(w, s)": W / 2,
  "e = MatMul(w, k)   b = Less(u, keep)   a = SelectV2(b, e, w)": 0.75
  * (W @ np.array([[1, 0, 2, 0], [0, 1, 0, 3], [1, 0, 1, 0], [0, 2, 0, 1]], F))
  + 0.25 * W,
  "sh = Const() {value=<int32 [2] 4 4>}   ku = RandomUniform(sh)"
  "   p = Add(ku, keep)   m = Floor(p)   kd = Mul(k, m)   a = MatMul(x, kd)": W
  * 0.75,
}


@pytest.mark.parametrize("noise", MEANS)
def test_noise_counts_as_its_mean(noise):
  model, told = applied(noise + "   y = Neg(a)")
  assert told and model.warnings
  assert all("--keep_random=" in line for line in model.warnings)
  found = answers(model, {"x": X})[0]
  assert np.allclose(found, -MEANS[noise], atol=1e-5)


REFUSED = {
  "a = Mul(w, r)": "'r'",
  "m = Exp(r)   a = AddV2(w, m)": "'m'",
  "m = Square(r)   a = Mul(w, m)": "'m'",
  "m = Mul(u, u)   a = Mul(w, m)": "'m'",
  "m = RealDiv(one, u)   a = Mul(w, m)": "'m'",
  "a = RealDiv(w, u)": "'u'",
  "a = Pow(w, u)": "'u'",
  "a = Mul(x, u)": "'u'",
  "a = AddV2(x, u)": "'u'",
  "m = Sub(one, u)   a = Mul(x, m)": "'u'",
  "ax = Const() {value=<int32 [1] 1>}   f = ReverseV2(x, ax)"
  "   b = Less(u, keep)   a = SelectV2(b, f, x)": "'b'",
  "h = Const() {value=<float [4] 1 2 3 4>}   b = Less(u, keep)"
  "   e = Mul(w, h)   a = SelectV2(b, e, w)": "'b'",
}


@pytest.mark.parametrize("noise", REFUSED)
def test_noise_of_no_sure_meaning_is_refused(noise):
  with pytest.raises(TransformError) as refused:
    applied(noise + "   y = Neg(a)")
  said, name = str(refused.value), REFUSED[noise]
  assert said.startswith(f"cannot tell what random {name} means at inference")
  assert f"--set={name[1:-1]}=VALUE" in said
  assert f"--keep_random={name[1:-1]}" in said


@pytest.mark.parametrize("scope", ["in", "in/u", "q"])
def test_what_is_kept_stays_random(scope):
  """It is named by its scope, by itself or by what it makes."""
  model, _ = applied(
    "in/u = RandomUniform(n)   q = Neg(in/u)   a = Mul(x, q)   y = Neg(a)",
    keep=(scope,),
  )
  assert spelled(model.graph, "a") == "Mul(x, q)"
  assert spelled(model.graph, "y") == "Neg(a)"
  assert model.decisions.random_kept == ("in/u",)


def test_scope_that_draws_nothing_is_refused():
  with pytest.raises(TransformError, match="did you mean 'u'"):
    applied("a = Mul(w, u)   y = Neg(a)", keep=("x/u",))


def test_value_that_is_stated_is_used():
  model = model_of(BASE + "a = Mul(x, u)   q = Pow(a, s)   y = Neg(q)")
  model.decisions.values = {"u": F(3), "s": F(2)}
  RemoveNoise().apply(model)
  assert np.allclose(answers(model, {"x": X})[0], -((3 * X) ** 2))


def test_what_is_all_random_stays():
  """As the code that a generator starts from."""
  model, told = applied("a = AddV2(r, u)   y = Relu(a)")
  assert spelled(model.graph, "y") == "Relu(a)" and told == []


@pytest.mark.parametrize(
  "code",
  [
    "ax = Const() {value=<int32 1>}   a = ConcatV2(x, r, ax)",
    "z = MatMul(r, k)   a = AddV2(w, z)",
  ],
)
def test_code_of_a_generator_stays(code):
  """It stands beside the data, or has weights of its own."""
  model, told = applied(code + "   y = Relu(a)")
  assert told == [] and "r" in model.needed()


def test_output_that_was_noisy_keeps_its_name():
  model, _ = applied("y = AddV2(x, r)")
  assert spelled(model.graph, "y") == "Identity(x)"


def test_mean_has_the_shape_of_what_was_drawn_where_it_shows():
  """One row of data becomes the rows of the noise."""
  model, _ = applied(
    "sh = Const() {value=<int32 [2] 3 1>}   g = RandomUniform(sh)"
    "   i = Const() {value=<int32 0>}   a = Sum(w, i)   y = Mul(a, g)"
  )
  found = answers(model, {"x": X})[0]
  assert found.shape == (3, 4)
  assert np.allclose(found, np.tile(W.sum(0) / 2, (3, 1)))


def test_stored_chance_is_read(tmp_path):
  saved = checkpoint(tmp_path, {"v": 0.25})
  model, _ = applied(
    "v = VariableV2() {shape=[], dtype=float}   b = Less(u, v)"
    "   m = Cast(b) {DstT=float}   a = Mul(w, m)   y = Neg(a)",
    saved=saved,
  )
  assert np.allclose(answers(model, {"x": X})[0], -W / 4)


CONDITIONAL = """
  p = Less(s, keep)   sw = Switch(w, p)   kept = Identity(sw:1)
  at = Identity(p)   pin = Switch(p, p)   on = Identity(pin:1)
  c = Const(^on) {value=<float 2>}
"""


def test_path_that_drops_out_counts_as_its_mean():
  model, told = applied(
    CONDITIONAL + "e = MatMul(kept, k)   f = Mul(e, c)   t = Add(f, kept)"
    "   m = Merge(sw, t)   y = Neg(m)"
  )
  assert "choice 'm' counts as its mean" in told
  twice = W @ np.array(
    [[1, 0, 2, 0], [0, 1, 0, 3], [1, 0, 1, 0], [0, 2, 0, 1]], F
  )
  expected = 0.75 * (2 * twice + W) + 0.25 * W
  assert np.allclose(answers(model, {"x": X})[0], -expected, atol=1e-4)
  assert not any("Random" in model.graph.op(n) for n in model.needed(True))


@pytest.mark.parametrize(
  "branch",
  [
    "t = Mul(kept, c)",
    "e = MatMul(kept, k)   t = Mul(e, c)",
    "e = MatMul(kept, k)   f = Add(kept, e)   t = Relu(f)",
  ],
)
def test_choice_of_another_kind_is_refused(branch):
  """Nobody knows whether inference has a mean of it, or one of both."""
  with pytest.raises(TransformError, match="--set=p=VALUE"):
    applied(CONDITIONAL + branch + "   m = Merge(sw, t)   y = Neg(m)")


def test_mean_goes_into_a_loop():
  """Noise in a loop, as of a recurrent net's gates."""
  model, _ = applied("""
    i0 = Const() {value=<int32 0>}   i1 = Const() {value=<int32 1>}
    i3 = Const() {value=<int32 3>}
    ei = Enter(i0) {frame_name="f"}   eh = Enter(w) {frame_name="f"}
    e1 = Enter(i1) {frame_name="f", is_constant=true}
    e3 = Enter(i3) {frame_name="f", is_constant=true}
    ek = Enter(keep) {frame_name="f", is_constant=true}
    mi = Merge(ei, ni)   mh = Merge(eh, nh)   l = Less(mi, e3)   c = LoopCond(l)
    si = Switch(mi, c)   sh = Switch(mh, c)   ii = Identity(si:1)
    ih = Identity(sh:1)   ai = Add(ii, e1)   ni = NextIteration(ai)
    t = Shape(ih)   v = RandomUniform(t)   g = Add(v, ek)   f = Floor(g)
    a = Mul(ih, f)   z = Tanh(a)   nh = NextIteration(z)   xh = Exit(sh)
    y = Neg(xh)
  """)
  expected = W
  for _ in range(3):
    expected = np.tanh(0.75 * expected)
  assert np.allclose(answers(model, {"x": X})[0], -expected, atol=1e-5)
