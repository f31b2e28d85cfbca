# SPDX-License-Identifier: Apache-2.0
"""BN4xx: the graph does not go everywhere."""

from __future__ import annotations

import re

from bnexport.checks.rule import ERROR, NOTE, WARNING, Example, Rule
from bnexport.graph import TensorRef, op_history, ops
from bnexport.graph.nodes import called_functions, static_shape
from bnexport.sources import assets
from bnexport.tf1 import op_def, tf1

# A protobuf is read up to 2 GB, names, shapes and signatures of whatever wraps
# the graph next included: a tenth is left for these.
_NEAR_LIMIT = int(0.9 * (1 << 31))

_LOOKUPS = re.compile(r"^LookupTable(Find|Size|Export)(V2)?$")
_REACHING = {
  ops.PYTHON: (
    "calls a Python function, which is not in the graph: it runs in the "
    "process that made it, and nowhere else"
  ),
  ops.FILES: (
    "uses files, which have to be at the same place wherever the graph runs"
  ),
  ops.NETWORK: (
    "uses the network, which has to be the same wherever the graph runs"
  ),
}


# Older consumers.


def _newer(subject):
  """What the target lacks, by (op, attribute): a list of Newer."""
  found = {}
  if subject.target_tf is not None and subject.graph is not None:
    for newer in _newer_parts(subject):
      found.setdefault((newer.op, newer.attribute), []).append(newer)
  return found


def _newer_parts(subject):
  """Of what is in a frozen file, or of what a training graph's outputs need."""
  graph, version = subject.graph, subject.target_tf
  nodes = [
    node for node in graph if subject.is_frozen or subject.is_needed(node.name)
  ]
  paths = [(node.name, node) for node in nodes]
  for function in called_functions(graph, nodes):
    within = function.signature.name + "/"
    paths += [(within + inner.name, inner) for inner in function.node_def]
  for path, node in paths:
    if node.op not in graph.library:
      newer = op_history.newer_in_node(node, version)
      yield from (found._replace(node=path) for found in newer)


def _newer_ops(subject):
  for (op, attribute), newer in _newer(subject).items():
    if attribute is None and op_history.since(op) is not None:
      yield (
        newer[0].node,
        (
          f"has op {op}{_more(newer)}, which TensorFlow {subject.target_tf} "
          f"lacks ({newer[0].since} has it): the graph is not imported there"
        ),
        subject.fix("--target_tf=" + subject.target_tf),
      )


def _newer_attributes(subject):
  for (op, attribute), newer in _newer(subject).items():
    if attribute is not None:
      yield (
        newer[0].node,
        (
          f"has op {op}{_more(newer)} with {newer[0].what}, which TensorFlow "
          f"{subject.target_tf} does not know: the graph is not imported there"
        ),
        subject.fix("--target_tf=" + subject.target_tf),
      )


def _more(nodes):
  """How many nodes besides the first one it is said of."""
  return f" (as {len(nodes) - 1} more)" if len(nodes) > 1 else ""


# Size.


def _too_large(subject):
  if subject.is_frozen:
    size = max(subject.size or 0, _constant_bytes(subject))
    if size > _NEAR_LIMIT:
      yield "", _size_fact("the file", size), subject.fix()
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
  yield (
    left_out[0],
    (
      f"holds {_bytes(variables[left_out[0]])}; "
      f"{_size_fact('a frozen graph', size)}"
    ),
    subject.fix("--variable_names_denylist=" + ",".join(left_out)),
  )


def _size_fact(what, size):
  return "%s has %s, and protobufs of 2 GB and more can't be read: %s" % (
    what,
    _bytes(size),
    "it can't be written"
    if size >= 1 << 31
    else "what wraps it next may not be written",
  )


def _bytes(size):
  return f"{size / 1000000000.0:.3g} GB"


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
  """As stored: a constant that repeats one value is as small as that."""
  if subject.graph is None:
    return 0
  return sum(
    subject.graph.node(name).attr["value"].tensor.ByteSize()
    for name in subject.needed_at_inference
    if subject.graph.op(name) == "Const"
  )


def _devices(subject):
  for device, names in subject.devices.items():
    if not subject.is_frozen:
      names = [name for name in names if subject.is_needed(name)]
    if names:
      yield (
        names[0],
        (
          f"is placed on '{device}'{_more(names)}: on a machine without it "
          "the graph does not run, unless it is told to place softly"
        ),
        subject.fix(),
      )


# What has to be cut.


def _unregistered(subject):
  def is_unknown(node):
    return node.op not in subject.graph.library and op_def(node.op) is None

  # TensorFlow refuses a file for nodes that nothing needs, too.
  names = _needed(subject)
  if subject.is_frozen and subject.graph is not None:
    names = subject.graph.names()
  for op, found, fix in _to_cut(subject, names, is_unknown):
    yield (
      found[0],
      (
        f"has op {op}{_more(found)}, which this TensorFlow does not know: the "
        "graph is not imported without the library that registers it"
      ),
      fix,
    )


def _outside(subject):
  def reaches_out(node):
    return ops.reaches(node) or _looks_up_in_file(subject, node)

  for op, found, fix in _to_cut(subject, _needed(subject), reaches_out):
    what = ops.reaches(subject.graph.node(found[0])) or ops.FILES
    fact = _REACHING[what]
    yield found[0], f"has op {op}{_more(found)}, and {fact}", fix


def _needed(subject):
  return [n for n in subject.needed_at_inference if n in subject.needed]


def _looks_up_in_file(subject, node):
  """Whether a node uses a table that a file fills, also once it is frozen."""
  graph = subject.graph
  if _LOOKUPS.search(node.op) is None:
    return False
  fillers = graph.readers(graph.inputs(node.name)[0].node)
  return any(
    ops.reaches(graph.node(reader)) == ops.FILES
    and not assets.is_held(graph, reader, subject.assets)
    for reader in fillers
  )


def _to_cut(subject, names, is_bad):
  """(op, names of nodes, fix) of nodes that have to go, for each op."""
  by_op = {}
  for name in names:
    node = subject.graph.node(name)
    if is_bad(node):
      by_op.setdefault(node.op, []).append(name)
  if not by_op:
    return []
  outputs = _before(subject, is_bad)
  cuts = _cuts(subject, outputs, is_bad)
  flags = ["--input_node=" + ",".join(cuts)] if cuts else []
  fix = subject.fix(*flags, outputs=outputs)
  return [(op, found, fix) for op, found in by_op.items()]


def _before(subject, is_bad):
  """The outputs; in the place of one that has to go, what it reads."""
  graph, found, stack = subject.graph, {}, list(subject.outputs)
  for ref in stack:
    if is_bad(graph.node(ref.node)):
      stack.extend(graph.data_inputs(ref.node))
    elif ref in subject.outputs or graph.op(ref.node) != "Const":
      found[ref] = None
  return list(found)


def _cuts(subject, outputs, is_bad):
  """Tensors that, when they are fed, keep the outputs from bad nodes.

  The placeholders that are needed besides come behind them: --input_node is
  the whole list of what is fed. Empty where no output needs a bad node.
  """
  graph, found, inputs = subject.graph, {}, {}
  stack, seen = list(outputs), set()
  for ref in stack:
    node = graph.node(ref.node)
    if is_bad(node):
      found[str(ref)] = None
    elif node.op in ("Placeholder", "PlaceholderV2"):
      inputs[str(ref)] = None
    elif ref.node not in seen:
      seen.add(ref.node)
      needed = subject.needed_at_inference
      stack.extend(r for r in graph.data_inputs(ref.node) if r.node in needed)
  return list(found) + list(inputs) if found else []


_NORM = """
gamma = Const() {value=<float [3] 1.5 0.5 2>}
beta = Const() {value=<float [3] 0.1 0.2 0.3>}
mean = Const() {value=<float [3] 0.4 -0.2 0.1>}
variance = Const() {value=<float [3] 1.3 0.7 2.1>}
"""
_PLAIN = Example(
  "x = Placeholder() {shape=[?,2,2,3]}"
  + _NORM
  + """
n = FusedBatchNorm(x, gamma, beta, mean, variance) {is_training=false}
y = Relu(n)
"""
)


RULES = (
  Rule(
    code="BN401",
    severity=ERROR,
    title="ops that an older TensorFlow lacks",
    why="""
      The graph is to be read by the TensorFlow that --target_tf names, and
      that one does not have these ops: it refuses the whole graph. TensorFlow
      writes its newest ops, also where an older one computes the same.
    """,
    code_sample="""
      h = tf.layers.batch_normalization(h, training=False)  # in TF 1.15
      tf.import_graph_def(graph_def)  # in TF 1.4
    """,
    cure="""
      Name that version in --target_tf when the graph is written. The ops are
      replaced by older ones that compute the same; where there are none, that
      is said.
    """,
    look=_newer_ops,
    bad=Example(
      "x = Placeholder() {shape=[?,2,2,3]}"
      + _NORM
      + """
n = FusedBatchNormV3(x, gamma, beta, mean, variance) {is_training=false}
y = AddV2(n, beta)
""",
      target_tf="1.4",
    ),
    good=Example(_PLAIN.graph, target_tf="1.4"),
  ),
  Rule(
    code="BN402",
    severity=ERROR,
    title="attributes that an older TensorFlow lacks",
    why="""
      The TensorFlow that --target_tf names has the op, and not this attribute
      or this value of it. It refuses the whole graph. Attributes at the value
      that makes them void are no matter, they are dropped.
    """,
    code_sample="""
      h = tf.nn.conv2d(x, w, padding="SAME", dilations=[1, 2, 2, 1])
      tf.import_graph_def(graph_def)  # in TF 1.4
    """,
    cure="""
      Name that version in --target_tf when the graph is written. What the
      attribute does is then done by older ops, where there are such.
    """,
    look=_newer_attributes,
    bad=Example(
      """
      x = Placeholder() {shape=[?,6,6,1]}
      w = Const() {value=<float [2,2,1,2] 1 2 3 4 5 6 7 8>}
      c = Conv2D(x, w) {strides=(1, 1, 1, 1), dilations=(1, 2, 2, 1),
                        padding=VALID}
      y = Relu(c)
      """,
      target_tf="1.4",
    ),
    good=Example(
      """
      x = Placeholder() {shape=[?,6,6,1]}
      w = Const() {value=<float [2,2,1,2] 1 2 3 4 5 6 7 8>}
      c = Conv2D(x, w) {strides=(1, 1, 1, 1), padding=VALID}
      y = Relu(c)
      """,
      target_tf="1.4",
    ),
  ),
  Rule(
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
    look=_too_large,
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
  ),
  Rule(
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
    look=_devices,
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
  ),
  Rule(
    code="BN405",
    severity=ERROR,
    title="ops that nobody knows",
    why="""
      TensorFlow refuses a graph with an op that is not registered. The op is
      from a library that has to be loaded first, as those of tf.contrib are
      in TensorFlow 1, or from one that is no more.
    """,
    code_sample="""
      lib = tf.load_op_library("decode.so")
      h = lib.decode(x)
    """,
    cure="""
      Feed what the op gives: --input_node makes it an input. Before you do,
      see whether the op is a part of the model, and not of its input.
    """,
    look=_unregistered,
    bad=Example(
      """
      x = Placeholder() {dtype=string, shape=[]}
      decoded = DecodeAsWeDo(x)
      y = Relu(decoded)
      """
    ),
    good=Example(
      """
      decoded = Placeholder() {shape=[?,3]}
      y = Relu(decoded)
      """
    ),
  ),
  Rule(
    code="BN406",
    severity=WARNING,
    title="files and Python in the graph",
    why="""
      The outputs need what is not in the graph: a function of the Python
      process that made it, or files. Elsewhere the graph fails when it is
      run, or reads other files.
    """,
    code_sample="""
      h = tf.py_func(prepare, [x], tf.float32)
      y = tf.layers.batch_normalization(h, training=False)
    """,
    cure="""
      Feed what these ops give: --input_node makes it an input, and what they
      did is done outside. --input_node is the whole list of inputs.
    """,
    look=_outside,
    bad=Example(
      """
      x = Placeholder() {shape=[?,3]}
      prepared = PyFunc(x) {token="pyfunc_0", Tout=(float)}
      y = Relu(prepared)
      """
    ),
    good=Example(
      """
      prepared = Placeholder() {shape=[?,3]}
      y = Relu(prepared)
      """
    ),
  ),
)
