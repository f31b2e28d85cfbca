# SPDX-License-Identifier: Apache-2.0
"""The phase is decided where it stands, and by what it leaves in the graph."""

import pytest
from judges.transforming import checkpoint, model_of, spelled

from bnexport.errors import TransformError
from bnexport.transforms.inference import decide

NORMS = """
  x = Placeholder() {shape=[?,4,4,2]}   none = Const() {value=<float [0]>}
  g = Const() {value=<float [2] 1>}   z = Const() {value=<float [2] 0>}
  s = Switch(x, %s)
  f = FusedBatchNorm(s, g, z, g, g) {is_training=false}
  t = FusedBatchNorm(s:1, g, z, none, none) {is_training=true}
  m = Merge(f, t)   y = Relu(m)
"""


def decided(statements, inputs=(), outputs=("y",), saved=None, **options):
  model = model_of(statements, outputs, inputs, saved)
  told = decide.Decide(**options).apply(model)
  model.graph.lint()
  return model, told


def norm_before(model, name="y"):
  """The node that an output's Relu reads."""
  return model.graph.inputs(name)[0].node


PHASES = {
  "bool": "p = Placeholder() {shape=[], dtype=bool}",
  "negated": "q = Placeholder() {shape=[], dtype=bool}   p = LogicalNot(q)",
  "int": """q = Placeholder() {shape=[], dtype=int32}
            one = Const() {value=<int32 1>}   p = Equal(q, one)""",
  "string": """q = Placeholder() {shape=[], dtype=string}
               word = Const() {value=<string "train">}   p = Equal(q, word)""",
  "float": """q = Placeholder() {shape=[]}   half = Const() {value=<float 0.5>}
              p = Greater(q, half)""",
  "default": """c = Const() {value=<bool true>}
                p = PlaceholderWithDefault(c) {shape=[]}""",
}


@pytest.mark.parametrize("kind", PHASES)
def test_side_without_training_is_taken(kind):
  model, told = decided(PHASES[kind] + NORMS % "p")
  assert norm_before(model) == "f"
  assert spelled(model.graph, "f") == "FusedBatchNorm(x, g, z, g, g)"
  assert len(told) == len(model.decisions.values) == 1


def test_what_the_code_states_stays():
  model, told = decided("p = Const() {value=<bool true>}" + NORMS % "p")
  assert norm_before(model) == "t" and not told


def test_side_does_not_depend_on_its_place():
  """The first side of a Switch is the one for False."""
  swapped = NORMS.replace("Norm(s, ", "Norm(o, ").replace("(s:1,", "(s,")
  swapped = swapped.replace("Norm(o, ", "Norm(s:1, ")
  model, _ = decided(PHASES["bool"] + swapped % "p")
  assert norm_before(model) == "f"
  assert list(model.decisions.values.values()) == [True]


def test_two_phases_of_one_predicate_are_decided_together():
  either = """
    a = Placeholder() {shape=[], dtype=bool}
    b = Placeholder() {shape=[], dtype=bool}   p = LogicalOr(a, b)
  """
  model, told = decided(either + NORMS % "p")
  assert norm_before(model) == "f"
  assert model.decisions.values == {"a": False, "b": False} and len(told) == 2


def test_phase_that_scales_is_folded():
  model, _ = decided(
    PHASES["bool"]
    + NORMS % "p"
    + """
    i = Cast(p) {SrcT=bool, DstT=float}   out = Mul(y, i)
  """,
    outputs=["out"],
  )
  assert spelled(model.graph, "out") == "Mul(y, i/decided)"


CHOICE = """
  x = Placeholder() {shape=[?,2]}   %s
  s = Switch(x, p)   a = Neg(s)   b = Abs(s:1)   m = Merge(a, b)   y = Relu(m)
"""


def test_names_choose_nothing():
  named = CHOICE.replace("p)", "is_test)") % (
    "is_test = Placeholder() {shape=[], dtype=bool}"
  )
  model, told = decided(named)
  assert norm_before(model) == "m" and not model.decisions.values
  assert told == ["'is_test' stays an input: no training hangs on it"]


DOMAINS = """
  x = Placeholder() {shape=[?,4,4,2]}   none = Const() {value=<float [0]>}
  p = Placeholder() {shape=[], dtype=bool}
  g = Const() {value=<float [2] 1>}   z = Const() {value=<float [2] 0>}
  s = Switch(x, p)   %s
  m = Merge(f, t)   y = Relu(m)
"""
TRAINED = """
  %s = FusedBatchNorm(%s, g, z, none, none) {is_training=true}
"""


def test_switch_with_training_on_either_side_stays():
  """However many norms a side has."""
  sides = TRAINED % ("t", "s:1") + TRAINED % ("e", "s") + TRAINED % ("f", "e")
  model, told = decided(DOMAINS % sides)
  assert norm_before(model) == "m" and not model.decisions.values
  assert told == ["'p' stays an input: no training hangs on it"]


def test_side_that_leaves_a_norm_out_is_not_taken_for_inference():
  sides = TRAINED % ("t", "s:1") + "f = Neg(s)"
  with pytest.raises(TransformError, match="whether 'p' is the phase: with Fa"):
    decided(DOMAINS % sides)
  model, _ = decided(DOMAINS % sides, inputs=["x", "p"])
  assert norm_before(model) == "m"


def test_dropout_on_a_side_with_other_weights_is_no_phase():
  sides = """
    w = VariableV2() {shape=[2]}   v = VariableV2() {shape=[2]}
    r = RandomUniform(like) {dtype=float}   like = Shape(s:1)
    a = Mul(s:1, r)   t = Mul(a, w)   f = Mul(s, v)
  """
  model, told = decided(DOMAINS % sides)
  assert norm_before(model) == "m" and "stays an input" in told[0]


AVERAGED = """
  w = VariableV2() {shape=[]}   v = VariableV2() {shape=[]}
  keep = Const() {value=<float 0.9>}   rest = Const() {value=<float 0.1>}
  old = Mul(v, keep)   new = Mul(%s, rest)   sum = Add(old, new)
  update = Assign(v, sum)   wr = Identity(w)   vr = Identity(v)
  x = Placeholder() {shape=[?,2]}   p = Placeholder() {shape=[], dtype=bool}
  s = Switch(x, p)   a = Mul(s, vr)   b = Mul(s:1, wr)   y = Merge(a, b)
"""


def test_average_of_a_weight_stands_where_the_weight_stood():
  model, _ = decided(AVERAGED % "wr")
  assert model.decisions.values == {"p": False}
  model, told = decided(AVERAGED % "rest")  # two weights
  assert not model.decisions.values and "stays an input" in told[0]


def test_phase_of_a_blend_is_decided():
  model, _ = decided("""
    x = Placeholder() {shape=[?,2]}   p = Placeholder() {shape=[]}
    one = Const() {value=<float 1>}   q = Sub(one, p)
    axis = Const() {value=<int32 0>}   n = Mean(x, axis)
    v = VariableV2() {shape=[2]}   u = Assign(v, n)   r = Identity(v)
    a = Mul(n, p)   b = Mul(r, q)   c = Add(a, b)   y = Sub(x, c)
  """)
  assert model.decisions.values == {"p": 0}
  assert spelled(model.graph, "y") == "Sub(x, r)"


def test_phase_behind_a_choice_about_data_is_decided():
  model, _ = decided("""
    x = Placeholder() {shape=[?,4,4,2]}   none = Const() {value=<float [0]>}
    p = Placeholder() {shape=[], dtype=bool}
    g = Const() {value=<float [2] 1>}   z = Const() {value=<float [2] 0>}
    axes = Const() {value=<int32 [4] 0 1 2 3>}   zero = Const() {value=<float 0>}
    total = Sum(x, axes)   q = Greater(total, zero)
    i = Switch(x, q)   ip = Switch(p, q)   s = Switch(i:1, ip:1)
    f = FusedBatchNorm(s, g, z, g, g) {is_training=false}
    t = FusedBatchNorm(s:1, g, z, none, none) {is_training=true}
    n = Merge(f, t)   o = Neg(i)   m = Merge(o, n)   y = Relu(m)
  """)
  assert model.decisions.values == {"p": False}
  assert spelled(model.graph, "m") == "Merge(o, f)"
  assert "p" not in model.placeholders()


MODES = """
  x = Placeholder() {shape=[?,4,4,2]}   none = Const() {value=<float [0]>}
  mode = Placeholder() {shape=[], dtype=int32}
  g = Const() {value=<float [2] 1>}   z = Const() {value=<float [2] 0>}
  zero = Const() {value=<int32 0>}   one = Const() {value=<int32 1>}
  p = Equal(mode, zero)   q = Equal(mode, one)
  s = Switch(x, p)   o = Switch(s, q)
  t = FusedBatchNorm(s:1, g, z, none, none) {is_training=true}
  a = FusedBatchNorm(o, g, z, g, g) {is_training=false, epsilon=0.0001}
  b = FusedBatchNorm(o:1, g, z, g, g) {is_training=false, epsilon=%s}
  c = Merge(a, b)   m = Merge(c, t)   y = Relu(m)
"""


def test_modes_that_compute_the_same_are_one():
  model, _ = decided(MODES % "0.0001")
  assert len(model.decisions.values) == 1


def test_modes_that_compute_otherwise_are_told_by_the_user():
  with pytest.raises(TransformError, match="mode'.*: -1 and 1 give"):
    decided(MODES % "0.1")
  model, _ = decided(MODES % "0.1", values={"mode": "1"})
  assert norm_before(model) == "b"


@pytest.mark.parametrize("value, taken", [("true", "b"), ("false", "a")])
def test_stated_value_is_taken(value, taken):
  model, told = decided(CHOICE % PHASES["bool"], values={"p": value})
  assert norm_before(model) == taken and "as stated" in told[0]


def test_choice_that_is_an_input_stays():
  model, told = decided(CHOICE % PHASES["bool"], inputs=["x", "p"])
  assert norm_before(model) == "m" and not told and not model.decisions.values


def test_choice_about_data_stays():
  about = """
    zero = Const() {value=<float 0>}   axes = Const() {value=<int32 [2] 0 1>}
    total = Sum(x, axes)   p = Greater(total, zero)
  """
  model, told = decided(CHOICE % about)
  assert norm_before(model) == "m" and not told


def test_default_that_leaves_no_training_stays_an_input():
  model, told = decided(CHOICE % PHASES["default"])
  assert norm_before(model) == "m" and not told


@pytest.mark.parametrize("value, taken", [(0, "a"), (1, "b")])
def test_variables_have_the_checkpoints_value(tmp_path, value, taken):
  stored = """
    v = VariableV2() {shape=[]}   r = Identity(v)
    half = Const() {value=<float 0.5>}   p = Greater(r, half)
  """
  saved = checkpoint(tmp_path, {"v": value})
  model, told = decided(CHOICE % stored, saved=saved)
  assert norm_before(model) == taken and "in the checkpoint" in told[0]


def test_kept_scopes_have_their_training_value():
  two = (
    (NORMS % "p").replace("y = ", "h = ")
    + """
    k/s = Switch(h, p)   k/f = FusedBatchNorm(k/s, g, z, g, g)
      {is_training=false}
    k/t = FusedBatchNorm(k/s:1, g, z, none, none) {is_training=true}
    k/m = Merge(k/f, k/t)   y = Relu(k/m)
  """
  )
  model, _ = decided(PHASES["bool"] + two, keep=("k",))
  assert norm_before(model) == "k/t" and norm_before(model, "h") == "f"
  with pytest.raises(TransformError, match="keep batch statistics of 'nope/'"):
    decided(PHASES["bool"] + two, keep=("nope/",))


def test_output_on_a_dead_branch_is_refused():
  with pytest.raises(TransformError, match="export 't'.*not taken"):
    decided(
      PHASES["bool"] + NORMS % "p", outputs=["y", "t"], values={"p": "false"}
    )


def test_output_that_is_folded_keeps_its_name():
  model, _ = decided(PHASES["bool"] + NORMS % "p", outputs=["m"])
  assert spelled(model.graph, "m") == "Identity(f)"


def test_constants_that_take_the_side_of_training():
  for value, found in (("true", ["p"]), ("false", [])):
    model = model_of(f"p = Const() {{value=<bool {value}>}}" + NORMS % "p")
    assert [f.name for f in decide.training_constants(model)] == found
    assert norm_before(model) == "m"  # it is looked at and stays


STEPS = """
  step = VariableV2() {shape=[], dtype=int32}   r = Identity(step)
  one = Const() {value=<int32 1>}   p = %s
"""


@pytest.mark.parametrize(
  "predicate, is_count",
  [
    ("Equal(r, one)", False),
    ("Greater(one, r)", True),
    ("Equal(r, one)   more = AssignAdd(step, one)", True),
  ],
)
def test_counts_keep_their_value_and_modes_do_not(
  tmp_path, predicate, is_count
):
  saved = checkpoint(tmp_path, {"step": 1})
  model, told = decided(STEPS % predicate + NORMS % "p", saved=saved)
  assert ("its value in the checkpoint" in told[0]) == is_count
  assert (model.decisions.values["step"] == 1) == is_count


def test_stored_statistics_in_the_place_of_the_batchs_are_enough():
  """Training has a branch of its own, with weights and a norm."""
  model, _ = decided("""
    x = Placeholder() {shape=[?,2]}   p = Placeholder() {shape=[], dtype=bool}
    axis = Const() {value=<int32 0>}   w = VariableV2() {shape=[2]}
    v = VariableV2() {shape=[2]}   r = Identity(v)
    s = Switch(x, p)   n = Mean(s:1, axis)   u = Assign(v, n)
    c = Sub(s:1, n)   k = Mul(c, w)   t = Add(c, k)
    rs = Switch(r, p)   f = Sub(s, rs)   y = Merge(f, t)
  """)
  assert model.decisions.values == {"p": False}


def test_scalars_that_are_too_many_to_try_are_refused(monkeypatch):
  monkeypatch.setattr(decide, "_MOST_VISITS", 15)
  with pytest.raises(
    TransformError, match="scalars such as .* too many"
  ) as refused:
    decided(PHASES["bool"] + NORMS % "p")
  assert "--set=p=VALUE" in str(refused.value)
  decided(PHASES["bool"] + NORMS % "p", values={"p": "false"})
  stated = model_of("p = Const() {value=<bool true>}" + NORMS % "p", ("y",))
  assert not decide.training_constants(stated)
  monkeypatch.setattr(decide, "_MOST_VISITS", 1000)
  assert decide.training_constants(stated)
