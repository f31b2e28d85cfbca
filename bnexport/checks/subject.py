# SPDX-License-Identifier: Apache-2.0
"""The subject of all rules: a graph, its files and the facts about it."""

from __future__ import annotations

from typing import (
  Any,
  Callable,
  Collection,
  Dict,
  Generic,
  Iterable,
  List,
  Optional,
  Sequence,
  Tuple,
  TypeVar,
)

import numpy as np

from bnexport.analysis import ends
from bnexport.analysis.flow import Flow
from bnexport.analysis.partial_evaluation import PartialEvaluation
from bnexport.analysis.phase import Leaf, find_leaves
from bnexport.batchnorm import norms
from bnexport.batchnorm.norm import BatchNorm
from bnexport.checks.fix import FREEZE, REPAIR, Fix
from bnexport.errors import Error, GraphError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import (
  DEFERRED,
  Signatures,
  constant_value,
  op_histogram,
)
from bnexport.mending import faults, mending
from bnexport.mending.faults import Fault
from bnexport.model import Model, stream
from bnexport.model.checkpoint import Values
from bnexport.model.request import Request
from bnexport.sources.contents import Contents
from bnexport.tf1 import tf1
from bnexport.transforms.inference.decide import at_inference
from bnexport.transforms.inference.inlining import inlined
from bnexport.transforms.repair.thaw_variables import ThawVariables

_T = TypeVar("_T")


class _cached_property(Generic[_T]):
  """A property computed at its first access.

  It is functools.cached_property, which Python 3.7 lacks: the value hides the
  descriptor, since the instance's own attributes come first.
  """

  def __init__(self, method: Callable[[Any], _T]):
    self._method, self.__doc__ = method, method.__doc__

  def __get__(self, instance: Any, owner: Any = None) -> _T:
    value = self._method(instance)
    instance.__dict__[self._method.__name__] = value
    return value


class Subject:
  """A graph under examination. Nothing of it is run.

  Attributes:
    request: the Request, which names its files.
    assets: a SavedModel's files, by the tensor that is fed their paths.
    size: bytes of the graph's file, or None.
    signatures: OpDefs by name.
    faults: the Faults of the file.
    devices: names of nodes, by the device that they are placed on.
    ops: counts of the file's nodes, by op.
    graph: the Graph, its faults mended and its functions inlined; None where
      that fails.
    error: the GraphError of that failure, or None.
    is_frozen: whether the file holds no variables.
    values: Values of the variables, or None.
    target_tf: version of the TensorFlow that is to read it, or None.
  """

  def __init__(
    self,
    contents: Contents,
    request: Request,
    target_tf: Optional[str] = None,
    values: Optional[Values] = None,
  ):
    """Finds the faults of what was read, then opens it.

    Args:
      contents: of sources.read; its GraphDef is taken over.
      request: the Request that it was read for.
      target_tf: a version of TensorFlow, or None.
      values: Values of the variables where they are at hand, or None.
    """
    graph_def, signatures = contents.graph_def, contents.signatures
    self.request, self.assets = request, contents.assets
    self.signatures, self.size = signatures, request.size
    self.target_tf, self._named = target_tf, tuple(contents.outputs)
    self._norms: Dict[Tuple[str, ...], List[BatchNorm]] = {}
    # Of the file as it is: opening it mends the protos.
    self.faults = faults.find(graph_def, signatures)
    self.devices = _devices(graph_def)
    self.ops = op_histogram(graph_def.node, graph_def.library.function)
    self.graph, self.error = _opened(graph_def, signatures, self.faults)
    # Read before _thaw, which makes variables of constants in memory only.
    self.is_frozen = self.graph is None or not any(
      node.op in ops.VARIABLES for node in self.graph
    )
    self.values = self._thaw(contents)
    if values is not None and not self.is_frozen:
      self.values = values

  def _thaw(self, contents: Contents) -> Optional[Values]:
    """Values of the variables, those that freezing made constants included."""
    if self.graph is None:
      return None
    values = Values(
      contents.checkpoint,
      self.graph,
      contents.held,
      contents.saver,
      self.request.scope_map,
    )
    outputs = tuple(TensorRef.parse(name) for name in self._named)
    model = self._model(values, outputs)
    is_thawed = self.is_frozen and ThawVariables().apply(model)
    is_known = is_thawed or contents.checkpoint is not None or contents.held
    return values if is_known else None

  @property
  def _opened(self) -> Graph:
    assert self.graph is not None  # callers ask for that first
    return self.graph

  def _model(
    self, values: Optional[Values], outputs: Tuple[TensorRef, ...]
  ) -> Model:
    return Model(
      graph=self._opened,
      values=values,
      inputs=(),
      outputs=outputs,
      origin="",
      signatures=self.signatures,
    )

  # Facts about the graph.

  @_cached_property
  def flow(self) -> Flow:
    """The graph's Flow."""
    return Flow(self._opened)

  @_cached_property
  def outputs(self) -> Tuple[TensorRef, ...]:
    """TensorRefs of the outputs that were named, or of the likely ones."""
    if self.graph is None:
      return ()
    names = self._named or ends.outputs(self.flow)[:1]
    refs = [TensorRef.parse(name) for name in names]
    return tuple(ref for ref in refs if ref.node in self.graph)

  @_cached_property
  def norms(self) -> List[BatchNorm]:
    """The BatchNorms of the forward pass; see `batchnorm.norms`."""
    if self.graph is None:
      return []
    return self.norms_of(self.flow, [ref.node for ref in self.outputs])

  def norms_of(self, flow: Flow, wanted: Sequence[str]) -> List[BatchNorm]:
    """The BatchNorms of a Flow, as `batchnorm.norms` finds them.

    Args:
      flow: mostly the graph's, of which they are found once.
      wanted: names of the likely outputs.
    """
    if self.graph is None or flow is not self.flow:
      return norms.batch_norms(flow, wanted)
    key = tuple(wanted)
    if key not in self._norms:
      self._norms[key] = norms.batch_norms(flow, wanted)
    return self._norms[key]

  @_cached_property
  def norms_at_inference(self) -> List[BatchNorm]:
    """Those of `norms` that the outputs need once the phase is decided."""
    return [norm for norm in self.norms if self.is_needed(norm.name)]

  @_cached_property
  def health(self) -> Dict[str, Any]:
    """States of the stored statistics, by the norm's name."""
    return {
      norm.name: norms.health_of(self.graph, norm, self.values)
      for norm in self.norms
    }

  @_cached_property
  def model(self) -> Model:
    """The graph with its values and outputs, as transforms take it."""
    return self._model(self.values, self.outputs)

  @_cached_property
  def needed(self) -> Dict[str, None]:
    """Names of the nodes whose values the outputs need."""
    return self.model.needed() if self.graph is not None else {}

  @_cached_property
  def undecided(self) -> List[Leaf]:
    """Leaves of the predicates that choose between training and inference."""
    if not self.outputs:
      return []
    graph = self._opened
    order = graph.topological(graph.ancestors(self.needed))
    evaluation = PartialEvaluation(graph, order, {})
    leaves = find_leaves(self.model, evaluation)
    if not leaves or self.inference is None:
      return leaves
    return [leaf for leaf in leaves if leaf.name in self.inference.known]

  @_cached_property
  def inference(self) -> Optional[PartialEvaluation]:
    """The PartialEvaluation at inference; None where that is unclear."""
    if not self.outputs:
      return None
    try:
      return at_inference(self.model)
    except Error:
      return None

  @_cached_property
  def needed_at_inference(self) -> Collection[str]:
    """Names of the nodes that the outputs need once the phase is decided."""
    if self.inference is None:
      return self.needed
    return self.inference.needed(self.outputs)

  def is_needed(self, name: str) -> bool:
    """Whether the outputs need a node at inference."""
    return name in self.needed_at_inference

  def has_averages(self, norm: BatchNorm) -> bool:
    """Whether these files hold averages of a norm's statistics."""
    if norm.moving_mean is not None:
      return True
    # A training graph names its averages. Of a frozen one they may be in the
    # checkpoint beside it.
    return self.is_frozen and self.request.checkpoint is not None

  def array(self, name: str, largest: int = 1 << 26) -> Optional[np.ndarray]:
    """The value of a constant or variable, or None.

    Args:
      name: of a node.
      largest: the most elements that are read.

    Returns:
      An array; None where there is no value or a larger one.
    """
    if self._opened.op(name) == "Const":
      return constant_value(self._opened, TensorRef(name), largest)
    if self.values is None:
      return None
    shape = self.values.shape(name)
    if shape is None or np.prod(shape, dtype=np.int64) > largest:
      return None
    return self.values[name]

  # Fixes of a finding.

  def fix(
    self, outputs: Optional[Iterable[TensorRef]] = None, **changes: Any
  ) -> Fix:
    """The Fix that exports or mends the graph; `changes` are attributes."""
    return self._fix(self.is_frozen, outputs or self.outputs, changes)

  def mend(self, **changes: Any) -> Fix:
    """The Fix that mends the graph's file; `changes` are attributes."""
    is_file = self.request.kind == "graph_def"
    return self._fix(is_file or self.is_frozen, self.outputs, changes)

  def _fix(
    self, is_repair: bool, outputs: Iterable[TensorRef], changes: Dict[str, Any]
  ) -> Fix:
    # A graph that does not open has no outputs but those the user named.
    named = tuple(map(str, outputs or self._named))
    verb = REPAIR if is_repair else FREEZE
    return Fix(verb, self.request, named, **changes)


def subject_of(
  model: Model, request: Request, target_tf: Optional[str] = None
) -> Subject:
  """The Subject of a Model, which stays as it is.

  Args:
    model: the Model.
    request: the Request that names its files.
    target_tf: a version of TensorFlow, or None.
  """
  graph_def = model.graph.to_graph_def()
  for node in graph_def.node:
    if DEFERRED in node.attr:
      node.CopyFrom(stream.whole(model, node.name))
  contents = Contents(
    graph_def,
    model.signatures,
    model.origin,
    tuple(map(str, model.outputs)),
    checkpoint=None if model.values is None else model.values.checkpoint,
  )
  return Subject(contents, request, target_tf, model.values)


def _devices(graph_def: tf1.GraphDef) -> Dict[str, List[str]]:
  """Names of the nodes that are placed on each device."""
  found: Dict[str, List[str]] = {}
  for node in graph_def.node:
    if node.device:
      found.setdefault(node.device, []).append(node.name)
  return found


def _opened(
  graph_def: tf1.GraphDef, signatures: Signatures, found: List[Fault]
) -> Tuple[Optional[Graph], Optional[GraphError]]:
  """Returns the Graph, mended and inlined, or None and the GraphError."""
  # A missing input is taken as fed, so that all other findings show.
  missing = [
    TensorRef.parse(fault.subject)
    for fault in found
    if fault.kind == faults.DANGLING
  ]
  try:
    mending.mend(graph_def, signatures, inputs=missing, found=found)
    graph = Graph(graph_def, copy=False)
    graph.lint()
  except GraphError as error:
    return None, error
  return inlined(graph, signatures), None
