# SPDX-License-Identifier: Apache-2.0
"""Random noise that is added to data is no part of inference."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.analysis.dependence import DATA, Dependence
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import constant_value, uniform_value
from bnexport.model import Model

_MEANS = {
  "RandomStandardNormal": 0.0,
  "TruncatedNormal": 0.0,
  "RandomUniform": 0.5,
}


@dataclasses.dataclass(frozen=True)
class RemoveNoise:
  """Replaces data plus noise by the data, where the noise has mean 0.

  That is the expectation, as without dropout. A tensor that is all random,
  such as the code a generator draws, stays, and the exporter says so.

  Before: n = RandomStandardNormal(s)   m = Mul(n, scale)   a = AddV2(x, m)
          y = Relu(a)
  After:  y = Relu(x)
  """

  name: ClassVar[str] = "remove_noise"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph
    told: List[str] = []
    order = graph.topological(model.needed())
    if not any(ops.is_random(graph.op(name)) for name in order):
      return told
    dependence = Dependence(graph, order)
    outputs = {ref.node for ref in model.outputs}
    for name in order:
      if graph.op(name) not in ("Add", "AddV2") or name in outputs:
        continue
      a, b = graph.data_inputs(name)
      for x, noise in ((a, b), (b, a)):
        if (
          dependence(x) == DATA
          and _mean(graph, noise) == 0
          and _mean(graph, x) is None
        ):
          graph.substitute({TensorRef(name): x})
          told.append(f"removed noise '{noise}' from '{x}'")
          break
    model.warnings.extend(
      line + ": it is random and its mean is 0" for line in told
    )
    return told


def _mean(graph, ref, depth=0):
  """Mean of a tensor of independent random numbers; None if it is no such."""
  node = graph.node(ref.node)
  if node.op in _MEANS:
    return _MEANS[node.op]
  if depth > 10:
    return None
  refs = graph.data_inputs(ref.node)
  if node.op in ops.IDENTITIES or node.op == "Cast":
    return _mean(graph, refs[0], depth + 1)
  if node.op not in ("Mul", "Add", "AddV2"):
    return None
  for random, other in (refs, refs[::-1]):
    mean = _mean(graph, random, depth + 1)
    if mean is None:
      continue
    if node.op == "Mul" and mean == 0:
      return 0.0
    value = constant_value(graph, other, largest=1)
    if value is None:
      return None
    value = float(uniform_value(value))
    return mean * value if node.op == "Mul" else mean + value
  return None
