# SPDX-License-Identifier: Apache-2.0
"""What trials find with few visits is what a sweep over the graph finds."""

from __future__ import annotations

import random

import numpy as np
import pytest
import zoo
from judges import counting

from bnexport import text
from bnexport.analysis.partial_evaluation import PartialEvaluation
from bnexport.analysis.trials import Trials
from bnexport.graph import Graph, TensorRef, ops

_LOOP = """
  e{i} = Enter({x}) {{frame_name="f{i}"}}
  m{i} = Merge(e{i}, b{i}) {{N=2}}
  z{i} = Less(m{i}, k{i})   k{i} = Enter(c) {{is_constant=true, frame_name="f{i}"}}
  l{i} = LoopCond(z{i})   s{i} = Switch(m{i}, l{i})
  w{i} = Enter({b}) {{T=bool, frame_name="f{i}"}}
  h{i} = Select(w{i}, s{i}:1, s{i}:1)
  b{i} = NextIteration(h{i})   n{i} = Exit(s{i})
"""
_TWO_SIDES = (
  "s{i} = Switch({x}, {b})   a{i} = Neg(s{i})   o{i} = Switch({y}, {b})\n"
  "q{i} = Switch(c, {b})   r{i} = Identity(q{i}:1)\n"
  "k{i} = Const(^r{i}) {{value=<float 3>}}   j{i} = Add(o{i}:1, k{i})\n"
)
_FLOATS = (
  "n{i} = Neg({x})",
  "n{i} = Identity({x}, ^{w})",
  "n{i} = Mul({x}, {y})",
  "n{i} = Add({x}, {y}, ^{w})",
  "f{i} = Cast({b}) {{SrcT=bool, DstT=float}}   n{i} = Mul({x}, f{i})",
  "f{i} = Cast({b}) {{SrcT=bool, DstT=float}}   n{i} = Sub(f{i}, c)",
  "n{i} = Select({b}, {x}, {y})",
  _TWO_SIDES + "n{i} = Merge(a{i}, j{i}) {{N=2}}",
  _TWO_SIDES + "n{i} = Merge(a{i}, s{i}:1) {{N=2}}",
  _TWO_SIDES + "n{i} = Merge(s{i}, o{i}:1) {{N=2}}",
  _TWO_SIDES
  + "t{i} = Merge(q{i}, r{i}) {{N=2}}   u{i} = Cast(t{i}:1) {{SrcT=int32, DstT=float}}"
  "   n{i} = Mul(u{i}, {x})",
  _LOOP,
)
_BOOLS = (
  "n{i} = LogicalNot({b})",
  "n{i} = LogicalAnd({b}, {d})",
  "n{i} = LogicalOr({b}, {d})",
  "s{i} = Switch({b}, {d})   n{i} = Merge(s{i}, s{i}:1) {{T=bool, N=2}}",
)


def drawn(draw):
  """A graph of random statements, and names of its phases."""
  floats, bools = ["x", "c"], [f"p{i}" for i in range(5)]
  lines = [
    "x = Placeholder() {shape=[]}   c = Const() {value=<float 1>}",
    *(f"{p} = Placeholder() {{dtype=bool, shape=[]}}" for p in bools),
  ]
  phases = list(bools)
  for i in range(draw.randrange(3, 25)):
    kind, made = (_FLOATS, floats) if draw.randrange(3) else (_BOOLS, bools)
    statement = draw.choice(kind).format(
      i=i,
      x=draw.choice(floats[-6:]),
      y=draw.choice(floats),
      b=draw.choice(bools),
      d=draw.choice(bools),
      w=draw.choice(floats + bools),
    )
    lines.append(statement)
    made.append(f"n{i}")
  return Graph(text.loads("\n".join(lines))), phases, floats[-3:]


def assert_same(graph, outputs, leaves, draw):
  """Asserts that trials agree with sweeps, before and after some settle."""
  order = graph.topological(graph.ancestors(ref.node for ref in outputs))
  known = {}
  trials = Trials(PartialEvaluation(graph, order, dict(known)), outputs)
  bare = trials.needed({})
  for leaf in leaves:
    found = []
    for value in (False, True):
      assigned = {leaf: np.bool_(value)}
      if not draw.randrange(3):
        assigned[draw.choice(leaves)] = np.bool_(draw.randrange(2))
      needed = trials.needed(assigned)
      whole = PartialEvaluation(graph, order, dict(known, **assigned))
      assert names_of(needed, order) == set(whole.needed(outputs)), assigned
      found.append((needed, set(whole.needed(outputs))))
    (one, of_one), (other, of_other) = found
    assert one.without(other) == of_one - of_other
    assert other.without(one) == of_other - of_one
    assert (one == other) == (of_one == of_other)
    if draw.randrange(2):
      known.update(assigned)
      trials.settle(assigned)
      whole = PartialEvaluation(graph, order, dict(known))
      assert names_of(trials.needed({}), order) == set(whole.needed(outputs))
      for name in order:
        for ref in (
          TensorRef(name),
          TensorRef(name, 1),
          TensorRef(name, 0, True),
        ):
          assert _facts(trials.evaluation, ref) == _facts(whole, ref)
          assert ref.control or (
            trials.evaluation.resolve(ref) == whole.resolve(ref)
          )
  return bare


def _facts(evaluation, ref):
  contexts, target = evaluation.contexts, evaluation.resolve(ref)
  # The numbers of predicates are given as they come.
  place = contexts.frame(target.node), contexts.sides(target)
  return (*evaluation.seen(ref)[:-1], place)


def names_of(needed, order):
  return {name for name in order if needed.has(name)}


@pytest.mark.parametrize("part", range(8))
def test_random_graphs(part):
  changed = 0
  for seed in range(20):
    draw = random.Random(f"{part}/{seed}")
    graph, phases, ends = drawn(draw)
    outputs = [TensorRef(name) for name in ends]
    before = assert_same(graph, outputs, phases, draw)
    order = graph.topological(graph.ancestors(ends))
    trials = Trials(PartialEvaluation(graph, order, {}), outputs)
    changed += trials.needed({phases[0]: np.bool_(True)}) != before
  assert changed > 3


@pytest.mark.part(12, 5)
@pytest.mark.parametrize(
  "name", [n for n in zoo.names() if not n.startswith("refuse_")]
)
def test_the_zoo(cases, name):
  from bnexport import sources
  from bnexport.model.request import Request

  case = cases(name)
  model = sources.open(
    Request("meta_graph", case.prefix + ".meta", case.prefix, (case.output,))
  )
  bools = [
    node.name
    for node in model.graph
    if (node.op in ops.PLACEHOLDERS and node.attr["dtype"].type == 10)
    or node.op in ("Less", "LogicalAnd", "Equal", "GreaterEqual")
  ]
  if not bools:
    bools = [model.graph.names()[0]]
  assert_same(model.graph, model.outputs, bools[:6], random.Random(name))


@pytest.mark.parametrize("shape", ["after", "within"])
def test_a_trial_looks_at_what_changes(shape):
  """Conditionals one after another, decided from the last to the first."""
  step = {
    "after": "s{i} = Switch({x}, p{i})   a{i} = Neg(s{i})   n{i} = Merge(a{i}, s{i}:1)",
    "within": "n{i} = Select(p{i}, {x}, c)",
  }[shape]

  def prepare(count):
    lines, last = (
      ["x = Placeholder() {shape=[]}   c = Const() {value=<float 2>}"],
      "x",
    )
    for i in range(count):
      lines.append(f"p{i} = Placeholder() {{dtype=bool, shape=[]}}")
      lines.append(step.format(i=i, x=last))
      last = f"n{i}"
    graph = Graph(text.loads("\n".join(lines)))
    outputs = [TensorRef(last)]
    order = graph.topological(graph.ancestors([last]))

    def work():
      trials = Trials(PartialEvaluation(graph, order, {}), outputs)
      for i in reversed(range(count)):
        trials.needed({f"p{i}": np.bool_(True)})
        trials.settle({f"p{i}": np.bool_(True)})

    return work

  counting.assert_linear(prepare, 50, 400)
