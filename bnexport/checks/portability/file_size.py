# SPDX-License-Identifier: Apache-2.0
"""BN403: near 2 GB."""

from __future__ import annotations

from bnexport.checks.rule import WARNING, Example, Rule
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import static_shape
from bnexport.tf1 import tf1

_LIMIT = 1 << 31
# A protobuf is read up to 2 GB, names, shapes and signatures of whatever wraps
# the graph next included: a tenth is left for these.
_NEAR_LIMIT = int(0.9 * _LIMIT)


def _look(subject):
  """A frozen file near the limit, or variables that would make one."""
  if subject.is_frozen:
    size = max(subject.size or 0, _constant_bytes(subject))
    if size > _NEAR_LIMIT:
      yield "", _fact("the file", size), subject.fix()
    return
  variables = _variable_bytes(subject)
  size = sum(variables.values()) + _constant_bytes(subject)
  if not variables or size <= _NEAR_LIMIT:
    return
  left_out, rest = [], size
  for name in sorted(variables, key=lambda name: -variables[name]):
    if rest <= _NEAR_LIMIT:
      break
    left_out.append(name)
    rest -= variables[name]
  largest = left_out[0]
  yield (
    largest,
    f"holds {_gigabytes(variables[largest])}; {_fact('a frozen graph', size)}",
    subject.fix(denylist=tuple(left_out)),
  )


def _fact(holder, size):
  consequence = "what wraps it next may not be written"
  if size >= _LIMIT:
    consequence = "it can't be written"
  return (
    f"{holder} has {_gigabytes(size)}, and protobufs of 2 GB and more can't be "
    f"read: {consequence}"
  )


def _gigabytes(size):
  return f"{size / 1e9:.3g} GB"


def _variable_bytes(subject):
  """Sizes of variables that the outputs need and a checkpoint would give."""
  if subject.values is None:
    return {}
  sizes = {}
  for name in subject.needed_at_inference:
    node = subject.graph.node(name)
    if node.op in ops.VARIABLES:
      shape = static_shape(subject.graph, TensorRef(name))
      if shape is None or -1 in shape:
        shape = subject.values.shape(name) or ()
      size = max(tf1.as_dtype(node.attr["dtype"].type).size, 1)
      for dim in shape:
        size *= dim
      sizes[name] = size
  return sizes


def _constant_bytes(subject):
  """Bytes as stored: a constant that repeats one value is as small as that."""
  if subject.graph is None:
    return 0
  return sum(
    subject.graph.node(name).attr["value"].tensor.ByteSize()
    for name in subject.needed_at_inference
    if subject.graph.op(name) == "Const"
  )


RULE = Rule(
  code="BN403",
  severity=WARNING,
  title="near 2 GB",
  why="""
    A graph is one protobuf, and these hold less than 2 GB. A graph with more
    can't be frozen, one with little less can't be wrapped in a SavedModel
    or converted. Large tables of embeddings are mostly what it is.
  """,
  code_sample="""
    table = tf.get_variable("table", [10000000, 64])
    h = tf.nn.embedding_lookup(table, ids)
  """,
  cure="""
    Keep the largest variables out of the file: those in
    --variable_names_denylist stay variables, and whoever runs the graph
    restores them from the checkpoint. Or serve a SavedModel, which has its
    variables in files of their own.
  """,
  look=_look,
  bad=Example(
    """
    ids = Placeholder() {dtype=int32, shape=[?]}
    table = VariableV2() {shape=[10000000,64]}
    zero = Const() {value=<int32 [] 0>}
    rows = GatherV2(table, ids, zero)
    y = Relu(rows)
    """,
    checkpoint={"step": 1},
    is_training=True,
  ),
  good=Example(
    """
    ids = Placeholder() {dtype=int32, shape=[?]}
    table = VariableV2() {shape=[3,2]}
    zero = Const() {value=<int32 [] 0>}
    rows = GatherV2(table, ids, zero)
    y = Relu(rows)
    """,
    checkpoint={"table": [[1, 2], [3, 4], [5, 6]]},
    is_training=True,
  ),
)
