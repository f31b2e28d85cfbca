# SPDX-License-Identifier: Apache-2.0
"""Transforms of nodes' devices."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.model import Model


@dataclasses.dataclass(frozen=True)
class RemoveDevice:
  """Clears the device of every node, those of functions included.

  Before: y = Relu(x) @"/device:GPU:0"
  After:  y = Relu(x)
  """

  name: ClassVar[str] = "remove_device"

  def apply(self, model: Model) -> List[str]:
    placed = [node for node, _ in model.graph.every_node() if node.device]
    for node in placed:
      node.device = ""
    return [f"cleared the device of {len(placed)} nodes"] if placed else []


@dataclasses.dataclass(frozen=True)
class SetDevice:
  """Puts every node on a device, those of functions included.

  With:   set_device(device="/device:CPU:0")
  Before: y = Relu(x)
  After:  y = Relu(x) @"/device:CPU:0"

  Attributes:
    device: the device; empty leaves the choice to TensorFlow.
    if_default: change only nodes that have no device.
  """

  name: ClassVar[str] = "set_device"
  device: str = ""
  if_default: bool = False

  def apply(self, model: Model) -> List[str]:
    changed = [
      node
      for node, _ in model.graph.every_node()
      if node.device != self.device and not (self.if_default and node.device)
    ]
    for node in changed:
      node.device = self.device
    if not changed:
      return []
    return [f"put {len(changed)} nodes on '{self.device}'"]
