# SPDX-License-Identifier: Apache-2.0
"""Attributes that newer ops have are stated in older graphs."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.model import Model


@dataclasses.dataclass(frozen=True)
class AddDefaultAttributes:
  """States the defaults of attributes that nodes leave out.

  TensorFlow fills them in when it imports a graph; another reader of the file
  may not know them. Functions' nodes get theirs as well. Ops that this
  TensorFlow does not know stay as they are.

  Before: y = LeakyRelu(x) {T=float}
  After:  y = LeakyRelu(x) {T=float, alpha=0.2}
  """

  name: ClassVar[str] = "add_default_attributes"

  def apply(self, model: Model) -> List[str]:
    added, unknown = 0, set()
    for node, _ in model.graph.every_node():
      if node.op in model.graph.library:
        continue
      if node.op not in model.signatures:
        unknown.add(node.op)
        continue
      for attr in model.signatures[node.op].attr:
        if attr.name not in node.attr and attr.HasField("default_value"):
          node.attr[attr.name].CopyFrom(attr.default_value)
          added += 1
    told = [f"stated {added} default attributes"] if added else []
    told += [
      f"left nodes of op '{op}' as they are: this TensorFlow does not know it"
      for op in sorted(unknown)
    ]
    return told
