# SPDX-License-Identifier: Apache-2.0
"""BN3xx: the form of the graph keeps it from being imported or run."""

from __future__ import annotations

from bnexport.analysis.branches import Branches
from bnexport.checks.rule import ERROR, WARNING, Example, Rule
from bnexport.graph import ops
from bnexport.graph.variables import variable_of
from bnexport.mending import faults

# Of more nodes than these with one fault, only the first is told.
_MOST = 10

_RELU = """
x = Placeholder() {shape=[?,3]}
y = Relu(x)
"""


def _update(subject):
  """Updates that run with the outputs, in a graph with its variables."""
  if subject.is_frozen or subject.inference is None:
    return
  needed = subject.inference.needed(subject.outputs)
  found = [name for name in needed if subject.graph.op(name) in ops.UPDATES]
  for name, more in _told(found):
    variable = variable_of(subject.graph, subject.graph.inputs(name)[0])
    yield (
      name,
      "writes %s%s whenever the graph is run: answers depend on what was run "
      "before, and TensorFlow's freeze_graph makes a graph of it that does "
      "not import" % (f"'{variable}'" if variable else "a variable", more),
      subject.fix(),
    )


def _clash(subject):
  for fault, more in _told(_of_kind(subject, faults.REFERENCE)):
    yield (
      fault.node,
      (
        f"{fault.fact}{more}: freezing made a constant of a variable that is "
        "still written, and TensorFlow refuses to import the graph"
      ),
      subject.mend(),
    )


def _dangling(subject):
  for fault, more in _told(_of_kind(subject, faults.DANGLING)):
    flags = ()
    if not fault.subject.startswith("^"):
      flags = _cut(subject, fault.subject)
    yield (
      fault.node,
      f"{fault.fact}{more}: TensorFlow refuses to import the graph",
      subject.mend(*flags),
    )


def _duplicate(subject):
  is_lost = subject.graph is None
  for fault, more in _told(_of_kind(subject, faults.DUPLICATE)):
    yield (
      fault.node,
      "%s%s: TensorFlow refuses to import the graph%s"
      % (
        fault.fact,
        more,
        "; the nodes differ, so that one has to be renamed where the graphs "
        "were joined"
        if is_lost
        else "",
      ),
      subject.mend(),
    )


def _function(subject):
  for fault, more in _told(_of_kind(subject, faults.FUNCTION)):
    yield (
      fault.node,
      f"{fault.fact}{more}: TensorFlow refuses to import the graph",
      subject.mend(*_cut(subject, fault.node)),
    )


def _inside_branch(subject):
  """Outputs that lie on one side of a conditional."""
  if subject.inference is None:
    return
  graph = subject.graph
  branches = Branches(graph, graph.topological())
  for ref in subject.outputs:
    is_dead = subject.inference.is_dead(ref)
    if not is_dead and not _is_optional(subject, branches, ref):
      continue
    behind = _behind(graph, branches, ref.node)
    yield (
      str(ref),
      "lies on a side of a conditional that %s: running it fails with "
      "'Retval does not have value' or a dead tensor"
      % (
        "is not taken at inference"
        if is_dead
        else "is taken for some data and not for other"
      ),
      subject.fix(outputs=behind and [behind]),
    )


def _malformed(subject):
  found = _of_kind(subject, faults.ORDER, faults.ARITY, faults.PORT)
  for fault, more in _told(found):
    flags = ()
    if fault.kind != faults.ORDER:
      flags = _cut(subject, fault.node)
    yield (
      fault.node,
      f"{fault.fact}{more}: TensorFlow refuses to import the graph",
      subject.mend(*flags),
    )


def _of_kind(subject, *kinds):
  return [fault for fault in subject.faults if fault.kind in kinds]


def _told(found):
  """Pairs of what is told of a list, and words on the rest of it."""
  if len(found) > _MOST:
    return [(found[0], f" (and so {len(found) - 1} more nodes)")]
  return [(item, "") for item in found]


def _cut(subject, tensor):
  """Without a training graph to restore it from, it has to be fed."""
  return () if subject.request.training_graph else (f"--input_node={tensor}",)


def _is_optional(subject, branches, ref):
  """Whether a conditional that inference leaves open may skip a tensor."""
  if ref.node not in subject.inference.conditional:
    return False
  return any(
    predicate not in {r.node for r in subject.inference.uniform}
    for predicate, _ in branches.of(ref.node)
  )


def _behind(graph, branches, name):
  """The nearest node behind a tensor that always runs, or None."""
  seen, stack = {name}, [name]
  for name in stack:
    for reader in graph.readers(name):
      if graph.op(reader) in ops.MERGES and not branches.of(reader):
        return reader
      if reader not in seen:
        seen.add(reader)
        stack.append(reader)
  return None


RULES = (
  Rule(
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
    look=_update,
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
  ),
  Rule(
    code="BN302",
    severity=ERROR,
    title="a value where a variable is wanted",
    why="""
      An op that writes a variable takes its reference or handle. Freezing
      made a constant of the variable and left the op: TensorFlow says `Input
      0 of node ... was passed float from ... incompatible with expected
      float_ref`. The usual cause is the update of a batch norm's averages
      that the outputs wait for; renaming RefSwitch to Switch and AssignSub to
      Sub makes the graph import, and leaves training in it.
    """,
    code_sample="""
      h = tf.contrib.layers.batch_norm(
          h, is_training=phase, updates_collections=None)
      tf.graph_util.convert_variables_to_constants(sess, graph_def, ["y"])
    """,
    cure="""
      repair takes the update out; where the norm is in training mode, it has
      it use the averages, which are still in the file. With the training code
      at hand, freeze makes a right graph from the start.
    """,
    look=_clash,
    bad=Example(
      """
      x = Placeholder() {shape=[?,3]}
      mean = Const() {value=<float [3] 0.4 -0.2 0.1>}
      axes = Const() {value=<int32 [1] 0>}
      rest = Const() {value=<float [] 0.1>}
      m = Mean(x, axes)
      off = Sub(mean, m)
      step = Mul(off, rest)
      update = AssignSub(mean, step)
      apart = Sub(x, mean)
      y = Relu(apart, ^update)
      """,
    ),
    good=Example(
      """
      x = Placeholder() {shape=[?,3]}
      mean = Const() {value=<float [3] 0.4 -0.2 0.1>}
      apart = Sub(x, mean)
      y = Relu(apart)
      """,
    ),
  ),
  Rule(
    code="BN303",
    severity=ERROR,
    title="an input that is not in the graph",
    why="""
      A node names an input that the file does not hold: `Node ... : Unknown
      input node`. Somebody cut too much away, or edited names by hand.
    """,
    code_sample="""
      for node in graph_def.node:
        if node.op != "Switch": kept.node.extend([node])
    """,
    cure="""
      With the .meta beside the checkpoint, or named with --meta_graph, repair
      puts the node back as it was. Without, name the missing input with
      --input_node: it becomes a placeholder. What no output needs is dropped.
    """,
    look=_dangling,
    bad=Example(
      """
      y = Relu(hidden)
      """
    ),
    good=Example(_RELU),
  ),
  Rule(
    code="BN304",
    severity=ERROR,
    title="two nodes with one name",
    why="""
      `Node ... is not unique`: two graphs were joined by appending nodes, or
      one was appended twice.
    """,
    code_sample="""
      graph_def.node.extend(first.node)
      graph_def.node.extend(second.node)
    """,
    cure="""
      repair keeps one of nodes that are equal. Where they differ nothing
      tells which one a reader means: join the graphs with
      tf.import_graph_def(second, name="second"), which renames.
    """,
    look=_duplicate,
    bad=Example(
      """
      x = Placeholder() {shape=[?,3]}
      x = Placeholder() {shape=[?,3]}
      y = Relu(x)
      """
    ),
    good=Example(_RELU),
  ),
  Rule(
    code="BN305",
    severity=ERROR,
    title="a function that is not in the library",
    why="""
      A node calls a function by name, and the graph came without its library:
      `Function ... is not defined`. Tools that copy nodes one by one often
      forget it.
    """,
    code_sample="""
      frozen = tf.GraphDef()
      frozen.node.extend(graph_def.node)  # and not graph_def.library
    """,
    cure="""
      With the .meta beside the checkpoint, or named with --meta_graph, repair
      puts the function back, and its body in the place of the call. Without,
      the call can be fed instead: --input_node=NODE.
    """,
    look=_function,
    bad=Example(
      """
      x = Placeholder() {shape=[?,3]}
      h = PartitionedCall(x) {Tin=(float), Tout=(float), f=double{}}
      y = Relu(h)
      """,
      checkpoint={"unused": [1.0]},
      training="""
      x = Placeholder() {shape=[?,3]}
      h = PartitionedCall(x) {Tin=(float), Tout=(float), f=double{}}
      y = Relu(h)
      function double(x float) -> (z float = sum:z:0) {
        sum = AddV2(x, x)
      }
      """,
    ),
    good=Example(
      """
      x = Placeholder() {shape=[?,3]}
      h = PartitionedCall(x) {Tin=(float), Tout=(float), f=double{}}
      y = Relu(h)
      function double(x float) -> (z float = sum:z:0) {
        sum = AddV2(x, x)
      }
      """
    ),
  ),
  Rule(
    code="BN306",
    severity=ERROR,
    title="an output on one side of a conditional",
    why="""
      What is computed inside tf.cond exists only when that side is taken.
      An output there has no value at inference, or none for some data, and
      running it fails.
    """,
    code_sample="""
      y = tf.cond(flag, lambda: tf.nn.relu(x, name="y"), lambda: x)
      tf.graph_util.convert_variables_to_constants(sess, graph_def, ["cond/y"])
    """,
    cure="""
      Name the output behind the conditional: its Merge, or what reads it.
    """,
    look=_inside_branch,
    bad=Example(
      """
      x = Placeholder() {shape=[?,3]}
      flag = Const() {value=<bool [] false>}
      side = Switch(x, flag)
      y = Relu(side:1)
      z = Merge(side, y)
      """
    ),
    good=Example(
      """
      x = Placeholder() {shape=[?,3]}
      flag = Const() {value=<bool [] false>}
      side = Switch(x, flag)
      r = Relu(side:1)
      y = Merge(side, r)
      """
    ),
  ),
  Rule(
    code="BN307",
    severity=ERROR,
    title="malformed inputs",
    why="""
      A node's inputs are not what its op takes: a control input before a data
      input, too few or too many of them, or an output that the node it reads
      does not have. TensorFlow refuses to import the graph, with its first
      complaint only.
    """,
    code_sample="""
      del node.input[0]
      node.input.insert(0, "^" + guard)
    """,
    cure="""
      repair puts control inputs where they belong. What was lost it takes
      from the .meta beside the checkpoint, or named with --meta_graph; without
      that, cut behind the node with --input_node.
    """,
    look=_malformed,
    bad=Example(
      """
      x = Placeholder() {shape=[?,3]}
      guard = NoOp()
      y = Relu(^guard, x)
      """
    ),
    good=Example(
      """
      x = Placeholder() {shape=[?,3]}
      guard = NoOp()
      y = Relu(x, ^guard)
      """
    ),
  ),
)
