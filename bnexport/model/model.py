# SPDX-License-Identifier: Apache-2.0
"""Model: a graph, the values of its variables, and its ends."""

from __future__ import annotations

import copy
import dataclasses
from typing import (
  Any,
  Callable,
  Dict,
  Iterable,
  Iterator,
  List,
  Optional,
  Tuple,
)

import numpy as np

from bnexport.errors import SourceError, nearest
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import DEFERRED, Signatures, missing_attribute
from bnexport.graph.tensors import array_of
from bnexport.model.changes import Change
from bnexport.model.checkpoint import Values
from bnexport.model.decisions import Decisions
from bnexport.model.request import Request
from bnexport.shown import Shown
from bnexport.tf1 import tf1


@dataclasses.dataclass(frozen=True)
class Served:
  """Tags, signatures, ends and assets of the SavedModel that a graph is from.

  Attributes:
    tags: of the graph.
    signatures: SignatureDefs by name; the tensors they name are among `ends`.
    ends: the inputs and the outputs that the Model had then.
    assets: paths of the SavedModel's files, by the Const that names them.
  """

  tags: Tuple[str, ...]
  signatures: Dict[str, object]
  ends: Tuple[TensorRef, ...]
  assets: Dict[str, str]


def tensor_fields(
  info: tf1.saved_model.TensorInfo,
) -> Iterator[Tuple[Any, str]]:
  """Yields the fields of a TensorInfo that name tensors: message and name."""
  kind = info.WhichOneof("encoding")
  if kind == "coo_sparse":
    for part in ("values", "indices", "dense_shape"):
      yield info.coo_sparse, part + "_tensor_name"
  elif kind == "composite_tensor":
    for part in info.composite_tensor.components:
      yield from tensor_fields(part)
  elif kind == "name":
    yield info, "name"


@dataclasses.dataclass
class Model(Shown):
  """A graph with its values and ends; sources make it, transforms edit it.

  Attributes:
    graph: the graph, edited in place by transforms.
    values: values of the variables by node name; None where all are constant.
    deferred: functions that give the arrays of large constants, by the key
      that their nodes carry: these are read where the graph is written.
    inputs: tensors to feed; empty where every placeholder left is one.
    outputs: tensors whose names and values every transform keeps.
    origin: what the graph was read from, for messages.
    request: what was asked for when it was opened, or None.
    own_run: a Run of the source itself, as it was before it became a graph; or
      None.
    signatures: OpDefs, those the file brings along included.
    input_keys: what a SavedModel's signature calls inputs, by node name.
    output_keys: what it calls the outputs, in their order.
    served: what a SavedModel said that the graph was read from, or None.
    initializers: nodes to keep that a user runs once before the outputs.
    decisions: what transforms decided, for those after them and the proof.
    is_trusted: whether it may be run also where ops reach out of the graph.
    has_training_graph: whether what only training needs is in the graph.
    history: what was done to the graph, a line each.
    warnings: doubts to tell the user about, a line each.
  """

  graph: Graph
  values: Optional[Values]
  inputs: Tuple[TensorRef, ...]
  outputs: Tuple[TensorRef, ...]
  origin: str
  signatures: Signatures
  request: Optional[Request] = None
  own_run: Optional[object] = None
  input_keys: Dict[str, str] = dataclasses.field(default_factory=dict)
  output_keys: Tuple[str, ...] = ()
  deferred: Dict[str, Callable] = dataclasses.field(default_factory=dict)
  served: Optional[Served] = None
  initializers: Tuple[str, ...] = ()
  decisions: Decisions = dataclasses.field(default_factory=Decisions)
  is_trusted: bool = False
  has_training_graph: bool = True
  history: List[Change] = dataclasses.field(default_factory=list)
  warnings: List[str] = dataclasses.field(default_factory=list)

  def clone(self, is_twin: bool = False) -> Model:
    """A Model that can be edited while this one stays as it is.

    Args:
      is_twin: whether its nodes keep their order; else they are sorted.
    """
    made = _copy(self)
    made.graph = self.graph.twin() if is_twin else self.graph.clone()
    made.decisions = _copy(self.decisions)
    made.values = None if self.values is None else _copy(self.values)
    return made

  def needed(self, control: bool = False) -> Dict[str, None]:
    """Names of the nodes whose values the outputs need."""
    return self.graph.ancestors((ref.node for ref in self.outputs), control)

  def array(self, name: str) -> np.ndarray:
    """The array of a Const; one that is deferred is read now."""
    node = self.graph.node(name)
    if DEFERRED in node.attr:
      return self.deferred[node.attr[DEFERRED].s.decode()]()
    return array_of(node.attr["value"].tensor)

  def dtype(self, ref: TensorRef) -> tf1.DType:
    """The tf DType of a tensor."""
    node = self.graph.node(ref.node)
    if "dtype" in node.attr and (
      node.op in ops.VARIABLES
      or node.op in ops.PLACEHOLDERS
      or node.op == "Const"
    ):
      return tf1.as_dtype(node.attr["dtype"].type)
    return tf1.as_dtype(self.signatures.output_dtypes(node)[ref.index])

  def placeholders(self) -> List[str]:
    """The placeholders that the outputs need, in order of execution."""
    needed = self.needed()
    found = [name for name in needed if self.graph.op(name) in ops.PLACEHOLDERS]
    if len(found) > 1:
      order = self.graph.topological(needed)
      found = [n for n in order if self.graph.op(n) in ops.PLACEHOLDERS]
    return found


def _copy(instance: Any) -> Any:
  """A shallow copy whose own lists and dicts are copies too."""
  made = copy.copy(instance)
  for key, value in vars(made).items():
    if isinstance(value, (dict, list)):
      setattr(made, key, copy.copy(value))
  return made


def find_tensors(
  graph: Graph, signatures: Signatures, names: Iterable[str], flag: str
) -> Tuple[TensorRef, ...]:
  """Turns names a user typed into refs; `name` and `name:0` are the same.

  Raises:
    SourceError: a name is not in the graph; the nearest ones are offered.
  """
  refs = []
  for name in names:
    ref = TensorRef.parse(name.strip())
    if ref.node not in graph:
      raise SourceError(
        f"find {flag} '{name}'",
        "the graph has no such node",
        nearest(ref.node, graph.names()),
      )
    node = graph.node(ref.node)
    outputs = ref.index + 1
    if (
      node.op in signatures
      and missing_attribute(node, signatures[node.op]) is None
    ):
      outputs = len(signatures.output_dtypes(node))
    if ref.control or ref.index >= outputs:
      raise SourceError(
        f"use {flag} '{name}'",
        f"node '{ref.node}' ({node.op}) has {outputs} outputs, and this is "
        "none of them",
        "give NODE or NODE:INDEX",
      )
    refs.append(ref)
  return tuple(refs)
