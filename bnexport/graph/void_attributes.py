# SPDX-License-Identifier: Apache-2.0
"""Attributes that the installed TensorFlow lacks and that change nothing.

TensorFlow writes an attribute into a file though it holds its default, and
does not import one that its op lacks. So the file of a newer TensorFlow can be
opened once those are gone that only say what the older op does anyway.
"""

from __future__ import annotations

import functools
from typing import FrozenSet, Iterator, List, Optional

from bnexport.graph import op_history
from bnexport.tf1 import op_def, tf1


def drop_void_attributes(graph_def: tf1.GraphDef) -> tf1.GraphDef:
  """The GraphDef, or a copy of it without such attributes.

  Parts of one lose them themselves.
  """
  if not any(map(_void, _every_node(graph_def))):
    return graph_def
  made = graph_def
  if isinstance(graph_def, tf1.GraphDef):
    made = tf1.GraphDef()
    made.CopyFrom(graph_def)
  for node in _every_node(made):
    for key in _void(node):
      del node.attr[key]
  return made


def _every_node(graph_def: tf1.GraphDef) -> Iterator[tf1.NodeDef]:
  yield from graph_def.node
  for function in graph_def.library.function:
    yield from function.node_def


def _void(node: tf1.NodeDef) -> List[str]:
  known = _attributes(node.op)
  if known is None:
    return []
  return [
    key
    for key in node.attr
    if key not in known
    and not key.startswith("_")
    and (
      (node.op, key) in op_history.HINTS
      or node.attr[key] == op_history.default(node.op, key)
    )
  ]


@functools.lru_cache(maxsize=None)
def _attributes(op: str) -> Optional[FrozenSet[str]]:
  """Names of an op's attributes; None where the op itself is not known."""
  known = op_def(op)
  return None if known is None else frozenset(a.name for a in known.attr)
