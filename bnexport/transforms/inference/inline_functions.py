# SPDX-License-Identifier: Apache-2.0
"""Function calls and functional control flow as plain nodes of the graph.

Afterwards one form of conditional (Switch and Merge) and one form of loop
(Enter ... Exit) is left, which every TF1 can read, and nothing is hidden in
the function library. It is what TensorFlow does to a graph before it runs it
(lower_functional_ops.cc), done on the GraphDef.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Dict, List, NamedTuple, Set, Tuple

import numpy as np

from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import (
  Signatures,
  arg_dtypes,
  called_ops,
  functions_of,
  tensor_attr,
  type_attr,
)
from bnexport.model import Model
from bnexport.text import Emitter
from bnexport.tf1 import tf1
from bnexport.transforms.inference.function_calls import (
  DEEPEST,
  MOST_NODES,
  Recursion,
  refuse_many,
)

_IFS = ("If", "StatelessIf")
_CASES = ("Case", "StatelessCase")
_WHILES = ("While", "StatelessWhile")
_TENSORS = "IdentityN"


@dataclasses.dataclass(frozen=True)
class InlineFunctions:
  """Replaces calls, If, Case and While by the nodes of their functions.

  IdentityN, which is what a custom gradient leaves around a function, goes
  like the call of one that returns its arguments.

  Before: function f(a float) -> (b float = n:y:0) { n = Neg(a) }
          c = PartitionedCall(x) {f=f{}, Tout=(float)}   y = Relu(c)
  After:  c/n = Neg(x)   y = Relu(c/n)

  Functions that call themselves are inlined as often as constants say.

  Refuses recursion whose depth depends on data, more than a million nodes,
  calls that are nested more than 500 deep, and bodies with ops whose signature
  neither TensorFlow nor the file knows.

  Attributes:
    control_flow: whether conditionals and loops are inlined, too.
    leaving: nodes that stay calls.
  """

  name: ClassVar[str] = "inline_functions"
  control_flow: bool = True
  leaving: Tuple[str, ...] = ()

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    if not graph.library and all(node.op != _TENSORS for node in graph):
      return []
    needed = graph.ancestors(ref.node for ref in model.outputs)
    # What writes variables may hold a norm's moving averages; what only reads
    # gradients is of no use here and need not be understood.
    writers = graph.ancestors(
      node.name
      for node in graph
      if node.op in ops.UPDATES or ops.UPDATES & called_ops(graph, node)
    )
    refuse_many(graph, {**needed, **writers})
    inliner = _Inliner(graph, model.signatures, model.outputs)
    inliner.inlines_control_flow = self.control_flow
    for name in {**needed, **writers}:
      if name in graph and name not in self.leaving:
        inliner.inline(name)
    return inliner.changes


class _Side(NamedTuple):
  """The operands of one branch of a conditional.

  Attributes:
    args: TensorRefs.
    pivots: control inputs that hold a node in the branch.
  """

  args: List[TensorRef]
  pivots: List[TensorRef]


class _Inliner:
  """Inlines calls of one graph; nested ones as they appear."""

  def __init__(self, graph: Graph, signatures: Signatures, outputs):
    self.graph = graph
    self.signatures = signatures
    self.emitter = Emitter(graph, signatures)
    self.outputs: Dict[str, Set[int]] = {}
    for ref in outputs:
      self.outputs.setdefault(ref.node, set()).add(ref.index)
    self.changes: List[str] = []
    self.inlines_control_flow = True
    self._recursion = Recursion(graph)
    # Nodes of the bodies just added, which may be calls.
    self._added: List[str] = []
    self._count = 0

  def inline(self, name: str) -> None:
    """Replaces the node `name`, where it is a call, and the calls within."""
    calls = [(name, 0)]
    while calls:
      name, depth = calls.pop()
      node = self.graph.node(name)
      call = self._kind(node)
      if call is None:
        continue
      if self._recursion.is_part_of(node):
        if depth and self._recursion.is_dead(name):
          continue  # the conditional around it goes with its predicate
        depth += 1
      if depth > DEEPEST or self._count > MOST_NODES:
        self._refuse_more(node, depth)
      self._added = []
      self._replace(node, call(node))
      self.changes.append(f"inlined {node.op} '{name}'")
      calls += [(inner, depth) for inner in reversed(self._added)]

  def _refuse_more(self, node, depth):
    raise GraphError(
      f"inline function '{functions_of(node)[-1]}'",
      f"it calls itself more than {DEEPEST} times"
      if depth > DEEPEST
      else f"more than {MOST_NODES} nodes come of what was inlined before",
      "cut it away with --input_node",
    )

  def _kind(self, node):
    if node.op in self.graph.library or node.op in ops.CALLS:
      return self._call
    if node.op == _TENSORS and node.name not in self.outputs:
      return self._tensors
    if not self.inlines_control_flow:
      return None
    if node.op in _IFS:
      return self._if
    if node.op in _CASES:
      return self._case
    return self._while if node.op in _WHILES else None

  def _replace(self, node, outputs):
    """Lets the readers of a call read what its functions return."""
    name, graph = node.name, self.graph
    waits = [TensorRef(ref.node, 0, True) for ref in outputs]
    taken = {TensorRef(name, i): ref for i, ref in enumerate(outputs)}
    taken[TensorRef(name, 0, True)] = waits or graph.control_inputs(name)
    graph.substitute(taken)
    graph.remove([name])
    if name in self.outputs and outputs:
      self._hand_on(name, outputs)

  def _hand_on(self, name, refs):
    """Adds a node of a call's name that gives what the call gave."""
    if self.outputs[name] == {0}:
      self.emitter.add("Identity", name, refs[:1])
    else:
      self.emitter.add(_TENSORS, name, refs)

  # The kinds of call; each returns the refs its outputs become.

  def _call(self, node):
    function = node.op
    if function in ops.CALLS:
      function = node.attr["f"].func.name
    args = self.graph.data_inputs(node.name)
    return self._body(function, node.name, node.attr, args, self._waits(node))

  def _tensors(self, node):
    waits = self.graph.control_inputs(node.name)
    refs = self.graph.data_inputs(node.name)
    if not waits:
      return refs
    return [
      self.emitter.emit(
        f"{node.name}/{i}",
        "held = Identity(x, ^waits) {T=$T}",
        x=ref,
        waits=waits,
        T=type_attr(dtype),
      )["held"]
      for i, (ref, dtype) in enumerate(zip(refs, node.attr["T"].list.type))
    ]

  def _waits(self, node):
    """The nodes that bodies without inputs wait for, instead of a call."""
    pivots = self.graph.control_inputs(node.name)
    args = self.graph.data_inputs(node.name)
    if not args:
      return pivots
    dtype = self.signatures.dtype_of(self.graph, args[0])
    made = self.emitter.emit(
      node.name, "pivot = Identity(x) {T=$T}", x=args[0], T=type_attr(dtype)
    )
    return pivots + [made["pivot"]]

  def _if(self, node):
    name = node.name
    pred, *args = self.graph.data_inputs(name)
    if self._recursion.is_part_of(node):
      taken = bool(self._recursion.choice(name, pred))
      return self._branch(
        node, node.attr["then_branch" if taken else "else_branch"].func
      )
    pred = self._bool(node, pred, node.attr["Tcond"].type)
    on_false, on_true = self._sides(
      name, pred, args, node.attr["Tin"].list.type
    )
    results = [
      self._body(func.name, f"{name}/{label}", func.attr, *side)
      for func, label, side in (
        (node.attr["else_branch"].func, "else", on_false),
        (node.attr["then_branch"].func, "then", on_true),
      )
    ]
    return self._merged(name, *results, node.attr["Tout"].list.type)

  def _branch(self, node, func):
    """Inlines the one branch that a conditional takes in every run."""
    args = self.graph.data_inputs(node.name)[1:]
    return self._body(func.name, node.name, func.attr, args, self._waits(node))

  def _case(self, node):
    """A Case is a chain of conditionals; out of range means the last."""
    index, *args = self.graph.data_inputs(node.name)
    waits = self.graph.control_inputs(node.name)
    if self._recursion.is_part_of(node):
      functions = node.attr["branches"].list.func
      taken = int(self._recursion.choice(node.name, index))
      if not 0 <= taken < len(functions):
        taken = len(functions) - 1
      return self._branch(node, functions[taken])
    return self._case_from(node, 0, index, args, waits)

  def _case_from(self, node, number, index, args, waits):
    """Inlines the branches of a Case from a number on; returns its results.

    Args:
      node: the Case.
      number: of the first branch in question.
      index: the branch that is asked for.
      args: what the branches take.
      waits: control inputs that hold what is added where the index is.
    """
    prefix = f"{node.name}/branch_{number}"
    functions = node.attr["branches"].list.func
    func = functions[number]
    if number == len(functions) - 1:
      return self._body(func.name, prefix, func.attr, args, waits)
    pred = self.emitter.emit(
      prefix,
      """
      index = Const(^waits) {value=$number}
      pred = Equal(asked, index)
      """,
      asked=index,
      waits=waits,
      number=np.int32(number),
    )["pred"]
    dtypes = [tf1.int32.as_datatype_enum, *node.attr["Tin"].list.type]
    on_false, on_true = self._sides(prefix, pred, [index, *args], dtypes)
    taken = self._body(
      func.name, prefix, func.attr, on_true.args[1:], on_true.pivots
    )
    rest = self._case_from(
      node, number + 1, on_false.args[0], on_false.args[1:], on_false.pivots
    )
    return self._merged(prefix, rest, taken, node.attr["Tout"].list.type)

  def _while(self, node):
    name, args = node.name, self.graph.data_inputs(node.name)
    cond, body = node.attr["cond"].func, node.attr["body"].func
    invariant = self._loop_invariants(body.name)
    if len(invariant) == len(args):
      invariant -= {0}  # something has to go around
    values = [
      self._enter(node, i, arg, i in invariant) for i, arg in enumerate(args)
    ]
    varying = [i for i in range(len(args)) if i not in invariant]
    pivots = [values[varying[0]]]
    pred = self._body(cond.name, name + "/cond", cond.attr, values, pivots)[0]
    loop = self.emitter.emit(name, "LoopCond = LoopCond(pred)", pred=pred)
    inside, results = list(values), list(args)
    for i in varying:
      text = f"""
        Switch_{i} = Switch(value, loop)
        Identity_{i} = Identity(Switch_{i}:1)
        Exit_{i} = Exit(Switch_{i})
      """
      made = self.emitter.emit(
        name, text, value=values[i], loop=loop["LoopCond"]
      )
      inside[i], results[i] = made[f"Identity_{i}"], made[f"Exit_{i}"]
    pivots = [inside[varying[0]]]
    returned = self._body(body.name, name + "/body", body.attr, inside, pivots)
    for i in varying:
      text = f"NextIteration_{i} = NextIteration(value) {{T=$T}}"
      dtype = type_attr(node.attr["T"].list.type[i])
      made = self.emitter.emit(name, text, value=returned[i], T=dtype)
      self.graph.set_input(values[i].node, 1, made[f"NextIteration_{i}"])
    return results

  def _enter(self, node, i, arg, is_constant):
    """The value of a loop's argument in its frame, in all its turns."""
    text = f"""
      Enter_{i} = Enter(arg) {{T=$T, frame_name=$frame,
        is_constant=$is_constant, parallel_iterations=$parallel}}
    """
    if not is_constant:
      # The second input is the NextIteration, which is made last.
      text += f"Merge_{i} = Merge(Enter_{i}, Enter_{i})"
    made = self.emitter.emit(
      node.name,
      text,
      arg=arg,
      T=type_attr(node.attr["T"].list.type[i]),
      frame=f"{node.name}/while_context".encode(),
      is_constant=is_constant,
      parallel=node.attr["parallel_iterations"].i or 10,
    )
    return made[f"Enter_{i}" if is_constant else f"Merge_{i}"]

  def _loop_invariants(self, function):
    """Positions of the arguments that a loop's body hands on as they are."""
    fdef = self._function(function)
    signature = fdef.signature
    return {
      i
      for i, (arg, out) in enumerate(
        zip(signature.input_arg, signature.output_arg)
      )
      if fdef.ret[out.name] in (arg.name, arg.name + ":0")
    }

  # Parts of conditionals.

  def _sides(self, prefix, pred, args, dtypes):
    """Adds the Switches of a conditional; returns both sides, false first."""
    pivots = self.emitter.emit(
      prefix,
      """
      Switch = Switch(pred, pred) {T=bool}
      switch_f = Identity(Switch)
      switch_t = Identity(Switch:1)
      """,
      pred=pred,
    )
    switches = []
    for i, (arg, dtype) in enumerate(zip(args, dtypes), start=1):
      text = f"Switch_{i} = Switch(arg, pred) {{T=$T}}"
      made = self.emitter.emit(
        prefix, text, arg=arg, pred=pred, T=type_attr(dtype)
      )
      switches.append(made[f"Switch_{i}"])
    return [
      _Side(
        [ref._replace(index=index) for ref in switches],
        [pivots[label]._replace(control=True)],
      )
      for index, label in enumerate(("switch_f", "switch_t"))
    ]

  def _merged(self, prefix, on_false, on_true, dtypes):
    """Adds the Merges of a conditional; returns its results."""
    merges = []
    for i, (a, b, dtype) in enumerate(zip(on_false, on_true, dtypes)):
      text = f"Merge_{i} = Merge(a, b) {{T=$T}}"
      made = self.emitter.emit(prefix, text, a=a, b=b, T=type_attr(dtype))
      merges.append(made[f"Merge_{i}"])
    return merges

  def _bool(self, node, pred, dtype):
    """A predicate of another dtype is true where it is not zero."""
    if not dtype or dtype == tf1.bool.as_datatype_enum:
      return pred
    empty = b"" if dtype == tf1.string.as_datatype_enum else 0
    text = """
      zero = Const(^value) {value=$zero}
      pred = NotEqual(value, zero)
    """
    zero = tensor_attr(empty, dtype)
    return self.emitter.emit(node.name, text, value=pred, zero=zero)["pred"]

  # Function bodies.

  def _function(self, name):
    try:
      return self.graph.library[name]
    except KeyError:
      raise GraphError(
        f"inline function '{name}'",
        "the graph's library does not hold it",
        "give the .meta it comes from",
      ) from None

  def _body(self, function, prefix, attrs, args, pivots):
    """Adds a function's nodes below `prefix`; returns what it returns.

    Args:
      function: name in the library.
      prefix: goes before the names of the new nodes.
      attrs: attributes of the caller, for those a body leaves open.
      args: one ref an input.
      pivots: nodes without data inputs wait for these, so that they live and
        die, and iterate, with the caller.
    """
    fdef = self._function(function)
    names, refs = {}, {}
    for arg, ref in zip(fdef.signature.input_arg, args):
      refs[arg.name] = refs[arg.name + ":0"] = ref
    self._count += len(fdef.node_def)
    for body_node in fdef.node_def:
      node = self.graph.add(body_node.op, f"{prefix}/{body_node.name}")
      names[body_node.name] = node.name
      self._added.append(node.name)
      _set_attributes(node, body_node, prefix, attrs)
      self._name_outputs(body_node.name, node, refs)
    controls = [TensorRef(ref.node, 0, True) for ref in pivots]
    for body_node in fdef.node_def:
      data, waits = [], []
      for text in body_node.input:
        if not text.startswith("^"):
          data.append(refs[text])
        elif text[1:] in names:
          waits.append(TensorRef(names[text[1:]], 0, True))
      is_call = any(f in self.graph.library for f in functions_of(body_node))
      if not data or is_call:
        waits += controls
      self.graph.set_inputs(names[body_node.name], data + waits)
    return [refs[fdef.ret[out.name]] for out in fdef.signature.output_arg]

  def _name_outputs(self, name, node, refs):
    """Maps `node:output:index` of a function body to flat outputs."""
    if node.op in self.graph.library:
      signature = self.graph.library[node.op].signature
    else:
      signature = self.signatures[node.op]
    flat = 0
    for arg in signature.output_arg:
      for i in range(len(arg_dtypes(node, signature, arg))):
        refs[f"{name}:{arg.name}:{i}"] = TensorRef(node.name, flat)
        flat += 1


def _set_attributes(node, body_node, prefix, attrs):
  """Gives a copy of a function's node its attributes; see `_body`."""
  for key, value in body_node.attr.items():
    if key == "_class":
      continue  # names that hold inside the function only
    chosen = attrs[value.placeholder] if value.placeholder else value
    node.attr[key].CopyFrom(chosen)
  if node.op in ops.ENTERS:
    # Two copies of a loop must not share a frame.
    node.attr["frame_name"].s = (
      prefix.encode() + b"/" + node.attr["frame_name"].s
    )
