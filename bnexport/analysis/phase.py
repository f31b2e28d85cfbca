# SPDX-License-Identifier: Apache-2.0
"""The phase: which scalars it is told by, and what they can be."""

from __future__ import annotations

import dataclasses
from typing import Tuple

import numpy as np

from bnexport.analysis.dependence import uses_batch
from bnexport.analysis.partial_evaluation import TRANSPARENT
from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, static_shape
from bnexport.tf1 import tf1

_COMPARISONS = frozenset(
  (
    "Equal",
    "NotEqual",
    "Less",
    "LessEqual",
    "Greater",
    "GreaterEqual",
  )
)
# Read only where the graph itself leaves the choice open.
_TRAINING_WORDS = ("train", "phase", "learning")
_INFERENCE_WORDS = ("test", "infer", "eval", "predict", "deploy", "valid")


@dataclasses.dataclass
class Leaf:
  """A scalar that predicates are computed from."""

  name: str
  candidates: Tuple
  default: object  # what it is where nobody decides; None for a placeholder
  op: str


def find_leaves(model, evaluation):
  """The undecided leaves behind the predicates that the outputs need."""
  graph, found = model.graph, {}
  inputs = {ref.node for ref in model.inputs}
  for name in evaluation.needed(model.outputs):
    for ref in _predicates(graph, name):
      _walk(graph, ref, found, inputs)
  leaves = []
  for name, constants in found.items():
    leaf = _leaf(model, name, constants)
    if leaf is not None and name not in evaluation.known:
      leaves.append(leaf)
  return leaves


def find_constants(model, order):
  """Constant bools that predicates are computed from, as leaves.

  Args:
    model: stays as it is.
    order: names of the nodes whose predicates to look at.
  """
  found = {}
  for name in order:
    for ref in _predicates(model.graph, name):
      _walk(model.graph, ref, found, ())
  leaves = [
    _leaf(model, name, constants)
    for name, constants in found.items()
    if model.graph.op(name) == "Const"
  ]
  return [leaf for leaf in leaves if leaf is not None]


def leaves_of(graph, predicate):
  """Names of what a predicate is computed from."""
  found = {}
  _walk(graph, predicate, found, ())
  return list(found)


def _walk(graph, ref, found, inputs):
  """Collects the leaves of a predicate with what they are compared to."""
  stack, seen = [(ref, ())], set()
  while stack:
    ref, constants = stack.pop()
    if (ref, constants) in seen:
      continue
    seen.add((ref, constants))
    op = graph.op(ref.node)
    if op in ops.PLACEHOLDERS or op in ops.VARIABLES or op == "Const":
      if ref.node not in inputs and ref.index == 0:
        found.setdefault(ref.node, set()).update(constants)
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
      stack.extend((r, constants) for r in refs)


def _leaf(model, name, constants):
  shape = static_shape(model.graph, TensorRef(name))
  if shape is not None and any(size != 1 for size in shape):
    return None
  dtype = model.dtype(TensorRef(name))
  node = model.graph.node(name)
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
  if op in ("Select", "SelectV2"):
    return [refs[0]]
  if op == "Cast" and graph.node(name).attr["SrcT"].type == tf1.bool:
    return [refs[0]]  # a phase may be arithmetic: phase * a + (1 - phase) * b
  return []


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
  least = dtype.min if dtype.is_unsigned else -np.inf
  return tuple(
    sorted({kind(c + d) for c in numbers for d in (-1, 0, 1) if c + d >= least})
  )


def hint(leaf):
  """What a bool's name says about inference, or None."""
  if not isinstance(leaf.candidates[0], np.bool_):
    return None
  name = leaf.name.lower()
  training = any(word in name for word in _TRAINING_WORDS)
  inference = any(word in name for word in _INFERENCE_WORDS)
  if training == inference:
    return None
  negated = "not_" in name or "no_" in name
  return np.bool_(inference != negated)


def value_text(value):
  return value.decode() if isinstance(value, bytes) else str(value)


def is_training_mark(graph, name):
  """Whether a node is there for training's sake.

  State updates, fused norms in training mode and means over the batch axis.
  """
  node = graph.node(name)
  if node.op in ops.UPDATES or uses_batch(node):
    return True
  if node.op in ("Mean", "Sum"):
    axes = constant_value(graph, graph.inputs(name)[1], largest=16)
    return axes is not None and 0 in axes.reshape(-1)
  return False
