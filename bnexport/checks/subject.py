# SPDX-License-Identifier: Apache-2.0
"""What rules look at: a graph and what is known of it, each told once."""

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
  Tuple,
  TypeVar,
)

import numpy as np

from bnexport.analysis import ends
from bnexport.analysis.flow import Flow
from bnexport.analysis.partial_evaluation import Evaluation
from bnexport.analysis.phase import Leaf, find_leaves
from bnexport.batchnorm import norms
from bnexport.batchnorm.norm import BatchNorm
from bnexport.errors import Error, GraphError
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value, op_histogram
from bnexport.mending import faults, mending
from bnexport.model import Model
from bnexport.model.checkpoint import Values
from bnexport.model.request import Request
from bnexport.sources.contents import Contents
from bnexport.tf1 import tf1
from bnexport.transforms.inference.decide import at_inference
from bnexport.transforms.inference.inlining import inlined
from bnexport.transforms.repair.thaw_variables import ThawVariables

_T = TypeVar("_T")


class _once(Generic[_T]):
  """A property that is worked out at the first look."""

  def __init__(self, method: Callable[[Any], _T]):
    self._method = method

  def __get__(self, subject: Any, owner: Any = None) -> _T:
    value = self._method(subject)
    # Python looks there first from now on.
    subject.__dict__[self._method.__name__] = value
    return value


class Subject:
  """A graph under examination. Nothing of it is run.

  Attributes:
    request: what was asked for: the files it comes from.
    assets: a SavedModel's files, by the tensor that is fed their paths.
    size: bytes of the graph's file, or None.
    signatures: OpDefs by name.
    faults: what is malformed in the file.
    devices: names of the nodes that are placed on each device.
    ops: how often each op is there, in the file as it is.
    graph: the Graph, its faults mended and its functions inlined; None where
      that can't be.
    error: why it can't be, or None.
    is_frozen: whether the file holds no variables.
    values: values of the variables, or None.
    target_tf: the TensorFlow that is to read the graph, or None.
  """

  def __init__(
    self,
    contents: Contents,
    request: Request,
    target_tf: Optional[str] = None,
    values: Optional[Values] = None,
  ):
    """Looks at what was read as it is, then opens it.

    Args:
      contents: of sources.read; its GraphDef is taken over.
      request: the Request that it was read for.
      target_tf: a version of TensorFlow, or None.
      values: Values of the variables where they are at hand, or None.
    """
    graph_def, signatures = contents.graph_def, contents.signatures
    self.request, self.assets = request, contents.assets
    self.size = request.size
    self.signatures = signatures
    self.target_tf = target_tf
    self.faults = faults.find(graph_def, signatures)
    self.devices: Dict[str, List[str]] = {}
    self.ops = op_histogram(graph_def.node, graph_def.library.function)
    for node in graph_def.node:
      if node.device:
        self.devices.setdefault(node.device, []).append(node.name)
    self.error: Optional[GraphError] = None
    self._named = tuple(contents.outputs)
    self.graph = self._open(graph_def)
    # Read before _thaw, which turns constants back into variables in memory.
    self.is_frozen = self.graph is None or not any(
      node.op in ops.VARIABLES for node in self.graph
    )
    self.values = self._thaw(contents)
    if values is not None and not self.is_frozen:
      self.values = values

  def _open(self, graph_def: tf1.GraphDef) -> Optional[Graph]:
    # What is missing is looked at as if it were fed, so that all else shows.
    missing = [
      TensorRef.parse(fault.subject)
      for fault in self.faults
      if fault.kind == faults.DANGLING
    ]
    try:
      mending.mend(
        graph_def, self.signatures, inputs=missing, found=self.faults
      )
      graph = Graph(graph_def, copy=False)
      graph.lint()
    except GraphError as error:
      self.error = error
      return None
    return inlined(graph, self.signatures)

  def _thaw(self, contents: Contents) -> Optional[Values]:
    """Values of the variables, those that freezing made constants included."""
    if self.graph is None:
      return None
    values = Values(contents.checkpoint, self.graph, contents.held)
    model = Model(
      graph=self.graph,
      values=values,
      inputs=(),
      outputs=tuple(TensorRef.parse(name) for name in self._named),
      origin="",
      signatures=self.signatures,
    )
    is_thawed = self.is_frozen and ThawVariables().apply(model)
    is_known = is_thawed or contents.checkpoint is not None or contents.held
    return values if is_known else None

  # What is in the graph.

  @property
  def _opened(self) -> Graph:
    assert self.graph is not None  # one asks for that first
    return self.graph

  @_once
  def flow(self) -> Flow:
    return Flow(self._opened)

  @_once
  def outputs(self) -> Tuple[TensorRef, ...]:
    """TensorRefs of the outputs that were named, or of the likely ones."""
    if self.graph is None:
      return ()
    names = self._named or ends.outputs(self.flow)[:1]
    refs = [TensorRef.parse(name) for name in names]
    return tuple(ref for ref in refs if ref.node in self.graph)

  @_once
  def norms(self) -> List[BatchNorm]:
    """The batch norms of the forward pass, as `inspection.norms` tells."""
    if self.graph is None:
      return []
    return norms.batch_norms(self.flow, [ref.node for ref in self.outputs])

  @_once
  def health(self) -> Dict[str, Any]:
    """States of the stored statistics, by the norm's name."""
    return {
      norm.name: norms.health_of(self.graph, norm, self.values)
      for norm in self.norms
    }

  @_once
  def model(self) -> Model:
    """The graph with its values and outputs, as transforms take it."""
    return Model(
      graph=self._opened,
      values=self.values,
      inputs=(),
      outputs=self.outputs,
      origin="",
      signatures=self.signatures,
    )

  @_once
  def needed(self) -> Dict[str, None]:
    """Names of the nodes whose values the outputs need."""
    return self.model.needed() if self.graph is not None else {}

  @_once
  def undecided(self) -> List[Leaf]:
    """Leaves of the predicates that choose between training and inference."""
    if not self.outputs:
      return []
    graph = self._opened
    order = graph.topological(graph.ancestors(self.needed))
    evaluation = Evaluation(graph, order, {})
    leaves = find_leaves(self.model, evaluation)
    if not leaves or self.inference is None:
      return leaves
    return [leaf for leaf in leaves if leaf.name in self.inference.known]

  @_once
  def inference(self) -> Optional[Evaluation]:
    """The Evaluation of the graph at inference; None where it can't be told."""
    if not self.outputs:
      return None
    try:
      return at_inference(self.model)
    except Error:
      return None

  @_once
  def needed_at_inference(self) -> Collection[str]:
    """Names of the nodes that the outputs need once the phase is decided."""
    if self.inference is None:
      return self.needed
    return self.inference.needed(self.outputs)

  def is_needed(self, name: str) -> bool:
    """Whether a node has a part in the answers at inference."""
    return name in self.needed_at_inference

  def has_averages(self, norm: BatchNorm) -> bool:
    """Whether what a norm averages is in these files, as far as looks go."""
    if norm.moving_mean is not None:
      return True
    # Beside a frozen graph; what a training graph averages is told by it.
    return self.is_frozen and self.request.checkpoint is not None

  def array(self, name: str, largest: int = 1 << 26) -> Optional[np.ndarray]:
    """The value of a constant or variable; None where it isn't at hand.

    Args:
      name: of a node.
      largest: of more elements than this, none is read.
    """
    if self._opened.op(name) == "Const":
      return constant_value(self._opened, TensorRef(name), largest)
    if self.values is None:
      return None
    shape = self.values.shape(name)
    if shape is None or np.prod(shape, dtype=np.int64) > largest:
      return None
    return self.values[name]

  # What to do about it.

  def fix(
    self, *flags: str, outputs: Optional[Iterable[TensorRef]] = None
  ) -> str:
    """A command that exports or mends the graph, with more flags."""
    return self._command(self.is_frozen, outputs or self.outputs, flags)

  def mend(self, *flags: str) -> str:
    """A command that mends the graph's file, with more flags."""
    is_file = self.request.kind == "graph_def"
    return self._command(is_file or self.is_frozen, self.outputs, flags)

  def _command(
    self, is_repair: bool, outputs: Iterable[TensorRef], flags: Iterable[str]
  ) -> str:
    # Of a graph that does not open, only what the user named is known.
    named = ",".join(map(str, outputs or self._named)) or "OUTPUT"
    return self.request.command(
      "repair" if is_repair else "freeze", f"--output_node={named}", *flags
    )
