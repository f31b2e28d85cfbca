# SPDX-License-Identifier: Apache-2.0
"""Only what the outputs need is left."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List, Optional, Tuple

from bnexport.errors import TransformError, nearest
from bnexport.graph import TensorRef
from bnexport.graph.nodes import called_functions, type_attr
from bnexport.model import Model
from bnexport.tf1 import tf1
from bnexport.transforms import spec
from bnexport.transforms.inference.replace_inputs import ReplaceInputs
from bnexport.transforms.spec import Shape


@dataclasses.dataclass(frozen=True)
class StripUnusedNodes:
  """Removes nodes and functions that no output needs.

  An input of the model that is no placeholder becomes one, and what it was
  computed from goes. It keeps its type; its shape is what the graph states,
  with an open batch, unless one is given here. Inputs stay where the outputs
  do not need them.

  Before: y = Relu(x)   z = Neg(x)
  After:  y = Relu(x)

  Refuses a type that is not the input's, a name that is no input, and other
  than one type or one shape for each name.

  Attributes:
    type: of inputs whose op this TensorFlow does not know; float if it is
      left out.
    shape: of all inputs that become placeholders, such as "1,224,224,3";
      -1 or ? is an open size, and "" a scalar.
    names: `name` in a spec, which is repeated: inputs with a type or a shape
      of their own.
    type_for_name: types of `name`, one each.
    shape_for_name: shapes of `name`, one each.
  """

  name: ClassVar[str] = "strip_unused_nodes"
  type: Optional[tf1.DType] = None
  shape: Optional[Shape] = None
  names: Tuple[str, ...] = spec.parameter("name", ())
  type_for_name: Tuple[tf1.DType, ...] = ()
  shape_for_name: Tuple[Shape, ...] = ()

  def apply(self, model: Model) -> List[str]:
    self._refuse_unpaired(model)
    told = self._cut(model)
    graph = model.graph
    roots = [ref.node for ref in model.inputs + model.outputs]
    gone = graph.keep(graph.ancestors(roots + list(model.initializers)))
    called = {f.signature.name for f in called_functions(graph, graph)}
    graph.library = {
      name: f for name, f in graph.library.items() if name in called
    }
    if gone:
      told.append(f"cut {gone} nodes that the outputs do not need")
    return told

  def _refuse_unpaired(self, model):
    if self.names and not (self.type_for_name or self.shape_for_name):
      raise TransformError(
        "strip the graph",
        f"'name={self.names[0]}' is given without a type and a shape",
        "give type_for_name or shape_for_name beside it",
      )
    for key in ("type_for_name", "shape_for_name"):
      given = getattr(self, key)
      if given and len(given) != len(self.names):
        raise TransformError(
          "strip the graph",
          f"{len(given)} '{key}' are given for {len(self.names)} 'name'",
          "repeat them together, one of each",
        )
    for name in self.names:
      if TensorRef.parse(name) not in model.inputs:
        raise TransformError(
          "strip the graph",
          f"'name={name}' is no input of the model",
          nearest(name, map(str, model.inputs), "name it in --inputs"),
        )

  # Inputs that are computed become placeholders.

  def _cut(self, model):
    """Cuts at the model's inputs; returns what was done."""
    graph, told = model.graph, []
    inner = [
      ref
      for ref in model.inputs
      if graph.op(ref.node) not in ("Placeholder", "PlaceholderV2")
    ]
    if not inner:
      return told
    for ref in inner:
      told += self._check_type(model, ref)
    before = model.inputs
    told += ReplaceInputs().apply(model)
    replaced = dict(zip(before, model.inputs))
    for ref in inner:
      shape = self._given(ref, self.shape_for_name, self.shape)
      if shape is not None:
        node = graph.node(replaced[ref].node)
        node.attr["shape"].shape.CopyFrom(shape.as_proto())
    _forget_shapes(graph, [replaced[ref].node for ref in inner])
    return told

  def _check_type(self, model, ref):
    """Compares what is given for an input with what it is."""
    node = model.graph.node(ref.node)
    own = self._given(ref, self.type_for_name, None)
    given = own or self.type
    if node.op not in model.signatures and ref.index == 0:
      dtype = given or tf1.float32
      attrs = {"dtype": type_attr(dtype)}
      told = (
        f"cut at '{ref}' ({node.op}): it is fed as a placeholder of "
        f"{dtype.name}"
      )
      model.graph.become(ref.node, "Placeholder", (), attrs)
      return [told]
    dtype = model.dtype(ref)
    if own not in (None, dtype):
      raise TransformError(
        f"make input '{ref}' ({node.op}) a placeholder of {own.name}",
        f"its readers take {dtype.name}",
        "give that type",
      )
    if given not in (None, dtype):
      return [f"input '{ref}' stays {dtype.name}: its readers take that"]
    return []

  def _given(self, ref, values, otherwise):
    """The value for an input by its name, else for all."""
    for own, value in zip(self.names, values):
      if TensorRef.parse(own) == ref:
        return value
    return otherwise


def _forget_shapes(graph, names):
  """Drops the shapes that a metagraph states behind nodes.

  TensorFlow imports no graph in which they are not what it infers.
  """
  seen = dict.fromkeys(names)
  stack = list(seen)
  while stack:
    name = stack.pop()
    graph.node(name).attr.pop("_output_shapes", None)
    for reader in graph.readers(name):
      if reader not in seen:
        seen[reader] = None
        stack.append(reader)
