# SPDX-License-Identifier: Apache-2.0
"""Nodes and functions of other graphs, added to a Graph under new names."""

from __future__ import annotations

from typing import Collection, Dict, Iterable, List, Mapping

from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef
from bnexport.tf1 import FunctionDef, tf1


def add_functions(graph: Graph, functions: Iterable[FunctionDef]) -> List[str]:
  """Adds functions to the library; returns the names of the new ones."""
  new = {}
  for function in functions:
    name = function.signature.name
    if graph.library.get(name, function) != function:
      raise GraphError(
        "splice",
        f"the graph and the piece have different functions '{name}'",
        "rename one where the piece is made",
      )
    if name not in graph.library:
      new[name] = function
  graph.library.update(new)
  return list(new)


def add_copies(
  target: Graph,
  nodes: Collection[tf1.NodeDef],
  scope: str,
  given: Mapping[TensorRef, TensorRef],
  without: Collection[TensorRef] = (),
) -> Dict[str, str]:
  """Adds copies of NodeDefs; returns their new names by the old ones.

  They read each other's copies. `given` says what is read instead of other
  tensors; what is in `without` is not read.
  """
  named = {}
  for node in nodes:
    made = target.add(node.op, below(scope, node.name), (), node.attr)
    named[node.name] = name = made.name
    made.CopyFrom(node)
    made.name = name
    del made.input[:]
  for node in nodes:
    # Only now: in a loop, a node reads one that comes later.
    refs = map(TensorRef.parse, node.input)
    target.set_inputs(
      named[node.name],
      [moved(ref, named, given) for ref in refs if ref not in without],
    )
    target.place(
      named[node.name], lambda n: moved(TensorRef(n), named, given).node
    )
  return named


def moved(
  ref: TensorRef,
  named: Mapping[str, str],
  given: Mapping[TensorRef, TensorRef],
) -> TensorRef:
  """The tensor that a copy reads where its original reads `ref`."""
  if ref in given:
    return given[ref]
  if ref.node in named:
    return ref._replace(node=named[ref.node])
  return ref


def below(scope: str, name: str) -> str:
  return f"{scope.rstrip('/')}/{name}" if scope else name
