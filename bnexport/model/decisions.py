# SPDX-License-Identifier: Apache-2.0
"""Decisions of an export's steps about a graph."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, FrozenSet, List, Tuple

from bnexport.graph import TensorRef


@dataclasses.dataclass
class Decisions:
  """Facts that one transform finds and later ones, and the proof, go by.

  Attributes:
    values: values given to placeholders and flags, by node name.
    stored: a batchnorm.stored.Stored of variables by the batch statistic whose
      place it took.
    others: further Stored values that track such a statistic, by it.
    corrections: statistics by the tensor that corrected towards them in
      training, as renorm does.
    uncut: names of nodes by what still computes their outputs that are not
      fed, beside the placeholder of their name.
    averages: variables that are moving averages of batch statistics.
    unused: those of them that track nothing whose place was taken.
    named: norms whose averages nothing but their names tells, as a user says.
    unaveraged: norms that compute their own statistics, and nobody said so.
    random_kept: random ops that are part of the model, as a user says.
    moments: tensors with noise that keeps mean 0 and variance 1, by name, and
      the tensors without, which took their place.
  """

  values: Dict[str, object] = dataclasses.field(default_factory=dict)
  stored: Dict[TensorRef, Any] = dataclasses.field(default_factory=dict)
  others: Dict[TensorRef, List[Any]] = dataclasses.field(default_factory=dict)
  corrections: Dict[TensorRef, TensorRef] = dataclasses.field(
    default_factory=dict
  )
  uncut: Dict[str, str] = dataclasses.field(default_factory=dict)
  averages: FrozenSet[str] = frozenset()
  unused: FrozenSet[str] = frozenset()
  named: Tuple[str, ...] = ()
  unaveraged: Tuple[str, ...] = ()
  random_kept: Tuple[str, ...] = ()
  moments: Tuple[Tuple[str, TensorRef], ...] = ()
