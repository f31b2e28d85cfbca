# SPDX-License-Identifier: Apache-2.0
"""Norms that are a BatchNormWithGlobalNormalization, the op of 2015."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from bnexport.analysis.shapes import flag
from bnexport.batchnorm.form import OpForm


@dataclasses.dataclass(frozen=True)
class GlobalNorm(OpForm):
  """y = BatchNormWithGlobalNormalization(x, mean, variance, beta, gamma)

  Channels are last. Gamma counts only where the node says so.
  """

  name: ClassVar = "global"
  ops: ClassVar = frozenset(("BatchNormWithGlobalNormalization",))
  inputs: ClassVar = ("x", "mean", "variance", "beta", "gamma")
  gamma: ClassVar = "gamma"
  beta: ClassVar = "beta"

  def epsilon(self, node):
    return node.attr["variance_epsilon"].f

  def has_scale(self, node):
    return bool(flag(node, "scale_after_normalization"))
