# SPDX-License-Identifier: Apache-2.0
"""What commands cost is linear in a graph, whatever its shape is."""

from __future__ import annotations

import pytest
from absl import flags
from absl.testing import flagsaver
from judges.commands import COMMANDS
from judges.counting import assert_linear

from bnexport import text
from bnexport.cli import process

SMALL, LARGE = 150, 600
INPUT = "x = Placeholder() {shape=[?,3]}\nc = Const() {value=<float 2>}\n"
PHASE = "p = Placeholder() {dtype=bool, shape=[]}\n"


def _chain(step, count, last="x"):
  lines = []
  for i in range(count):
    lines.append(step.format(i=i, last=last))
    last = f"n{i}"
  return "\n".join(lines) + f"\ny = Identity({last})"


def _fan(step, end, count):
  names = [f"n{i}" for i in range(count)]
  lines = [step.format(i=i) for i in range(count)]
  return "\n".join(lines) + "\n" + end.format(", ".join(names), count)


def _nest(count):
  lines, last = [], "x"
  for i in range(count):
    lines.append(f'e{i} = Enter({last}) {{frame_name="f{i}"}}')
    last = f"e{i}"
  return "\n".join(lines) + "\n" + _chain("n{i} = Exit({last})", count, last)


SHAPES = {
  "identities": lambda n: _chain("n{i} = Identity({last})", n),
  "layers": lambda n: _chain("n{i} = Relu({last})", n),
  "sums": lambda n: _chain("n{i} = Add({last}, c)", n),
  "hub": lambda n: (
    "h = Neg(x)\n" + _fan("n{i} = Mul(h, c)", "y = AddN({}) {{N={}}}", n)
  ),
  "controls": lambda n: (
    _fan("n{i} = Neg(x)", "", n)
    + "y = Identity(x, "
    + ", ".join(f"^n{i}" for i in range(n))
    + ")"
  ),
  "concat": lambda n: (
    "axis = Const() {value=<int32 0>}\n"
    + _fan("n{i} = Neg(x)", "y = ConcatV2({}, axis) {{N={}}}", n)
  ),
  "conditionals": lambda n: (
    PHASE
    + _chain(
      "s{i} = Switch({last}, p)\n"
      "a{i} = Neg(s{i})\n"
      "n{i} = Merge(a{i}, s{i}:1) {{N=2}}",
      n // 3,
    )
  ),
  "phases": lambda n: _chain(
    "p{i} = Placeholder() {{dtype=bool, shape=[]}}\n"
    "s{i} = Switch({last}, p{i})\n"
    "a{i} = Neg(s{i})\n"
    "n{i} = Merge(a{i}, s{i}:1) {{N=2}}",
    n // 4,
  ),
  "frames": lambda n: _nest(n // 2),
  "shapes": lambda n: _chain(
    "s{i} = Shape({last})\nn{i} = Reshape({last}, s{i})", n // 2
  ),
  "norms": lambda n: (
    "z = Placeholder() {shape=[?,2,2,1]}\n"
    "k = Const() {value=<float [1] 2>}\n"
    + _fan(
      "n{i} = FusedBatchNorm(z, k, k, k, k) {{is_training=false}}",
      "y = AddN({}) {{N={}}}",
      n,
    )
  ),
}
ASKED = {
  "inspect": ["--graph_def={}"],
  "transform": [
    "--in_graph={}",
    "--out_graph={}.out.pb",
    "--outputs=y",
    "--transforms=strip_unused_nodes fold_constants fold_batch_norms",
  ],
  "repair": ["--graph_def={}", "--output_node=y", "--output_graph={}.out.pb"],
}


# Deciding tries both values of each phase on the whole graph.
PAIRS = sorted(
  {(shape, command) for shape in SHAPES for command in ASKED}
  - {("phases", "repair")}
)


@pytest.mark.parametrize("shape, command", PAIRS)
def test_cost_is_linear(tmp_path, capsys, shape, command):
  def prepare(count):
    path = str(tmp_path / f"{count}.pb")
    with open(path, "wb") as f:
      f.write(text.loads(INPUT + SHAPES[shape](count)).SerializeToString())
    arguments = [argument.format(path) for argument in ASKED[command]]

    def work():
      with flagsaver.flagsaver():
        argv = flags.FLAGS([command, *arguments, "--novalidate", "--overwrite"])
        assert process.status_of(COMMANDS[command].main, argv) in (0, 2, 3)

    return work

  prepare(20)()  # what is imported and made once
  assert_linear(prepare, SMALL, LARGE)
