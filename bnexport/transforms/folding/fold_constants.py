# SPDX-License-Identifier: Apache-2.0
"""Folding of constants: all that follows from them is computed once."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, Tuple

import numpy as np

from bnexport.analysis.shapes import STATED
from bnexport.errors import TransformError, first_line
from bnexport.graph import TensorRef
from bnexport.graph.contexts import Contexts
from bnexport.graph.importing import GROWS, import_graph, most_elements
from bnexport.graph.nodes import (
  DEFERRED,
  constant,
  functions_of,
  static_shape,
  tensor_attr,
  type_attr,
)
from bnexport.model import Model
from bnexport.tf1 import op_def, session, tf1
from bnexport.transforms.folding.kernels import PLAIN
from bnexport.transforms.repair.state_shapes import StateShapes
from bnexport.transforms.tidying.names import protected

_SAME = ("Identity", "StopGradient", "PreventGradient", "Snapshot")
# How often folding begins again where sizes were computed by it.
_MOST_PASSES = 8
_SHAPES = ("Shape", "ShapeN", "Size", "Rank")
_HANDLES = frozenset(
  (tf1.resource.as_datatype_enum, tf1.variant.as_datatype_enum)
)


@dataclasses.dataclass(frozen=True)
class FoldConstants:
  """Replaces nodes that only constants lead to by constants of their names.

  TensorFlow computes them. Shapes of tensors count as constants where
  TensorFlow infers all their sizes. What reads a constant through an Identity
  reads the constant. What a folded node waited for, its constant waits for, so
  that it stays in its branch of a conditional. Constants that nobody reads any
  more go; all else that no output needs stays.

  Never folded: inputs, also those with a default; outputs; variables; ops that
  keep a state or draw random numbers; control flow and calls of functions;
  nodes of functions; ops that are not on the list of those that only compute,
  such as ReadFile; what this TensorFlow does not know or can't run, which is
  said.

  Before: a = Const() {value=<float 1>}   b = Const() {value=<float 2>}
          c = Add(a, b)   y = Mul(x, c)
  After:  c = Const() {value=<float 3>}   y = Mul(x, c)

  Attributes:
    clear_output_shapes: drop the shapes that a metagraph states; they may no
      longer be what TensorFlow infers. Where they stay, no shape is folded.
    exclude_op: ops of which no node is folded.
    exclude_node: nodes that are not folded.
    max_constant_size_in_bytes: what takes more than this is not computed where
      that can be told beforehand, and not kept elsewhere.
  """

  name: ClassVar[str] = "fold_constants"
  clear_output_shapes: bool = True
  exclude_op: Tuple[str, ...] = ()
  exclude_node: Tuple[str, ...] = ()
  max_constant_size_in_bytes: int = 10 << 20

  def apply(self, model: Model) -> List[str]:
    folding = _Folding(model, self)
    if self.clear_output_shapes:
      _clear(model.graph)
      folding.fold_shapes()
      _clear(model.graph)
    folding.fold()
    return folding.told()


def _clear(graph):
  for node in graph:
    node.attr.pop(STATED, None)


class _Folding:
  """The folding of one model.

  Attributes:
    order: what the outputs need, inputs first.
    waits: control inputs that a constant node has to have, by its name.
    left: why a node is not folded, by its name; the ones worth saying.
  """

  def __init__(self, model, options):
    self.model = model
    self.graph = model.graph
    self.options = options
    self.kept = protected(model) | set(options.exclude_node)
    roots = [ref.node for ref in model.outputs] + list(model.initializers)
    self.order = self.graph.topological(self.graph.ancestors(roots))
    self.waits = {}
    self.left = {}
    self.folded = 0
    self.later = set()

  def told(self):
    told = []
    if self.folded:
      told.append(f"folded {self.folded} nodes into constants")
    told += ["left '%s' as it is: %s" % pair for pair in self.left.items()]
    return told

  # Shapes.

  def fold_shapes(self):
    """Turns shapes that TensorFlow infers whole into constants."""
    contexts = Contexts(self.graph, self.order)
    asked = [n for n in self.order if self._can_fold_shape(n, contexts)]
    if not asked:
      return
    StateShapes().apply(self.model)
    for name in asked:
      shapes = [
        static_shape(self.graph, ref) for ref in self.graph.data_inputs(name)
      ]
      values = [_measure(self.graph.op(name), shape) for shape in shapes]
      dtype = self.model.dtype(TensorRef(name)).as_numpy_dtype
      if all(value is not None for value in values):
        self.waits[name] = self.graph.control_inputs(name)
        self._write(name, [dtype(value) for value in values])

  def _can_fold_shape(self, name, contexts):
    node = self.graph.node(name)
    return (
      node.op in _SHAPES
      and node.op not in self.options.exclude_op
      and name not in self.kept
      # A constant would run in all branches.
      and not contexts.is_inside(TensorRef(name))
    )

  # Constants.

  def fold(self):
    for _ in range(_MOST_PASSES):
      before, self.later = self.folded, set()
      self._fold_once()
      if not self.later or self.folded == before:
        break
    self.left.update(
      (name, "its size can't be told before it is computed")
      for name in self.later
    )

  def _fold_once(self):
    self.order = [name for name in self.order if name in self.graph]
    self._find(())
    computed = self._computed()
    if computed:
      imported = self._import(computed)
      self._find(self._too_large(imported, computed))
      for name, values in self._compute(imported):
        self._write(name, values)
    for name in self.order:
      if name in self.graph and self._is_copy(name):
        self._hand_over(name)
    for name in reversed(self.order):
      if (
        name in self.waits
        and name in self.graph
        and name not in self.kept
        and not self.graph.readers(name)
      ):
        self.graph.remove([name])

  def _find(self, refused):
    """Finds the nodes that only constants lead to."""
    self.waits = {}
    for name in self.order:
      node = self.graph.node(name)
      data = self.graph.data_inputs(name)
      if node.op == "Const":
        is_constant = name not in self.kept
      else:
        is_constant = (
          bool(data)
          and name not in refused
          and all(ref.node in self.waits for ref in data)
          and self._can_fold(node)
        )
      if is_constant:
        waits = dict.fromkeys(self.graph.control_inputs(name))
        for ref in data:
          waits.update(dict.fromkeys(self.waits[ref.node]))
        self.waits[name] = list(waits)

  def _can_fold(self, node):
    signatures = self.model.signatures
    return (
      node.name not in self.kept
      and node.op in PLAIN
      and op_def(node.op) is not None
      and not signatures[node.op].is_stateful
      and node.op not in self.options.exclude_op
      and not any(f in self.graph.library for f in functions_of(node))
      and not any(dtype in _HANDLES for dtype in signatures.output_dtypes(node))
      and (not GROWS.search(node.op) or self._is_bounded(node))
    )

  def _is_bounded(self, node):
    """Whether a node that makes much of little makes no more than is kept."""
    sources = []
    for ref in self.graph.data_inputs(node.name):
      source = self.graph.node(ref.node)
      while source.op in _SAME:
        source = self.graph.node(self.graph.inputs(source.name)[0].node)
      is_known = source.op == "Const" and DEFERRED not in source.attr
      sources.append(source.attr["value"].tensor if is_known else None)
    most = most_elements(sources)
    if most is None:
      self.later.add(node.name)  # once its inputs are constants
      return False
    size = most * tf1.as_dtype(self.model.dtype(TensorRef(node.name))).size
    if size > self.options.max_constant_size_in_bytes:
      self.left[node.name] = f"it may take {size} bytes"
      return False
    return True

  def _is_copy(self, name):
    """Whether a node hands on a constant and nothing else."""
    return (
      name in self.waits
      and self.graph.op(name) in _SAME
      and not self.graph.control_inputs(name)
      and self.graph.op(self.graph.inputs(name)[0].node) == "Const"
    )

  def _hand_over(self, name):
    """Lets the readers of a copy read the constant."""
    source = self.graph.inputs(name)[0]
    reads = self.graph.reads(name)
    self.graph.substitute(
      {ref: source._replace(control=ref.control) for ref in reads}
    )
    self.folded += 1

  # Computing.

  def _computed(self):
    """Names of the constant nodes that are neither constants nor copies."""
    copies = {name for name in self.waits if self.graph.op(name) == "Const"}
    found = []
    for name in self.order:
      if name not in self.waits or name in copies:
        continue
      source = self.graph.inputs(name)[0].node
      if (
        self.graph.op(name) in _SAME
        and not self.graph.control_inputs(name)
        and source in copies
      ):
        copies.add(name)
      else:
        found.append(name)
    return found

  def _import(self, names):
    """A tf.Graph with these nodes and what leads to them."""
    part = tf1.GraphDef()
    part.versions.CopyFrom(self.graph.versions)
    for name in self.graph.ancestors(names, control=False):
      node = part.node.add()
      node.CopyFrom(self.graph.node(name))
      node.input[:] = [str(ref) for ref in self.graph.data_inputs(name)]
      node.device = ""
      if DEFERRED in node.attr:
        value = self.model.array(name)
        node.attr["value"].CopyFrom(tensor_attr(value, node.attr["dtype"].type))
      for key in ("_class", STATED, DEFERRED):
        node.attr.pop(key, None)
    try:
      return import_graph(part)
    except (tf1.errors.OpError, ValueError, KeyError, TypeError) as error:
      raise TransformError(
        "fold constants",
        f"TensorFlow does not import them: {first_line(error)}",
        "leave what it names out with exclude_node",
      ) from error

  def _too_large(self, imported, names):
    """Those of the nodes that TensorFlow says are too large to be computed."""
    found = set()
    for name in names:
      for tensor in imported.get_operation_by_name(name).outputs:
        count = tensor.shape.num_elements()
        size = (count or 0) * (tensor.dtype.size or 1)
        if size > self.options.max_constant_size_in_bytes:
          found.add(name)
          self.left[name] = f"it takes {size} bytes"
    return found

  def _wanted(self):
    """Nodes to compute: those that others than constants read."""
    for name in self._computed():
      graph = self.graph
      if any(
        reader not in self.waits
        and any(r.node == name and not r.control for r in graph.inputs(reader))
        for reader in graph.readers(name)
      ) or any(self._is_read_copy(reader) for reader in graph.readers(name)):
        yield name

  def _is_read_copy(self, name):
    return name in self.waits and self.graph.op(name) in _SAME

  def _compute(self, imported):
    """Yields names of nodes with the values of their outputs."""
    with session(imported) as run:
      for name, values in self._run(run, list(self._wanted())):
        size = sum(np.asarray(value).nbytes for value in values)
        if size > self.options.max_constant_size_in_bytes:
          self.left[name] = f"it takes {size} bytes"
        else:
          yield name, values

  def _run(self, run, names):
    """Names with values; what TensorFlow can't compute is left out.

    All at once, since each run of a session looks at the whole graph. What
    fails is looked for by halves.
    """
    if not names:
      return []
    outputs = [run.graph.get_operation_by_name(name).outputs for name in names]
    try:
      return list(zip(names, run.run([list(o) for o in outputs])))
    except (tf1.errors.OpError, ValueError) as error:
      if len(names) == 1:
        self.left[names[0]] = first_line(error)
        return []
    half = len(names) // 2
    return self._run(run, names[:half]) + self._run(run, names[half:])

  def _write(self, name, values):
    """Puts constants in the place of a node's outputs."""
    graph, waits = self.graph, self.waits[name]
    dtypes = self.model.signatures.output_dtypes(graph.node(name))
    self.folded += 1
    if len(values) == 1:
      attrs = {
        "dtype": type_attr(dtypes[0]),
        "value": tensor_attr(values[0], dtypes[0]),
      }
      graph.become(name, "Const", waits, attrs)
      return
    for index, (value, dtype) in enumerate(zip(values, dtypes)):
      ref = TensorRef(name, index)
      readers = graph.readers_of(ref)
      if readers:
        label = f"{name}/folded_{index}"
        made = constant(graph, label, value, dtype, waits)
        graph.substitute({ref: made}, readers)


def _measure(op, shape):
  """The result of Shape, Size or Rank; None where it is not known."""
  if shape is None or (op != "Rank" and -1 in shape):
    return None
  if op == "Rank":
    return len(shape)
  return int(np.prod(shape, dtype=np.int64)) if op == "Size" else list(shape)
