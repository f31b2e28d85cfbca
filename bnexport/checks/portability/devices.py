# SPDX-License-Identifier: Apache-2.0
"""BN404: nodes that are placed on devices."""

from __future__ import annotations

from bnexport.checks.portability import and_more
from bnexport.checks.rule import NOTE, Example, Rule


def _look(subject):
  """Devices of nodes, each at its first node."""
  for device, names in subject.devices.items():
    if not subject.is_frozen:
      names = [name for name in names if subject.is_needed(name)]
    if names:
      yield (
        names[0],
        f"is placed on '{device}'{and_more(names)}: on a machine without it "
        "the graph does not run, unless it is told to place softly",
        subject.fix(),
      )


RULE = Rule(
  code="BN404",
  severity=NOTE,
  title="nodes that are placed on devices",
  why="""
    Devices are those of the machine that trained. TensorFlow refuses to run
    a node on a device that is not there, unless the session allows soft
    placement; other runtimes refuse to load the graph.
  """,
  code_sample="""
    with tf.device("/gpu:0"):
      h = tf.layers.batch_normalization(h, training=False)
  """,
  cure="Freeze and repair clear all devices.",
  look=_look,
  bad=Example(
    """
    x = Placeholder() {shape=[?,3]}
    y = Relu(x) @"/device:GPU:0"
    """
  ),
  good=Example(
    """
    x = Placeholder() {shape=[?,3]}
    y = Relu(x)
    """
  ),
)
