# SPDX-License-Identifier: Apache-2.0
"""BN1xx: training is still in the graph."""

from __future__ import annotations

import textwrap

from bnexport.checks.examples import AFFINE, MEAN, VARIANCE


def switched_norm(phase):
  """An example's graph: a norm on both sides of a conditional.

  Args:
    phase: the nodes that choose, as text; the last one is the predicate.
  """
  phase = textwrap.dedent(phase).strip()
  predicate = phase.splitlines()[-1].partition(" ")[0]
  return f"""\
{AFFINE}{MEAN}{VARIANCE}{phase}
none = Const() {{value=<float [0]>}}
s = Switch(x, {predicate})
i = FusedBatchNorm(s, gamma, beta, mean, variance) {{is_training=false}}
t = FusedBatchNorm(s:1, gamma, beta, none, none) {{is_training=true}}
m = Merge(i, t)
y = Relu(m)
"""
