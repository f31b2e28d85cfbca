# SPDX-License-Identifier: Apache-2.0
"""Whether a node may be removed together with its only reader."""

from __future__ import annotations

from bnexport.graph import TensorRef, ops
from bnexport.transforms.tidying.names import protected


class Uses:
  """The uses of a model's nodes: their readers, and the model's own ends.

  Made once for all the nodes that a transform rewrites.
  """

  def __init__(self, model):
    self._graph = model.graph
    self._protected = protected(model)
    self._has_loops = any(node.op in ops.ENTERS for node in model.graph)

  def is_inner(self, name, reader):
    """Whether nobody but `reader` sees a node, so that it may go with it."""
    return self._graph.readers(name) == [reader] and name not in self._protected

  def remove_unread(self, names):
    """Removes those of `names` that nobody reads, and what only they read.

    Placeholders stay, whoever feeds them.
    """
    graph, stack = self._graph, list(names)
    while stack:
      name = stack.pop()
      if (
        name in graph
        and name not in self._protected
        and not graph.readers(name)
        and graph.op(name) not in ops.PLACEHOLDERS
      ):
        stack.extend(ref.node for ref in graph.inputs(name))
        graph.remove([name])

  def beside(self, ref):
    """Control inputs that put a constant into the frame of a tensor.

    None are needed where the graph has no loop: a constant is worth most when
    nothing hides that it is one.
    """
    return [TensorRef(ref.node, 0, True)] if self._has_loops else []


def controls(graph, *names):
  """The control inputs of several nodes, as of one that takes their place."""
  return [ref for name in names for ref in graph.control_inputs(name)]
