# SPDX-License-Identifier: Apache-2.0
"""Function calls and functional control flow as plain nodes of the graph.

Afterwards one form of conditional (Switch and Merge) and one form of loop
(Enter ... Exit) is left, which every TF1 can read, and nothing is hidden in
the function library. It is what TensorFlow does to a graph before it runs it
(lower_functional_ops.cc), done on the GraphDef.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Dict, List, Set

from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import (
  Signatures,
  called_ops,
  constant,
  functions_of,
  int_attr,
  type_attr,
)
from bnexport.tf1 import tf1

_IFS = ("If", "StatelessIf")
_CASES = ("Case", "StatelessCase")
_WHILES = ("While", "StatelessWhile")


@dataclasses.dataclass(frozen=True)
class InlineFunctions:
  """Replaces calls, If, Case and While by the nodes of their functions.

  Before: function f(a float) -> (b float = n:y:0) { n = Neg(a) }
          c = PartitionedCall(x) {f=f{}, Tout=(float)}   y = Relu(c)
  After:  c/n = Neg(x)   y = Relu(c/n)

  Refuses functions that call themselves, and bodies with ops whose signature
  neither TensorFlow nor the file knows.
  """

  name: ClassVar[str] = "inline_functions"

  def apply(self, model):
    graph = model.graph
    if not graph.library:
      return []
    needed = graph.ancestors(ref.node for ref in model.outputs)
    # What writes variables may hold a norm's moving averages; what only reads
    # gradients is of no use here and need not be understood.
    writers = graph.ancestors(
      node.name
      for node in graph
      if node.op in ops.UPDATES or ops.UPDATES & called_ops(graph, node)
    )
    inliner = _Inliner(graph, model.signatures, model.outputs)
    for name in {**needed, **writers}:
      if name in graph:
        inliner.inline(name, ())
    return inliner.changes


class _Inliner:
  """Inlines calls of one graph; nested ones as they appear."""

  def __init__(self, graph: Graph, signatures: Signatures, outputs):
    self.graph = graph
    self.signatures = signatures
    self.outputs: Dict[str, Set[int]] = {}
    for ref in outputs:
      self.outputs.setdefault(ref.node, set()).add(ref.index)
    self.changes: List[str] = []
    self._added: List[
      str
    ] = []  # calls may be among the nodes of the body just added

  def inline(self, name, stack):
    """Replaces the node `name` where it is a call; `stack`: its callers."""
    node = self.graph.node(name)
    call = self._kind(node)
    if call is None:
      return
    functions = [f for f in functions_of(node) if f in self.graph.library]
    for function in functions:
      if function in stack:
        raise GraphError(
          f"inline function '{function}'",
          "it calls itself",
          "cut it away with --input_node",
        )
    outer, self._added = self._added, []
    self._replace(node, call(node))
    self.changes.append(f"inlined {node.op} '{name}'")
    added, self._added = self._added, outer
    for inner in added:
      self.inline(inner, stack + tuple(functions))

  def _kind(self, node):
    if node.op in self.graph.library or node.op in ops.CALLS:
      return self._call
    if node.op in _IFS:
      return self._if
    if node.op in _CASES:
      return self._case
    return self._while if node.op in _WHILES else None

  def _replace(self, node, outputs):
    """Lets the readers of a call read what its functions return."""
    name, graph = node.name, self.graph
    for i, ref in enumerate(outputs):
      graph.redirect(TensorRef(name, i), ref)
    context = [ref.node for ref in outputs] or [
      ref.node for ref in graph.control_inputs(name)
    ]
    for reader in graph.readers_of(TensorRef(name, 0, True)):
      kept = [
        r for r in graph.inputs(reader) if not (r.control and r.node == name)
      ]
      graph.set_inputs(reader, kept + [TensorRef(c, 0, True) for c in context])
    graph.remove([name])
    if name in self.outputs and outputs:
      self._hand_on(name, outputs)

  def _hand_on(self, name, refs):
    """Adds a node of a call's name that gives what the call gave."""
    dtypes = [self._dtype(ref) for ref in refs]
    if self.outputs[name] == {0}:
      attrs = {"T": type_attr(dtypes[0])}
      self.graph.add("Identity", name, refs[:1], attrs)
      return
    attrs = {"T": tf1.AttrValue(list=tf1.AttrValue.ListValue(type=dtypes))}
    self.graph.add("IdentityN", name, refs, attrs)

  def _dtype(self, ref):
    node = self.graph.node(ref.node)
    return self.signatures.output_dtypes(node)[ref.index]

  # The four kinds of call; each returns the refs its outputs become.

  def _call(self, node):
    function = node.op
    if function in ops.CALLS:
      function = node.attr["f"].func.name
    args = self.graph.data_inputs(node.name)
    pivots = self.graph.control_inputs(node.name)
    if args:
      dtype = self._function(function).signature.input_arg[0].type
      pivots = pivots + [self._identity(node, "pivot", args[0], dtype)]
    return self._body(function, node.name, node.attr, args, pivots)

  def _if(self, node):
    pred, *args = self.graph.data_inputs(node.name)
    pred = self._bool(node, pred, node.attr["Tcond"].type)
    branches = [node.attr["else_branch"].func, node.attr["then_branch"].func]
    prefix = node.name
    on_false, on_true, pivot_f, pivot_t = self._switch(
      prefix, pred, args, node.attr["Tin"].list.type
    )
    results = [
      self._body(func.name, f"{prefix}/{label}", func.attr, taken, [pivot])
      for func, label, taken, pivot in (
        (branches[0], "else", on_false, pivot_f),
        (branches[1], "then", on_true, pivot_t),
      )
    ]
    return self._merge(
      prefix, results[0], results[1], node.attr["Tout"].list.type
    )

  def _case(self, node):
    """A Case is a chain of conditionals; out of range means the last."""
    index, *args = self.graph.data_inputs(node.name)
    functions = list(node.attr["branches"].list.func)
    dtypes = node.attr["Tin"].list.type
    return self._case_from(
      node,
      0,
      index,
      functions,
      args,
      dtypes,
      self.graph.control_inputs(node.name),
    )

  def _case_from(self, node, number, index, functions, args, dtypes, pivots):
    prefix = f"{node.name}/branch_{number}"
    if number == len(functions) - 1:
      return self._body(
        functions[number].name, prefix, functions[number].attr, args, pivots
      )
    graph = self.graph
    number_ref = constant(graph, prefix + "/index", number, tf1.int32, pivots)
    pred = TensorRef(
      graph.add(
        "Equal",
        prefix + "/pred",
        [index, number_ref],
        {"T": type_attr(tf1.int32.as_datatype_enum)},
      ).name
    )
    on_false, on_true, pivot_f, pivot_t = self._switch(
      prefix, pred, [index] + args, [tf1.int32.as_datatype_enum, *dtypes]
    )
    taken = self._body(
      functions[number].name,
      prefix,
      functions[number].attr,
      on_true[1:],
      [pivot_t],
    )
    rest = self._case_from(
      node, number + 1, on_false[0], functions, on_false[1:], dtypes, [pivot_f]
    )
    return self._merge(prefix, rest, taken, node.attr["Tout"].list.type)

  def _while(self, node):
    graph, prefix = self.graph, node.name
    dtypes = list(node.attr["T"].list.type)
    args = graph.data_inputs(node.name)
    cond, body = node.attr["cond"].func, node.attr["body"].func
    constant_args = self._loop_invariants(body.name)
    frame = {
      "frame_name": tf1.AttrValue(s=(prefix + "/while_context").encode()),
      "parallel_iterations": int_attr(node.attr["parallel_iterations"].i or 10),
    }
    enters, merges = [], []
    for i, (arg, dtype) in enumerate(zip(args, dtypes)):
      attrs = dict(
        frame,
        T=type_attr(dtype),
        is_constant=tf1.AttrValue(b=i in constant_args),
      )
      enters.append(
        TensorRef(graph.add("Enter", f"{prefix}/Enter_{i}", [arg], attrs).name)
      )
      merges.append(enters[i])
      if i not in constant_args:
        # The second input is the NextIteration, which is made last.
        merges[i] = TensorRef(
          graph.add(
            "Merge",
            f"{prefix}/Merge_{i}",
            [enters[i], enters[i]],
            {"T": type_attr(dtype), "N": int_attr(2)},
          ).name
        )
    varying = [i for i in range(len(args)) if i not in constant_args]
    pred = self._body(
      cond.name, prefix + "/cond", cond.attr, merges, [merges[varying[0]]]
    )[0]
    loop = TensorRef(graph.add("LoopCond", prefix + "/LoopCond", [pred]).name)
    inside, results = list(merges), list(args)
    for i in varying:
      attrs = {"T": type_attr(dtypes[i])}
      switch = graph.add(
        "Switch", f"{prefix}/Switch_{i}", [merges[i], loop], attrs
      ).name
      inside[i] = TensorRef(
        graph.add(
          "Identity",
          f"{prefix}/Identity_{i}",
          [TensorRef(switch, 1)],
          attrs,
        ).name
      )
      results[i] = TensorRef(
        graph.add(
          "Exit", f"{prefix}/Exit_{i}", [TensorRef(switch, 0)], attrs
        ).name
      )
    returned = self._body(
      body.name, prefix + "/body", body.attr, inside, [inside[varying[0]]]
    )
    for i in varying:
      following = graph.add(
        "NextIteration",
        f"{prefix}/NextIteration_{i}",
        [returned[i]],
        {"T": type_attr(dtypes[i])},
      )
      graph.set_input(merges[i].node, 1, TensorRef(following.name))
    return results

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

  def _switch(self, prefix, pred, args, dtypes):
    graph = self.graph
    boolean = {"T": type_attr(tf1.bool.as_datatype_enum)}
    switch = graph.add("Switch", prefix + "/Switch", [pred, pred], boolean).name
    pivot_f, pivot_t = (
      TensorRef(
        graph.add(
          "Identity",
          f"{prefix}/{label}",
          [TensorRef(switch, side)],
          boolean,
        ).name
      )
      for side, label in ((0, "switch_f"), (1, "switch_t"))
    )
    switches = [
      graph.add(
        "Switch",
        f"{prefix}/Switch_{i + 1}",
        [arg, pred],
        {"T": type_attr(dtype)},
      ).name
      for i, (arg, dtype) in enumerate(zip(args, dtypes))
    ]
    return (
      [TensorRef(s, 0) for s in switches],
      [TensorRef(s, 1) for s in switches],
      pivot_f,
      pivot_t,
    )

  def _merge(self, prefix, on_false, on_true, dtypes):
    return [
      TensorRef(
        self.graph.add(
          "Merge",
          f"{prefix}/Merge_{i}",
          [a, b],
          {"T": type_attr(dtype), "N": int_attr(2)},
        ).name
      )
      for i, (a, b, dtype) in enumerate(zip(on_false, on_true, dtypes))
    ]

  def _bool(self, node, pred, dtype):
    """A predicate of another dtype is true where it is not zero."""
    if not dtype or dtype == tf1.bool.as_datatype_enum:
      return pred
    empty = b"" if dtype == tf1.string.as_datatype_enum else 0
    zero = constant(self.graph, node.name + "/zero", empty, dtype)
    return TensorRef(
      self.graph.add(
        "NotEqual", node.name + "/pred", [pred, zero], {"T": type_attr(dtype)}
      ).name
    )

  def _identity(self, node, label, ref, dtype):
    return TensorRef(
      self.graph.add(
        "Identity", f"{node.name}/{label}", [ref], {"T": type_attr(dtype)}
      ).name,
      0,
      True,
    )

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
    for body_node in fdef.node_def:
      node = self.graph.add(body_node.op, f"{prefix}/{body_node.name}")
      names[body_node.name] = node.name
      self._added.append(node.name)
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
      args = self.graph.library[node.op].signature.output_arg
    else:
      args = self.signatures[node.op].output_arg
    flat = 0
    for arg in args:
      count = 1
      if arg.type_list_attr:
        count = len(node.attr[arg.type_list_attr].list.type)
      elif arg.number_attr:
        count = node.attr[arg.number_attr].i
      for i in range(count):
        refs[f"{name}:{arg.name}:{i}"] = TensorRef(node.name, flat)
        flat += 1
