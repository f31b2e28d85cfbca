# SPDX-License-Identifier: Apache-2.0
"""Dropout is no part of inference."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.model import Model
from bnexport.transforms.inference.remove_noise import draws, use_identities


@dataclasses.dataclass(frozen=True)
class RemoveDropout:
  """Replaces a dropped-out tensor by the tensor itself.

  Dropout is a product of a tensor, a random mask that is 1 with the
  probability `keep_prob`, and 1 / keep_prob: its expectation is the tensor.
  A mask without that factor is left alone; `remove_noise` has a rule for it.

  Before: x = Placeholder() {shape=[?,4]}   keep = Placeholder() {shape=[]}
          u = RandomUniform(n)   a = Add(u, keep)   m = Floor(a)
          d = RealDiv(x, keep)   e = Mul(d, m)   y = Relu(e)
  After:  y = Relu(x)
  """

  name: ClassVar[str] = "remove_dropout"

  def apply(self, model: Model) -> List[str]:
    if not draws(model):
      return []
    return use_identities(model, is_wanted=lambda found: found.is_masked)
