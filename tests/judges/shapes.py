# SPDX-License-Identifier: Apache-2.0
"""Graphs of awkward shapes and any size, and what commands are asked of them.

Each reads `x`, answers at `y`, and has about as many nodes as it is asked for;
of names it has that many characters.
"""

from __future__ import annotations

import numpy as np

from bnexport import text
from bnexport.tf1 import session, tf1

_INPUT = """
x = Placeholder() {shape=[?,3]}
c = Const() {value=<float 2>}
p = Placeholder() {dtype=bool, shape=[]}
"""
# Its value is in the checkpoint.
_VARIABLE = "v = VariableV2() {dtype=float, shape=[3]}\n"
_HELD = np.float32([0.5, 1.5, 2.5])


def make(shape: str, count: int) -> tf1.GraphDef:
  """The GraphDef of a shape with about so many nodes."""
  return text.loads(_INPUT + SHAPES[shape](count))


def save(prefix: str) -> None:
  """Writes a checkpoint with the variable of the shapes that have one."""
  with tf1.Graph().as_default() as graph:
    variable = tf1.get_variable("v", initializer=_HELD, use_resource=False)
    with session(graph) as running:
      running.run(variable.initializer)
      saver = tf1.train.Saver([variable])
      saver.save(running, prefix, write_meta_graph=False)


def _chain(step, count, last="x", start=""):
  lines = [start]
  for i in range(count):
    lines.append(step.format(i=i, last=last))
    last = f"n{i}"
  return "\n".join(lines) + f"\ny = Identity({last})"


def _fan(step, end, count):
  names = ", ".join(f"n{i}" for i in range(count))
  lines = [step.format(i=i) for i in range(count)]
  return "\n".join(lines) + "\n" + end.format(names, count)


def _controls(count):
  waits = ", ".join(f"^n{i}" for i in range(count))
  return _fan("n{i} = Neg(x)", "", count) + f"y = Identity(x, {waits})"


def _nest(count):
  lines, last = [], "x"
  for i in range(count):
    lines.append(f'e{i} = Enter({last}) {{frame_name="f{i}"}}')
    last = f"e{i}"
  return "\n".join(lines) + "\n" + _chain("n{i} = Exit({last})", count, last)


def _names(count):
  name = "n" * count
  return f"{name} = Relu(x)\nb = Neg({name})\ny = Identity(b)"


def _calling(count, times):
  """Functions, each of which calls the one before it so often."""
  lines = ["function f0(a float) -> (b float = n:y:0) { n = Neg(a) }"]
  for i in range(1, count):
    body, read = [], "a"
    for k in range(times):
      body.append(f"n{k} = f{i - 1}({read})")
      read = f"n{k}:b:0"
    lines.append(
      f"function f{i}(a float) -> (b float = {read}) {{ {' '.join(body)} }}"
    )
  return "\n".join(lines) + f"\ny = f{count - 1}(x)"


def _updates(count):
  """One average that is updated by each of a chain of products."""
  return _chain(
    "n{i} = Mul({last}, c)\nd{i} = Sub(v, n{i})\nu{i} = AssignSub(v, d{i})",
    count // 3,
    "mean",
    _VARIABLE
    + "axis = Const() {value=<int32 0>}\n"
    + "mean = Mean(x, axis) {keep_dims=false}\n",
  )


_CONDITIONAL = (
  "s{i} = Switch({last}, {p})\n"
  "a{i} = Neg(s{i})\n"
  "n{i} = Merge(a{i}, s{i}:1) {{N=2}}"
)
SHAPES = {
  "identities": lambda n: _chain("n{i} = Identity({last})", n),
  "layers": lambda n: _chain("n{i} = Relu({last})", n),
  "sums": lambda n: _chain("n{i} = Add({last}, c)", n),
  "readers": lambda n: (
    "h = Neg(x)\n" + _fan("n{i} = Mul(h, c)", "y = AddN({}) {{N={}}}", n)
  ),
  "controls": _controls,
  "waiting": lambda n: (
    "h = Neg(x)\n" + _fan("n{i} = Neg(x, ^h)", "y = AddN({}) {{N={}}}", n)
  ),
  "concat": lambda n: (
    "axis = Const() {value=<int32 0>}\n"
    + _fan("n{i} = Neg(x)", "y = ConcatV2({}, axis) {{N={}}}", n)
  ),
  "switches": lambda n: _chain(
    "s{i} = Switch({last}, p)\nn{i} = Identity(s{i}:1)", n // 2
  ),
  "merges": lambda n: _chain("n{i} = Merge({last}, {last}) {{N=2}}", n),
  "conditionals": lambda n: _chain(_CONDITIONAL.replace("{p}", "p"), n // 3),
  "phases": lambda n: _chain(
    "p{i} = Placeholder() {{dtype=bool, shape=[]}}\n"
    + _CONDITIONAL.replace("{p}", "p{i}"),
    n // 4,
  ),
  # Each of them is decided: on one side something is drawn at random.
  "trainings": lambda n: _chain(
    "p{i} = Placeholder() {{dtype=bool, shape=[]}}\n"
    "q{i} = Switch(d, p{i})   r{i} = RandomUniform(q{i}:1) {{dtype=float}}\n"
    + _CONDITIONAL.replace("{p}", "p{i}").replace("s{i}:1", "z{i}")
    + "   z{i} = Add(s{i}:1, r{i})",
    n // 7,
    start="d = Const() {value=<int32 [1] 3>}",
  ),
  "frames": lambda n: _nest(n // 2),
  "shapes": lambda n: _chain(
    "s{i} = Shape({last})\nn{i} = Reshape({last}, s{i})", n // 2
  ),
  "axes": lambda n: _chain(
    "e{i} = ExpandDims({last}, axis)\nn{i} = Squeeze(e{i}) {{squeeze_dims=(1)}}",
    n // 2,
    start="axis = Const() {value=<int32 1>}\n",
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
  "choices": lambda n: _chain(
    "s{i} = Switch({last}, p)\n"
    "a{i} = FusedBatchNorm(s{i}, k, k, k, k) {{is_training=false}}\n"
    "b{i} = FusedBatchNorm(s{i}:1, k, k, e, e) {{is_training=true}}\n"
    "n{i} = Merge(a{i}, b{i}) {{N=2}}",
    n // 4,
    "z",
    "z = Placeholder() {shape=[?,2,2,1]}\n"
    "k = Const() {value=<float [1] 2>}\n"
    "e = Const() {value=<float [0]>}\n",
  ),
  "updates": _updates,
  "names": _names,
  "functions": lambda n: _calling(n, 1),
}
COMMANDS = {
  "inspect": ["--graph_def={}"],
  "transform": [
    "--in_graph={}",
    "--out_graph={}.out.pb",
    "--outputs=y",
    "--transforms=strip_unused_nodes fold_constants fold_batch_norms",
  ],
  "repair": ["--graph_def={}", "--output_node=y", "--output_graph={}.out.pb"],
  "freeze": [
    "--graph_def={}",
    "--checkpoint={}.ckpt",
    "--output_node=y",
    "--output_graph={}.out.pb",
  ],
}


def arguments(command: str, path: str) -> list:
  """Those of a command for the GraphDef in a file, none of which runs it."""
  asked = [argument.replace("{}", path) for argument in COMMANDS[command]]
  return [command, *asked, "--novalidate", "--overwrite"]
