"""Shapes are written where the file states none."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from bnexport.nodes import element_count, type_attr
from bnexport.tf1 import tf1

# Shape inference reads the values of small constants, such as axes.
_LARGEST = 1024
_SHAPES = "_output_shapes"


@dataclasses.dataclass(frozen=True)
class StateShapes:
  """Gives nodes the `_output_shapes` that Saver writes into a metagraph.

  TensorFlow infers them when it imports the graph; nothing of it is run.
  Where it does not take the graph, or shapes are stated, nothing changes.

  Before: x = Placeholder() {shape=[?,3]}   y = Relu(x)
  After:  x = Placeholder() {shape=[?,3]}   y = Relu(x)
  """

  name: ClassVar[str] = "state_shapes"

  def apply(self, model):
    graph = model.graph
    if any(_SHAPES in node.attr for node in graph):
      return []
    imported = tf1.Graph()
    try:
      with imported.as_default():
        tf1.import_graph_def(_skeleton(model), name="")
    except (tf1.errors.OpError, ValueError, KeyError, TypeError):
      return []  # it can be looked at without
    for operation in imported.get_operations():
      shapes = graph.node(operation.name).attr[_SHAPES].list
      shapes.shape.extend(o.shape.as_proto() for o in operation.outputs)
    return []


def _skeleton(model):
  """What the outputs need, with placeholders for large constants."""
  graph = model.graph
  skeleton = tf1.GraphDef()
  skeleton.library.function.extend(graph.library.values())
  skeleton.versions.CopyFrom(graph.versions)
  for name in model.needed(control=True):
    node = graph.node(name)
    tensor = node.attr["value"].tensor if node.op == "Const" else None
    if tensor is None or element_count(tensor) <= _LARGEST:
      skeleton.node.add().CopyFrom(node)
      continue
    holder = skeleton.node.add()
    holder.name, holder.op = name, "Placeholder"
    holder.attr["dtype"].CopyFrom(type_attr(tensor.dtype))
    holder.attr["shape"].shape.CopyFrom(tensor.tensor_shape)
  return skeleton
