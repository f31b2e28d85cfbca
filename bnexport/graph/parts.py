# SPDX-License-Identifier: Apache-2.0
"""A GraphDef that is not one message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, NamedTuple

if TYPE_CHECKING:  # importing TensorFlow takes seconds
  from bnexport.tf1 import tf1


class Parts(NamedTuple):
  """A GraphDef in parts, whose memory is free one by one.

  protobuf keeps all of a message in memory as long as a part of it is held.

  Attributes:
    node: NodeDefs, each a message of its own.
    rest: a GraphDef of all but the nodes.
  """

  node: List[tf1.NodeDef]
  rest: tf1.GraphDef

  @property
  def library(self) -> Any:
    return self.rest.library
