# SPDX-License-Identifier: Apache-2.0
"""Keys under which a graph's Savers keep its variables in a checkpoint."""

from __future__ import annotations

from typing import Collection, Dict, List, Mapping, NamedTuple, Optional, Tuple

from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import constant_value
from bnexport.graph.origins import holder_of, viewed
from bnexport.graph.variables import variable_of

# The ops that a Saver puts between a variable and the op that writes it.
_READS = ops.IDENTITIES | ops.RESOURCE_READS
# Elements of the longest list of keys.
_MOST_KEYS = 1 << 20

# Scopes of variables, and those of their keys: `student/` and `net/`.
ScopeMap = Tuple[Tuple[str, str], ...]


class Saved(NamedTuple):
  """A place in a checkpoint: a key, and a slice as SaveV2 writes it."""

  key: str
  slice_spec: str


def saver_keys(
  graph: Graph, own: Optional[str] = None
) -> Dict[str, List[Saved]]:
  """Keys under which the graph's Savers save each variable.

  Args:
    graph: holds the Savers.
    own: what the MetaGraph's own Saver saves with, its `save_tensor_name`. The
      graph may hold others, such as one that warm-starts a part from another
      model's names; they count for variables that its own does not save.

  Returns:
    A dict from variable node to a list of Saved, in the order found.
  """
  keys: Dict[str, List[Saved]] = {}
  behind: Mapping[str, None] = {}
  if own is not None and TensorRef.parse(own).node in graph:
    behind = graph.ancestors([TensorRef.parse(own).node])
  saves = [node for node in graph if node.op in ops.SAVES]
  for node in sorted(saves, key=lambda node: node.name not in behind):
    refs = graph.data_inputs(node.name)
    if len(refs) < (2 if node.op == "Save" else 3):
      continue  # a malformed node saves nothing
    names = constant_value(graph, refs[1], largest=_MOST_KEYS)
    first, slices = 2, None
    if node.op != "Save":
      first, slices = 3, constant_value(graph, refs[2], largest=_MOST_KEYS)
    if names is None:
      continue
    # Of lists that are not as long as each other, the rest names nothing.
    counts = [array.size for array in (names, slices) if array is not None]
    for i, ref in enumerate(refs[first : first + min(counts)]):
      variable = holder_of(graph, ref, ops.VARIABLES, _READS)
      if variable is not None:
        spec = "" if slices is None else _text(slices.reshape(-1)[i])
        keys.setdefault(variable, []).append(
          Saved(_text(names.reshape(-1)[i]), spec)
        )
  return keys


def _text(value: object) -> str:
  return (
    value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
  )


def restored_keys(graph: Graph) -> Dict[str, List[Saved]]:
  """Keys from which ops of the graph restore each variable.

  So Savers do, and what tf.train.init_from_checkpoint makes of a map: there
  the keys may be those of another model's checkpoint.
  """
  keys: Dict[str, List[Saved]] = {}
  places: Dict[str, List[Saved]] = {}  # that each RestoreV2 reads
  for node in graph:
    if node.op not in ops.ASSIGN:
      continue
    refs = graph.data_inputs(node.name)[:2]
    if len(refs) < 2:
      continue  # a malformed node restores nothing
    holder, value = refs
    *_, source = viewed(graph, value, ops.IDENTITIES)
    variable = variable_of(graph, holder)
    if variable is None or graph.op(source.node) != "RestoreV2":
      continue
    if source.node not in places:
      places[source.node] = _read_by(graph, source.node)
    found = places[source.node][source.index : source.index + 1]
    keys.setdefault(variable, []).extend(found)
  return keys


def _read_by(graph: Graph, restore: str) -> List[Saved]:
  """The places that a RestoreV2 reads; none where they are computed."""
  refs = graph.data_inputs(restore)
  if len(refs) < 3:
    return []
  names, slices = (
    constant_value(graph, ref, largest=_MOST_KEYS) for ref in refs[1:3]
  )
  if names is None or slices is None:
    return []
  pairs = zip(names.reshape(-1), slices.reshape(-1))
  return [Saved(_text(name), _text(spec)) for name, spec in pairs]


def mapped(saved: Saved, scopes: ScopeMap) -> List[Saved]:
  """The places that a map of scopes makes of one; it is read both ways."""
  both = [pair for a, b in scopes for pair in ((a, b), (b, a))]
  return [
    saved._replace(key=new + saved.key[len(old) :])
    for old, new in both
    if saved.key.startswith(old)
  ]


def scopes_between(
  names: Collection[str], keys: Collection[str]
) -> Optional[Tuple[str, str]]:
  """The scope of some variables, and another one where keys have their names.

  None where there is no such pair of scopes, which all of the names need.
  """
  first = min(names)
  parts = first.split("/")
  for start in range(len(parts)):
    scope = "".join(part + "/" for part in parts[:start])
    below = first[len(scope) :]
    if not all(name.startswith(scope) for name in names):
      return None
    for key in keys:
      other = key[: len(key) - len(below)]
      if (
        key.endswith(below)
        and (not other or other.endswith("/"))
        and all(other + name[len(scope) :] in keys for name in names)
      ):
        return scope, other
  return None
