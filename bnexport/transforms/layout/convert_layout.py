# SPDX-License-Identifier: Apache-2.0
"""An NCHW graph, so that it runs where only NHWC kernels are."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import called_functions
from bnexport.model import Model
from bnexport.transforms.layout import rules
from bnexport.transforms.layout.views import Twins


@dataclasses.dataclass(frozen=True)
class ConvertLayout:
  """Turns convolutions, pooling and norms to NHWC; what is between follows.

  Transposes are left where NCHW data comes in, goes out, or meets an op that
  is about the order of its elements, such as a flattening Reshape. Inputs and
  outputs keep their names, shapes and values.

  Before: c = Conv2D(x, w) {data_format="NCHW"}   r = Relu(c)   y = Identity(r)
  After:  x/NHWC = Transpose(x, x/NHWC/perm)
          c = Conv2D(x/NHWC, w) {data_format="NHWC"}   r = Relu(c)
          y/NHWC = Identity(r)   y = Transpose(y/NHWC, y/NCHW/perm)

  Refuses ops that state NCHW and that it does not know, or that lie in a
  function; a BiasAdd of an input whose rank is not known; another target.
  Run first: inline_functions, remove_side_effects.

  Attributes:
    data_format: "NHWC".
  """

  name: ClassVar[str] = "convert_layout"
  data_format: str = "NHWC"

  def apply(self, model: Model) -> List[str]:
    if self.data_format != "NHWC":
      raise TransformError(
        f"convert the layout to '{self.data_format}'",
        "only NHWC runs everywhere",
        "pass data_format=NHWC",
      )
    return _Conversion(model).run()


class _Conversion(Twins):
  """The conversion of one model."""

  def run(self):
    turned = self._channels_first_nodes()
    if not turned:
      return []
    for name in self.order:
      node = self.graph.node(name)
      rule = self._rule(node)
      if rule is None or not rule(self, node):
        self.read_channels_first(node)
    self._serve_strangers()
    self._restore_outputs()
    for name in self.rewritten:
      self.graph.node(name).attr.pop("_output_shapes", None)
    transposes = sum(
      self.graph.op(name) == "Transpose"
      for name in self.model.needed(control=True)
    )
    return [
      f"turned {len(turned)} ops to NHWC; {transposes} transposes are left"
    ]

  def _rule(self, node):
    if node.name in self.fed:
      return None
    if rules.is_channels_first(node):
      return rules.turn
    # The two sides of a Switch can't be asked for under one name.
    if node.op in ops.SWITCHES and any(
      ref.node == node.name for ref in self.model.outputs
    ):
      return None
    if (
      node.op == "Transpose"
      or node.name in self.loops
      or any(ref in self.rank for ref in self.graph.data_inputs(node.name))
    ):
      return rules.FOLLOWERS.get(node.op)
    return None

  # What can't be turned, said before anything is changed.

  def _channels_first_nodes(self):
    """Names of the nodes to turn; raises where one can't be."""
    found = []
    for name in self.order:
      node = self.graph.node(name)
      inner = _channels_first_in_functions(self.graph, node)
      if inner is not None:
        raise TransformError(
          f"turn node '{name}' to NHWC",
          f"it calls a function whose node '{inner}' is NCHW",
          "run inline_functions first",
        )
      if rules.is_channels_first(node) and name not in self.fed:
        self._check(node)
        found.append(name)
    return found

  def _check(self, node):
    if not rules.is_known(node):
      raise TransformError(
        f"turn node '{node.name}' to NHWC",
        f"its op '{node.op}' with "
        f"data_format={node.attr['data_format'].s.decode()} has no rule",
        "export with the layout it was trained in",
      )
    if rules.rank_of_data(self, node) is None:
      raise TransformError(
        f"turn node '{node.name}' to NHWC",
        "the rank of its input is not known, or not what the op takes",
        "export from the .meta that Saver.save wrote, or give the "
        "placeholder a shape with --input",
      )

  # Whoever reads a tensor from outside reads what it was.

  def _serve_strangers(self):
    """Training nodes that are not cut yet may read tensors of the model."""
    members = set(self.order)
    for ref in list(self.turned):
      strangers = [
        reader
        for reader in self.graph.readers_of(ref)
        if reader not in members and reader not in self.added
      ]
      if strangers:
        self.graph.substitute({ref: self.channels_first(ref)}, strangers)

  def _restore_outputs(self):
    last_index = {}
    for ref in self.model.outputs:
      last_index[ref.node] = max(ref.index, last_index.get(ref.node, 0))
    for name in dict.fromkeys(ref.node for ref in self.turned):
      if name in last_index:
        self._restore_output(name, last_index[name])

  def _restore_output(self, name, last_index):
    """Lets the node of this name give channels first again."""
    graph, node = self.graph, self.graph.node(name)
    views = [
      self.channels_first(TensorRef(name, index))
      for index in range(last_index + 1)
    ]
    twin = self.add(
      node.op, name + "/NHWC", graph.inputs(name), dict(node.attr)
    ).node
    graph.substitute(
      {
        ref: ref._replace(node=twin)
        for ref in graph.reads(name)
        if not ref.control
      }
    )
    if last_index:
      # A Transpose has one output, and this name several.
      views = [
        view._replace(node=twin) if view.node == name else view
        for view in views
      ]
      self.emitter.become(name, "result = IdentityN(views)", views=views)
      return
    view = graph.node(views[0].node)
    graph.become(name, view.op, view.input, view.attr)
    graph.substitute({views[0]: TensorRef(name)})
    graph.remove([view.name])


def _channels_first_in_functions(graph, node):
  """Name of an NCHW node in the functions that a node calls, or None."""
  for function in called_functions(graph, [node]):
    for inner in function.node_def:
      if rules.is_channels_first(inner):
        return inner.name
  return None
