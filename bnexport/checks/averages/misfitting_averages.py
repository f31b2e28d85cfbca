# SPDX-License-Identifier: Apache-2.0
"""BN206: averages of another norm's shape."""

from __future__ import annotations

from bnexport.checks.averages import average_variables, trained
from bnexport.checks.fix import BROKEN
from bnexport.checks.rule import ERROR, Rule
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import static_shape
from bnexport.graph.origins import stored_name


def _look(subject):
  """Norms with an average of another shape than they have channels."""
  for norm in subject.norms_at_inference:
    names, chosen = average_variables(subject, norm), BROKEN
    if not names:
      # Nothing tells calibration that a constant is of no use.
      names = _constants_of(subject, norm)
      chosen = (norm.name,)
    for name in names:
      wanted, there = _shapes(subject, norm, name)
      if wanted is None or there is None or _fits(wanted, there):
        continue
      yield (
        norm.name,
        f"has {_size(wanted)} channels, and its '{name}' is that of a norm "
        f"with {_size(there)}: it is of another model, or of another layer",
        subject.fix(recalibrate=chosen),
      )
      break


def _constants_of(subject, norm):
  """Names of the norm's averages that are constants and can't broadcast."""
  if norm.form.scale(subject.graph, norm.name) is None:
    return []  # nothing tells how many channels there are
  return [
    name
    for name in (norm.moving_mean, norm.moving_variance)
    if name is not None and subject.graph.op(name) == "Const"
  ]


def _shapes(subject, norm, name):
  """The shape that an average should have, and the one it has."""
  graph = subject.graph
  if graph.op(name) in ops.VARIABLES:
    return static_shape(graph, TensorRef(name)), subject.values.shape(name)
  scale = stored_name(graph, norm.form.scale(graph, norm.name))
  wanted = None if scale is None else static_shape(graph, TensorRef(scale))
  return wanted, static_shape(graph, TensorRef(name))


def _fits(wanted, there):
  return len(wanted) == len(there) and all(
    a == b or a < 0 for a, b in zip(wanted, there)
  )


def _size(shape):
  return "x".join(map(str, shape)) or "1"


RULE = Rule(
  code="BN206",
  severity=ERROR,
  title="averages of another norm's shape",
  why="""
    The stored mean or variance has another number of channels than the norm.
    The checkpoint is of another version of the model, or two norms were
    mixed up when variables were renamed or copied by hand. TensorFlow does
    not restore it; where it broadcasts, the answers are wrong.
  """,
  code_sample="""
    saver = tf.train.Saver({"bn/moving_mean": wider.moving_mean})
    saver.save(sess, "model.ckpt")
  """,
  cure="""
    Give the checkpoint that was saved with this graph. Where there is none,
    compute the statistics from a few hundred rows of the training data,
    numpy.savez("calibration.npz", x=rows).
  """,
  look=_look,
  bad=trained(
    moving_mean=[0.4, -0.2, 0.1, 0.5], moving_variance=[1.3, 0.7, 2.1, 0.9]
  ),
  good=trained(),
)
