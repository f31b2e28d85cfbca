# SPDX-License-Identifier: Apache-2.0
"""BN1xx: training is still in the graph."""

from __future__ import annotations

import textwrap

from bnexport.analysis.phase import value_text
from bnexport.batchnorm.norm import BATCH
from bnexport.checks.rule import ERROR, WARNING, Example, Rule
from bnexport.graph import ops
from bnexport.transforms.inference.decide import training_constants

_AFFINE = """\
x = Placeholder() {shape=[?,2,2,3]}
gamma = Const() {value=<float [3] 1.5 0.5 2>}
beta = Const() {value=<float [3] 0.1 0.2 0.3>}
"""
_AVERAGES = """\
mean = Const() {value=<float [3] 0.4 -0.2 0.1>}
variance = Const() {value=<float [3] 1.3 0.7 2.1>}
"""
_STORED_NORM = (
  _AFFINE
  + _AVERAGES
  + """\
n = FusedBatchNorm(x, gamma, beta, mean, variance) {is_training=false}
y = Relu(n)
"""
)


def _switched_norm(phase):
  """A norm on both sides of a conditional; `phase` are the nodes that choose.

  The last of them is the predicate.
  """
  phase = textwrap.dedent(phase).strip()
  predicate = phase.splitlines()[-1].partition(" ")[0]
  return (
    _AFFINE
    + _AVERAGES
    + phase
    + (
      f"\nnone = Const() {{value=<float [0]>}}\ns = Switch(x, {predicate})\ni "
      "= FusedBatchNorm(s, gamma, beta, mean, variance) "
      "{is_training=false}\nt = FusedBatchNorm(s:1, gamma, beta, none, "
      "none) {is_training=true}\nm = Merge(i, t)\ny = Relu(m)\n"
    )
  )


def _training_mode(subject):
  for norm in subject.norms:
    if norm.statistics != BATCH or not subject.is_needed(norm.name):
      continue
    if not subject.has_averages(norm):
      continue
    yield (
      norm.name,
      "normalises with the mean and variance of the batch it gets: an answer "
      "depends on the rest of the batch, and is not what was trained for",
      subject.fix(),
    )


def _open_phase(subject):
  for leaf in subject.undecided:
    if leaf.op == "PlaceholderWithDefault":
      continue
    flags = ()
    if subject.inference is None:
      flags = (f"--set={leaf.name}={value_text(leaf.candidates[0])}",)
    yield (
      leaf.name,
      "chooses between training and inference when the graph runs: both are "
      "in it, it can't be run without feeding this, and consumers that know "
      "no control flow can't load it",
      subject.fix(*flags),
    )


def _random(subject):
  needed = subject.needed_at_inference
  for name in needed:
    if ops.is_random(subject.graph.op(name)):
      yield (
        name,
        "draws random numbers in the forward pass, as dropout does in "
        "training: every run answers differently",
        subject.fix(),
      )


def _default_phase(subject):
  for leaf in subject.undecided:
    if leaf.op == "PlaceholderWithDefault":
      yield (
        leaf.name,
        (
          f"is a learning phase with default {leaf.default}: training is "
          "still in the graph, and runs as soon as somebody feeds it"
        ),
        subject.fix(),
      )


def _literal_phase(subject):
  if not subject.outputs:
    return
  for leaf in training_constants(subject.model):
    yield (
      leaf.name,
      (
        f"is the constant {leaf.default}, and with it conditionals take the "
        "side of training"
      ),
      subject.fix(f"--set={leaf.name}={not leaf.default}"),
    )


RULES = (
  Rule(
    code="BN101",
    severity=ERROR,
    title="a norm in training mode",
    why="""
      In training a batch norm uses the mean and variance of the batch. At
      inference it has to use the moving averages that training collected. A
      graph that was frozen in training mode imports and runs, and answers
      differently for every batch; alone, a row may be normalised away.
    """,
    code_sample="""
      h = tf.layers.batch_normalization(h, training=True)
      tf.graph_util.convert_variables_to_constants(sess, graph_def, ["y"])
    """,
    cure="""
      Have the norm use its moving averages: freeze does that with the
      training graph, repair with a graph that is frozen already. Both find
      the averages by what the updates in the training graph compute.
    """,
    look=_training_mode,
    bad=Example(
      _AFFINE
      + """\
none = Const() {value=<float [0]>}
n = FusedBatchNorm(x, gamma, beta, none, none) {is_training=true}
y = Relu(n)
""",
      checkpoint={
        "moving_mean": [0.4, -0.2, 0.1],
        "moving_variance": [1.3, 0.7, 2.1],
      },
    ),
    good=Example(_STORED_NORM),
  ),
  Rule(
    code="BN102",
    severity=ERROR,
    title="a phase that is left open",
    why="""
      The graph holds the training side and the inference side, and a
      placeholder or a variable chooses. Whoever runs it has to know that, and
      to feed it. Consumers without control flow (TFLite, OpenCV, ONNX
      runtimes) refuse the graph, and updates on the training side often keep
      TensorFlow itself from importing it.
    """,
    code_sample="""
      is_training = tf.placeholder(tf.bool)
      h = tf.layers.batch_normalization(h, training=is_training)
    """,
    cure="""
      Decide the phase: freeze and repair put in the value under which the
      outputs need no update, no batch statistic and no random number. Where
      several do, say which with --set=NAME=VALUE.
    """,
    look=_open_phase,
    bad=Example(
      _switched_norm("is_training = Placeholder() {dtype=bool, shape=[]}"),
    ),
    good=Example(_STORED_NORM),
  ),
  Rule(
    code="BN103",
    severity=WARNING,
    title="random numbers in the forward pass",
    why="""
      Dropout and added noise are there to train. Left in, two runs of the
      graph on the same input answer differently, and every answer is off.
    """,
    code_sample="""
      h = tf.nn.dropout(h, keep_prob=0.5)
      tf.graph_util.convert_variables_to_constants(sess, graph_def, ["y"])
    """,
    cure="""
      Take dropout and noise out: freeze and repair do. Random numbers that
      are the model itself, as a generator's code, stay; cut them with
      --input_node=NODE to feed them instead.
    """,
    look=_random,
    bad=Example(
      """
      x = Placeholder() {shape=[4,3]}
      shape = Const() {value=<int32 [2] 4 3>}
      random = RandomUniform(shape) {dtype=float}
      keep = Const() {value=<float [] 0.5>}
      sum = Add(keep, random)
      mask = Floor(sum)
      scaled = RealDiv(x, keep)
      dropped = Mul(scaled, mask)
      y = Relu(dropped)
      """,
    ),
    good=Example(
      """
      x = Placeholder() {shape=[4,3]}
      y = Relu(x)
      """
    ),
  ),
  Rule(
    code="BN104",
    severity=WARNING,
    title="a learning phase with a default",
    why="""
      Keras' learning phase is a placeholder with a default. The graph runs
      without feeding it, so nobody notices that training is still in it: its
      updates, its batch statistics, its control flow, and the one feed that
      turns them on.
    """,
    code_sample="""
      training = tf.placeholder_with_default(False, [])
      h = tf.layers.batch_normalization(h, training=training)
    """,
    cure="Decide it, as any phase: freeze and repair do.",
    look=_default_phase,
    bad=Example(
      _switched_norm("""
        false = Const() {value=<bool [] false>}
        learning_phase = PlaceholderWithDefault(false) {dtype=bool, shape=[]}
      """),
    ),
    good=Example(_STORED_NORM),
  ),
  Rule(
    code="BN105",
    severity=ERROR,
    title="a constant phase that means training",
    why="""
      The code states training in a tensor, so the conditionals are built, and
      take the side of training. It looks like a phase that could be fed, and
      answers as a norm in training mode does.
    """,
    code_sample="""
      is_training = tf.constant(True)
      h = tf.contrib.layers.batch_norm(h, is_training=is_training)
    """,
    cure="""
      Say what it is at inference with --set=NAME=False: what the code states
      is changed by nobody but you.
    """,
    look=_literal_phase,
    bad=Example(
      _switched_norm("is_training = Const() {value=<bool [] true>}"),
    ),
    good=Example(_STORED_NORM),
  ),
)
