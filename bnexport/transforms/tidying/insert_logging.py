# SPDX-License-Identifier: Apache-2.0
"""Values are printed to stderr as they are computed."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, Tuple

from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import int_attr
from bnexport.mending.faults import gives_reference
from bnexport.model import Model
from bnexport.text import Emitter
from bnexport.tf1 import tf1

_SUFFIX = "__print__"


@dataclasses.dataclass(frozen=True)
class InsertLogging:
  """Puts a Print behind nodes whose first output is read.

  It prints all outputs of the node that are read, and has the node's name
  with `__print__` behind it. Where neither ops nor prefixes are given, all
  nodes get one. References and handles, control flow, functions' nodes, and
  constants of whole numbers are left out: an axis or a size has to be a
  constant for shapes to be known. These are printed where op=Const says so.

  With:   insert_logging(op=Neg)
  Before: a = Neg(x)   y = Relu(a)
  After:  a = Neg(x)   a__print__ = Print(a, a)   y = Relu(a__print__)

  Attributes:
    op: ops of the nodes to print.
    prefix: beginnings of the names of the nodes to print.
    show_op: put the op before each line, as `;OP;`.
    show_name: put the Print's name before each line, as `;NAME;`.
    message: put this before each line.
    first_n: how many lines to print of a node; -1 for all.
    summarize: how many elements to print of a tensor.
  """

  name: ClassVar[str] = "insert_logging"
  op: Tuple[str, ...] = ()
  prefix: Tuple[str, ...] = ()
  show_op: bool = False
  show_name: bool = False
  message: str = ""
  first_n: int = -1
  summarize: int = 1024

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    chosen = [node for node in graph if self._is_chosen(graph, node)]
    printed = sum(self._print(model, node) for node in chosen)
    return [f"put a Print behind {printed} nodes"] if printed else []

  def _is_chosen(self, graph, node):
    return (
      (node.op in self.op if self.op else not _may_be_size(node))
      and (not self.prefix or node.name.startswith(self.prefix))
      # A Print would get between what belongs together; of a Switch, one side
      # is never there to be printed.
      and node.op not in ops.CONTROL_FLOW
      and not (node.op == "Print" and node.name.endswith(_SUFFIX))
      and node.name + _SUFFIX not in graph
    )

  def _print(self, model, node):
    """Puts a Print behind one node; returns whether it did."""
    graph, out = model.graph, TensorRef(node.name)
    reads = graph.reads(node.name)
    if out not in reads:
      return False
    dtypes = model.signatures.output_dtypes(node)
    read = [
      ref.index
      for ref in reads
      if not ref.control and _is_value(model, node, dtypes, ref.index)
    ]
    if 0 not in read:
      return False
    message = self.message
    if self.show_name:
      message = f";{node.name + _SUFFIX};{message}"
    if self.show_op:
      message = f";{node.op};{message}"
    readers = graph.readers_of(out)
    made = Emitter(graph, model.signatures).add(
      "Print",
      node.name + _SUFFIX,
      [out] + [TensorRef(node.name, i) for i in read],
      {
        "message": tf1.AttrValue(s=message.encode()),
        "first_n": int_attr(self.first_n),
        "summarize": int_attr(self.summarize),
      },
    )
    graph.substitute({out: made}, readers)
    return True


def _may_be_size(node):
  """Whether a node is a constant that the shape of a tensor may hang on."""
  return node.op == "Const" and tf1.as_dtype(node.attr["dtype"].type).is_integer


def _is_value(model, node, dtypes, index):
  """Whether an output can be printed."""
  return dtypes[index] not in (tf1.resource, tf1.variant) and not (
    gives_reference(node, model.signatures, index)
  )
