# SPDX-License-Identifier: Apache-2.0
"""Whether stored statistics can be right."""

from __future__ import annotations

import numpy as np

from bnexport.batchnorm.norm import STORED
from bnexport.errors import TransformError
from bnexport.graph import TensorRef
from bnexport.graph.nodes import constant_value
from bnexport.model.changes import Doubt

OK = "ok"
NEVER_UPDATED = "never updated: mean 0 and variance 1 throughout"
NOT_FINITE = "not finite"
NEGATIVE = "negative variance"
ZERO = "variance 0"


def health(mean, variance, epsilon):
  """One of the states above, the worst that applies.

  Args:
    mean: array of the stored mean.
    variance: array of the stored variance.
    epsilon: what the norm adds to the variance.
  """
  if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
    return NOT_FINITE
  if (variance + epsilon <= 0).any():
    return NEGATIVE
  if not (mean != 0).any() and not (variance != 1).any():
    return NEVER_UPDATED
  return ZERO if (variance == 0).any() else OK


def look(graph, norms):
  """State of each norm whose statistics are constants, by the norm's name."""
  states = {}
  for norm in norms:
    if norm.statistics != STORED:
      continue
    mean, variance = (
      constant_value(graph, TensorRef(name), largest=1 << 30)
      for name in (norm.moving_mean, norm.moving_variance)
    )
    if mean is not None and variance is not None:
      states[norm.name] = health(mean, variance, norm.epsilon)
  return states


def examine(model, norms):
  """Looks at the norms, and warns of those that are doubtful.

  Returns:
    States by the norm's name; see `look`.

  Raises:
    TransformError: with these statistics no answer can be right.
  """
  states = look(model.graph, norms)
  for norm in norms:
    state = states.get(norm.name, OK)
    if state in (NOT_FINITE, NEGATIVE):
      raise TransformError(
        f"export norm '{norm.name}'",
        f"its stored statistics '{norm.moving_mean}' and "
        f"'{norm.moving_variance}' are no use ({state})",
        "export an earlier checkpoint, or pass "
        f"--keep_batch_statistics={norm.name}",
      )
    if state != OK:
      model.warnings.append(
        Doubt(
          f"norm '{norm.name}': {state} in '{norm.moving_mean}' and "
          f"'{norm.moving_variance}'; the export answers as the rebuilt model "
          "does; check that training ran the update operations",
          norm.name,
        )
      )
  return states
