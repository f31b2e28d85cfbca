# SPDX-License-Identifier: Apache-2.0
"""The phase: which scalars it is told by, and what they can be."""

from __future__ import annotations

import dataclasses
from typing import FrozenSet, Tuple

import numpy as np

from bnexport.analysis.partial_evaluation import PICKS, TRANSPARENT
from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import FLOATS, constant_value, static_shape
from bnexport.graph.origins import HANDOVERS, VIEWS, origin_of
from bnexport.tf1 import tf1

_ORDERS = frozenset(("Less", "LessEqual", "Greater", "GreaterEqual"))
_COMPARISONS = _ORDERS | {"Equal", "NotEqual"}


@dataclasses.dataclass
class Leaf:
  """A scalar that predicates are computed from.

  Attributes:
    name: of the node.
    candidates: values that can make a difference.
    default: its value where nobody decides; None for a placeholder.
    op: of the node.
    predicates: the tensors that are computed from it.
    is_factor: whether it only scales: it blends two tensors, or is a rate.
    is_count: whether it is a variable whose value is a number, such as a step:
      something adds to it, or an order compares it.
  """

  name: str
  candidates: Tuple
  default: object
  op: str
  predicates: FrozenSet[TensorRef] = frozenset()
  is_factor: bool = False
  is_count: bool = False


def find_leaves(model, evaluation):
  """The undecided leaves behind the predicates that the outputs need."""
  inputs = {ref.node for ref in model.inputs}
  return [
    leaf
    for leaf in _leaves(model, evaluation.needed(model.outputs), inputs)
    if leaf.name not in evaluation.known
  ]


def find_constants(model, order):
  """Constant bools that predicates are computed from, as leaves.

  Args:
    model: stays as it is.
    order: names of the nodes whose predicates to look at.
  """
  return [leaf for leaf in _leaves(model, order, ()) if leaf.op == "Const"]


def _leaves(model, names, inputs):
  graph, constants, predicates, choosing = model.graph, {}, {}, set()
  whole = set()  # leaves that are compared in all their elements
  refs = {}
  for name in names:
    refs.update((ref, True) for ref in _predicates(graph, name))
    for ref in _factors(graph, name):
      refs.setdefault(ref, False)
  for ref, chooses in refs.items():
    for leaf, compared, is_picked in _walk(graph, ref, inputs):
      constants.setdefault(leaf, set()).update(compared)
      if not is_picked:
        whole.add(leaf)
      predicates.setdefault(leaf, set()).add(ref)
      if chooses:
        choosing.add(leaf)
  leaves = (
    _leaf(model, name, compared, name in whole)
    for name, compared in constants.items()
  )
  return [
    dataclasses.replace(
      leaf,
      predicates=frozenset(predicates[leaf.name]),
      is_factor=leaf.name not in choosing,
      is_count=_is_count(graph, leaf.name),
    )
    for leaf in leaves
    if leaf is not None
  ]


def leaves_of(graph, predicate):
  """Names of what a predicate is computed from."""
  return list({leaf: None for leaf, _, _ in _walk(graph, predicate, ())})


def _walk(graph, ref, inputs):
  """Yields the leaves of a predicate, with what they are compared to.

  The third is whether the predicate is one of a leaf's elements, or what holds
  of all of them.
  """
  stack, seen = [(ref, (), False)], set()
  while stack:
    step = ref, constants, is_picked = stack.pop()
    if step in seen:
      continue
    seen.add(step)
    op = graph.op(ref.node)
    if op in ops.VARIABLES or op == "Const" or is_fed(graph, ref.node):
      if ref.node not in inputs and ref.index == 0:
        yield ref.node, constants, is_picked
    elif op in TRANSPARENT or op in ops.MERGES or op in ops.SWITCHES:
      refs = graph.data_inputs(ref.node)
      if op in _COMPARISONS:
        values = [constant_value(graph, r, largest=1) for r in refs]
        constants += tuple(
          v.reshape(-1)[0] for v in values if v is not None and v.size
        )
        # The constant is what a mode is compared to, not a mode; without one
        # the comparison is about data, or random.
        refs = [r for r, v in zip(refs, values) if v is None]
        refs = refs if len(refs) == 1 else []
      if op in PICKS:
        refs, is_picked = refs[:1], True
      stack.extend((r, constants, is_picked) for r in refs)


def _leaf(model, name, constants, is_whole):
  shape = static_shape(model.graph, TensorRef(name))
  dtype = model.dtype(TensorRef(name))
  node = model.graph.node(name)
  if shape is not None and any(size != 1 for size in shape):
    # A phase for each row, or each device; a mask chooses in all its elements.
    if is_whole or dtype != tf1.bool or node.op not in ops.PLACEHOLDERS:
      return None
  candidates = _candidates(dtype, constants)
  if node.op == "Const" and dtype != tf1.bool:
    return None
  if len(candidates) < 2 or _is_index(model.graph, node):
    return None
  return Leaf(name, candidates, _default(model, node), node.op)


def _is_index(graph, node):
  """Whether a placeholder's value says which rows of a table to take.

  Such as the ids of tokens, of which one is padding and compared with a
  constant.
  """
  return node.op in ops.PLACEHOLDERS and any(
    graph.op(reader) in ops.LOOKUPS for reader in graph.readers(node.name)
  )


def _default(model, node):
  if node.op == "Const":
    return constant_value(model.graph, TensorRef(node.name)).reshape(-1)[0]
  if node.op == "PlaceholderWithDefault":
    value = constant_value(model.graph, model.graph.inputs(node.name)[0])
    return None if value is None else value.reshape(-1)[0]
  if node.op in ops.VARIABLES and model.values is not None:
    if node.name in model.values:
      return model.values[node.name].reshape(-1)[0]
  return None


def stated_value(model, name, text):
  """The NumPy scalar that a user's text for a placeholder or flag means.

  Raises:
    GraphError: no node has the name.
    TransformError: the text does not fit the dtype.
  """
  node = model.graph.node(name)
  dtype = model.dtype(TensorRef(name))
  if dtype == tf1.bool:
    if text.lower() not in ("true", "false", "1", "0"):
      raise TransformError(
        f"set '{name}' to '{text}'",
        "it is a bool",
        f"write --set={name}=false",
      )
    return np.bool_(text.lower() in ("true", "1"))
  if dtype == tf1.string:
    return text.encode()
  try:
    return dtype.as_numpy_dtype(text)
  except (ValueError, TypeError):
    raise TransformError(
      f"set '{node.name}' to '{text}'",
      f"it is a {dtype.name}",
      "give a value of that type",
    ) from None


def _predicates(graph, name):
  """The tensors that a node chooses by."""
  op = graph.op(name)
  refs = graph.data_inputs(name)
  if op in ops.SWITCHES:
    return [] if graph.op(refs[1].node) == "LoopCond" else [refs[1]]
  if op in ops.SELECTS:
    return [refs[0]]
  if op == "Cast" and graph.node(name).attr["SrcT"].type == tf1.bool:
    return [refs[0]]  # a phase may be arithmetic: phase * a + (1 - phase) * b
  return []


def _is_count(graph, name):
  """Whether a variable is added to, or compared by order."""
  if graph.op(name) not in ops.VARIABLES:
    return False
  stack, seen = [name], {name}
  for one in stack:
    for reader in graph.readers(one):
      op = graph.op(reader)
      if op in ops.ASSIGN_ADD | ops.ASSIGN_SUB | _ORDERS:
        return True
      is_handed = op in HANDOVERS | {"Cast"} and reader not in seen
      if is_handed and graph.inputs(reader)[0].node == one:
        seen.add(reader)
        stack.append(reader)
  return False


def _factors(graph, name):
  """The float placeholders that a node multiplies by, as they are."""
  if graph.op(name) != "Mul":
    return []
  refs = [origin_of(graph, r, VIEWS) for r in graph.data_inputs(name)]
  return [
    ref
    for ref in refs
    if graph.op(ref.node) in ops.PLACEHOLDERS
    and graph.node(ref.node).attr["dtype"].type in FLOATS
    and static_shape(graph, ref) == ()
  ]


def is_fed(graph, name):
  """Whether a node's value comes from outside, by a feed or from Python."""
  op = graph.op(name)
  return op in ops.PLACEHOLDERS or (
    ops.is_data_source(op) and not graph.data_inputs(name)
  )


def _candidates(dtype, constants):
  """Values that can make a difference to the comparisons a leaf is in."""
  if dtype == tf1.bool:
    return (np.bool_(False), np.bool_(True))
  if dtype == tf1.string:
    return tuple(sorted(constants)) + (b"",) if constants else ()
  if not (dtype.is_integer or dtype.is_floating):
    return ()
  numbers = set(constants) if constants else {0}
  kind = dtype.as_numpy_dtype
  if all(0 < c < 1 for c in numbers):
    return kind(0), kind(1)  # what is told apart so is off or on
  least = dtype.min if dtype.is_unsigned else -np.inf
  return tuple(
    sorted({kind(c + d) for c in numbers for d in (-1, 0, 1) if c + d >= least})
  )


def value_text(value):
  """A candidate as a user states it; no text is two quotes."""
  return value.decode() or "''" if isinstance(value, bytes) else str(value)
