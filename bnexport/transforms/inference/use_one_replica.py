# SPDX-License-Identifier: Apache-2.0
"""A program for a TPU as what one of its replicas computes."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.errors import TransformError
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import constant_value, tensor_attr
from bnexport.graph.variables import variable_of
from bnexport.model import Model
from bnexport.text import Emitter

# They compile, place and report, and compute nothing.
_BESIDE = frozenset(
  (
    "TPUReplicateMetadata",
    "TPUCompilationResult",
    "_TPUCompile",
    "ConfigureDistributedTPU",
    "ShutdownDistributedTPU",
  )
)
_IN, _OUT = "TPUReplicatedInput", "TPUReplicatedOutput"


@dataclasses.dataclass(frozen=True)
class UseOneReplica:
  """Makes ops that join the replicas of a TPU what they are for one of them.

  TensorFlow writes the body once for all. Each replica is taken to see the
  same batch, so that a sum over replicas is their number times the summand.

  Before: r = TPUReplicatedInput(x) {T=float}
          g = Const() {value=<int32 [1,2] 0 1>}
          s = CrossReplicaSum(r, g) {T=float}
          y = TPUReplicatedOutput(s) {T=float, num_replicas=2}
  After:  r = Identity(x)   s/replicas = Const(^r) {value=<float 2>}
          s = Mul(r, s/replicas)   y = Identity(s)

  Refuses replicas that are fed parts of a batch, where no part is cut out.
  """

  name: ClassVar[str] = "use_one_replica"

  def apply(self, model: Model) -> List[str]:
    graph, emitter = model.graph, Emitter(model.graph, model.signatures)
    changed, replicas = 0, 0
    for node in graph:
      if node.op == "TPUReplicateMetadata":
        replicas = node.attr["num_replicas"].i
    needed = model.needed()
    for node in list(graph):
      name = node.name
      waits = graph.control_inputs(name)
      if node.op in _BESIDE:
        graph.become(name, "NoOp", waits, {})
        if any(not ref.control for ref in graph.reads(name)):
          raise TransformError(
            f"export '{name}'",
            "it tells of the compiler of a TPU, and its value is read",
            "cut behind it with --input_node",
          )
      elif node.op == _IN:
        source = _same_for_all(graph, name, name in needed)
        graph.become(name, "Identity", [source, *waits], {"T": node.attr["T"]})
      elif node.op == _OUT:
        outputs = {ref for ref in graph.reads(name) if ref.index}
        graph.substitute({ref: TensorRef(name) for ref in outputs})
        model.outputs = tuple(
          TensorRef(name) if ref.node == name else ref for ref in model.outputs
        )
        graph.become(
          name, "Identity", graph.inputs(name), {"T": node.attr["T"]}
        )
      elif node.op == "CrossReplicaSum":
        _sum(graph, emitter, name, replicas)
      else:
        continue
      changed += 1
    if not changed:
      return []
    return [f"made {changed} ops of a TPU what they are for one replica"]


def _same_for_all(graph: Graph, name: str, is_needed: bool) -> TensorRef:
  """The first replica's tensor, if all of them read that one.

  Variables may be mirrored; their values are the same.
  """
  refs = graph.data_inputs(name)
  others = [
    ref for ref in refs if ref != refs[0] and variable_of(graph, ref) is None
  ]
  if others and is_needed:
    raise TransformError(
      f"take one replica for '{name}'",
      f"each replica has data of its own there: '{refs[0]}' and '{others[0]}'",
      f"pass --input_node={name} to feed one replica",
    )
  return refs[0]


def _sum(graph: Graph, emitter: Emitter, name: str, replicas: int) -> None:
  """Replaces a sum over replicas by their number times the summand."""
  x, *groups = graph.data_inputs(name)
  if groups:
    value = constant_value(graph, groups[0])
    # The first programs for TPUs stated no groups: they add up all.
    replicas = value.shape[1] if value is not None and value.ndim == 2 else 0
  if not replicas:
    raise TransformError(
      f"take one replica for '{name}'",
      "how many replicas it adds up is no constant of the graph",
      "cut behind it with --input_node",
    )
  text = "replicas = Const(^x) {value=$count}   y = Mul(x, replicas)"
  count = tensor_attr(replicas, graph.node(name).attr["T"].type)
  emitter.become(name, text, x=x, count=count)
