# SPDX-License-Identifier: Apache-2.0
"""Random changes of the input itself, such as flips, crops and mixtures.

They have no mean that a model would be given. Inference does without them: it
is fed what they make.
"""

from __future__ import annotations

from typing import Optional, Set

from bnexport.analysis.randomness import Randomness
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import static_shape
from bnexport.model import Model

# So many tensors are tried.
_MOST = 40


def behind_augmentation(
  model: Model, randomness: Randomness, noise: TensorRef
) -> Optional[TensorRef]:
  """The tensor that is an input after a random change, or None.

  It has the input's shape, no variable has a part in it, and the outputs need
  the input and the draws by way of it alone.

  Args:
    model: stays as it is.
    randomness: of its graph.
    noise: the tensor by which the input is changed.
  """
  graph = model.graph
  inputs = {
    name: _kind(model, name)
    for name in model.placeholders()
    if static_shape(graph, TensorRef(name))
  }
  readers = _behind(graph, noise.node)
  draws = set(randomness.sources(randomness.draws(noise)))
  found = (
    name
    for name in randomness.order
    if name in readers
    and not randomness.contexts.frame(name)
    and _kind(model, name) in inputs.values()
  )
  for _, name in zip(range(_MOST), found):
    if any(graph.op(n) in ops.VARIABLES for n in graph.ancestors([name])):
      return None
    beside = _needed_beside(model, name)
    alike = {n for n in inputs if inputs[n] == _kind(model, name)}
    if beside.isdisjoint(draws | alike):
      return TensorRef(name)
  return None


def _kind(model, name):
  """The dtype and the shape of a node's first output, as far as told."""
  ref = TensorRef(name)
  shape = static_shape(model.graph, ref)
  return (model.dtype(ref), shape) if shape else None


def _behind(graph, name) -> Set[str]:
  stack, seen = [name], {name}
  for one in stack:
    new = [reader for reader in graph.readers(one) if reader not in seen]
    seen.update(new)
    stack.extend(new)
  return seen


def _needed_beside(model, given) -> Set[str]:
  """Names of what the outputs need besides a node that is given."""
  stack = [output.node for output in model.outputs]
  seen = {given, *stack}
  for name in stack:
    new = [r.node for r in model.graph.inputs(name) if r.node not in seen]
    seen.update(new)
    stack.extend(dict.fromkeys(new))
  return seen - {given}
