# SPDX-License-Identifier: Apache-2.0
"""The while loops and the conditionals that nodes run in.

As TF1 writes them: a conditional is Switches and Merges, a loop an Enter, a
Merge, a Switch whose predicate is a LoopCond, a NextIteration and an Exit.
"""

from __future__ import annotations

from typing import (
  Callable,
  Dict,
  FrozenSet,
  Iterable,
  List,
  Optional,
  Set,
  Tuple,
)

from bnexport.errors import GraphError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import AnyType, bool_attr, type_attr
from bnexport.graph.overlay import Overlay
from bnexport.tf1 import tf1

# Frame names of while loops, from the outermost in.
Frame = Tuple[bytes, ...]

# Each node holds the names of all loops around it.
_DEEPEST = 256

_HANDED_ON = ops.IDENTITIES | ops.SWITCHES


class Contexts:
  """The loops around each node, and the sides of conditionals that it is on.

  A side is a pair: the name of the node that computes the predicate, outside
  of the conditionals that it is read in, and True or False.
  """

  def __init__(
    self,
    graph: Graph,
    order: Iterable[str],
    inputs: Optional[Callable[[str], List[TensorRef]]] = None,
  ):
    """Sweeps over the nodes once.

    Args:
      graph: stays as it is.
      order: names of nodes, inputs first; others count as in no context.
      inputs: gives the inputs of a node by its name, where the graph is to be
        read with others than its own, as where predicates are decided.

    Raises:
      GraphError: loops are nested deeper than any that people write.
    """
    self._graph = graph
    self._inputs = inputs or graph.inputs
    self._frames: Dict[str, Frame] = {}
    self._enters: Dict[Frame, tf1.NodeDef] = {}  # the first Enter of each frame
    # Sides are sets of bits, two for each predicate: a nest of conditionals
    # has as many different sets as it has sides.
    self._sides: Dict[str, int] = {}
    self._predicates: Dict[str, int] = {}  # their numbers by name
    self._names: List[str] = []
    # The nodes outside of conditionals that compute predicates.
    self._roots: Dict[str, str] = {}
    self._layers: List[Overlay] = []
    for name in order:
      self.visit(name)

  def laid_over(
    self, again: Set[str], inputs: Callable[[str], List[TensorRef]]
  ) -> Contexts:
    """The same, but for nodes that `visit` is called for.

    Args:
      again: the names of those nodes, before `visit` is called for them.
      inputs: gives the inputs of a node, as they are read here.
    """
    made = Contexts(self._graph, (), inputs)
    made._layers = [
      Overlay(self._frames, again),
      Overlay(self._sides, again),
    ]
    made._frames, made._sides = made._layers  # type: ignore[assignment]
    # What a predicate is computed by, and its number, depend on no reading.
    made._roots = self._roots
    made._predicates, made._names = self._predicates, self._names
    return made

  def settle(self) -> None:
    """Makes the contexts that these are laid over equal to them."""
    for layer in self._layers:
      layer.settle()

  def frame(self, name: str) -> Frame:
    """Frame names from the outermost in; () outside of all loops."""
    return self._frames.get(name, ())

  def sides(self, ref: TensorRef) -> FrozenSet[Tuple[str, bool]]:
    """The sides on which a tensor has a value, as a frozenset.

    Outputs of a Switch are on its sides; the node itself, which a control
    input names, is not.
    """
    bits, found = self._bits(ref), []
    while bits:
      number = (bits & -bits).bit_length() - 1
      found.append((self._names[number // 2], bool(number % 2)))
      bits &= bits - 1
    return frozenset(found)

  def is_inside(self, ref: TensorRef) -> bool:
    """Tells whether a run may leave a tensor out, or compute it repeatedly."""
    return bool(self.frame(ref.node) or self._bits(ref))

  def carry(self, ref: TensorRef, dtype: AnyType, frame: Frame) -> TensorRef:
    """Brings a tensor from outside of all loops into a frame, by new Enters."""
    for depth in range(1, len(frame) + 1):
      like = self._enters[frame[:depth]]
      attrs = {
        key: like.attr[key]
        for key in ("frame_name", "parallel_iterations")
        if key in like.attr
      }
      attrs["T"] = type_attr(dtype)
      attrs["is_constant"] = bool_attr(True)
      ref = TensorRef(
        self._graph.add("Enter", ref.node + "/Enter", [ref], attrs).name
      )
    return ref

  def place(self, ref: TensorRef) -> Tuple[Frame, int]:
    """What a reader's contexts follow from; equal for equal ones."""
    return self.frame(ref.node), self._bits(ref)

  def visit(self, name: str) -> None:
    """Finds the contexts of a node, those of its inputs being known."""
    node = self._graph.node(name)
    # A NextIteration comes after the Merge that it leads to.
    op, frames = node.op, self._frames
    refs = [ref for ref in self._inputs(name) if ref.node in frames]
    frame: Frame = ()
    for ref in refs:
      around = frames[ref.node]
      if len(around) > len(frame):
        frame = around
    if op in ops.ENTERS:
      if len(frame) == _DEEPEST:
        raise GraphError(
          f"tell which loops '{name}' is in",
          f"they are more than {_DEEPEST}, one in another",
          "cut behind them with --input_node",
        )
      frame += (node.attr["frame_name"].s,)
      self._enters.setdefault(frame, node)
    elif op in ops.EXITS:
      frame = frame[:-1]
    frames[name] = frame
    bits = 0
    joined: Optional[int] = None
    for ref in refs:
      if op in ops.MERGES and not ref.control:
        joined = self._bits(ref) & (-1 if joined is None else joined)
      else:
        bits |= self._bits(ref)
    self._sides[name] = bits | (joined or 0)
    if op in _HANDED_ON:
      first = self._graph.data_inputs(name)[:1]
      self._roots.update((name, self._root(ref)) for ref in first)

  def _root(self, ref: TensorRef) -> str:
    """Name of the node outside of conditionals that computes a tensor.

    That is its `origin`, remembered from node to node: in a nest of
    conditionals each Switch would walk through all those around it.
    """
    return self._roots.get(ref.node, ref.node)

  def _bits(self, ref: TensorRef) -> int:
    bits = self._sides.get(ref.node, 0)
    if ref.control or self._graph.op(ref.node) not in ops.SWITCHES:
      return bits
    root = self._root(self._graph.data_inputs(ref.node)[1])
    if self._graph.op(root) == "LoopCond":
      return bits
    if root not in self._predicates:
      self._predicates[root] = len(self._names)
      self._names.append(root)
    return bits | 1 << 2 * self._predicates[root] + bool(ref.index)
