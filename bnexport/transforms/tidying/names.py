# SPDX-License-Identifier: Apache-2.0
"""Nodes get other names."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import ClassVar, List

from bnexport.errors import TransformError
from bnexport.graph import ops
from bnexport.model import Model

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# What TensorFlow takes for a name.
_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


@dataclasses.dataclass(frozen=True)
class RenameNode:
  """Gives a node another name; whoever reads it follows.

  An output or an input may be renamed as well: the model's is called by the
  new name then. A variable is still restored from its old key.

  With:   rename_node(old_node_name=deep/scope/a, new_node_name=a)
  Before: deep/scope/a = Neg(x)   y = Relu(deep/scope/a)
  After:  a = Neg(x)   y = Relu(a)

  Refuses a name that is taken, or that TensorFlow does not take.

  Attributes:
    old_node_name: the node.
    new_node_name: its name from then on.
  """

  name: ClassVar[str] = "rename_node"
  old_node_name: str
  new_node_name: str

  def apply(self, model: Model) -> List[str]:
    old, new = self.old_node_name, self.new_node_name
    model.graph.node(old)
    if old == new:
      return []
    if not _NAME.fullmatch(new):
      raise TransformError(
        f"call node '{old}' '{new}'",
        "TensorFlow takes no such name",
        "use letters, digits and _.-/, and no _ first",
      )
    rename(model, {old: new})
    return [f"'{old}' is called '{new}'"]


@dataclasses.dataclass(frozen=True)
class ObfuscateNames:
  """Calls nodes 0, 1, ... z, A, ... 10, 11, and so on.

  Inputs, outputs, what a user runs to initialize, and variables, which
  checkpoints know by name, keep their names; names inside functions do as
  well.

  Before: tower/relu = Relu(x)   y = Neg(tower/relu)
  After:  1 = Relu(0)   0 = Placeholder()   y = Neg(1)
  """

  name: ClassVar[str] = "obfuscate_names"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    kept = protected(model)
    kept.update(node.name for node in graph if node.op in ops.VARIABLES)
    old = [name for name in graph.topological() if name not in kept]
    free = (name for name in _short_names() if name not in kept)
    new = list(itertools.islice(free, len(old)))
    if set(old) == set(new):
      return []  # it was done before
    rename(model, dict(zip(old, new)))
    return [f"gave {len(old)} nodes short names"]


def protected(model):
  """Names of nodes that a user asks for by name, as a set."""
  ends = [ref.node for ref in model.inputs + model.outputs]
  return set(ends) | set(model.initializers)


def _short_names():
  for number in itertools.count():
    digits = ""
    while True:
      number, digit = divmod(number, len(_DIGITS))
      digits = _DIGITS[digit] + digits
      if not number:
        break
    yield digits


def rename(model, names):
  """Renames nodes of a model, with all that the model knows by name.

  Args:
    model: is edited.
    names: new names by old ones; no node has two, and none is lost.
  """
  keys = {old: _saved(model, old) for old in names}
  model.graph.rename(names)
  model.inputs = tuple(_renamed(ref, names) for ref in model.inputs)
  model.outputs = tuple(_renamed(ref, names) for ref in model.outputs)
  model.initializers = tuple(names.get(n, n) for n in model.initializers)
  model.decisions.averages = frozenset(
    names.get(n, n) for n in model.decisions.averages
  )
  model.decisions.unaveraged = tuple(
    names.get(n, n) for n in model.decisions.unaveraged
  )
  for old, saved in keys.items():
    if saved is not None:
      model.values.prefer(names[old], saved)


def _saved(model, name):
  """The place of a variable's value, or None."""
  if model.values is None or model.graph.op(name) not in ops.VARIABLES:
    return None
  return model.values.find(name)


def _renamed(ref, names):
  return ref._replace(node=names.get(ref.node, ref.node))
