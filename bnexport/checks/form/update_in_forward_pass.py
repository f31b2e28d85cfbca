# SPDX-License-Identifier: Apache-2.0
"""BN301: an update in the forward pass."""

from __future__ import annotations

from bnexport.checks.form import abridged
from bnexport.checks.rule import WARNING, Example, Rule
from bnexport.graph import ops
from bnexport.graph.variables import variable_of


def _look(subject):
  """Updates that run with the outputs, in a graph with its variables."""
  if subject.is_frozen or subject.inference is None:
    return
  needed = subject.inference.needed(subject.outputs)
  found = [name for name in needed if subject.graph.op(name) in ops.UPDATES]
  for name, more in abridged(found):
    variable = variable_of(subject.graph, subject.graph.inputs(name)[0])
    written = f"'{variable}'" if variable else "a variable"
    yield (
      name,
      f"writes {written}{more} whenever the graph is run: answers depend on "
      "what was run before, and TensorFlow's freeze_graph makes a graph of it "
      "that does not import",
      subject.fix(),
    )


RULE = Rule(
  code="BN301",
  severity=WARNING,
  title="an update in the forward pass",
  why="""
    Asking for the answers also writes a variable. The graph can't be shared
    by threads, its answers may depend on what was run before, and once
    convert_variables_to_constants has made a constant of the variable, the
    update has nothing to write to: the frozen graph does not import.
  """,
  code_sample="""
    h = tf.contrib.layers.batch_norm(
        h, is_training=True, updates_collections=None)
  """,
  cure="""
    Export with freeze: it leaves out everything that only updates state,
    and reads the variables as they are in the checkpoint.
  """,
  look=_look,
  bad=Example(
    """
    x = Placeholder() {shape=[?,3]}
    seen = VariableV2() {shape=[3]}
    rest = Const() {value=<float [] 0.1>}
    axes = Const() {value=<int32 [1] 0>}
    m = Mean(x, axes)
    read = Identity(seen)
    apart = Sub(read, m)
    step = Mul(apart, rest)
    update = AssignSub(seen, step)
    y = Relu(x, ^update)
    """,
    checkpoint={"seen": [0.4, -0.2, 0.1]},
    is_training=True,
  ),
  good=Example(
    """
    x = Placeholder() {shape=[?,3]}
    seen = VariableV2() {shape=[3]}
    read = Identity(seen)
    apart = Sub(x, read)
    y = Relu(apart)
    """,
    checkpoint={"seen": [0.4, -0.2, 0.1]},
    is_training=True,
  ),
)
