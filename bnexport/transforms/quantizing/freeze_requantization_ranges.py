# SPDX-License-Identifier: Apache-2.0
"""Ranges that were measured on data take the place of measuring them."""

from __future__ import annotations

import dataclasses
import re
from typing import ClassVar, Dict, List, Tuple

import numpy as np

from bnexport.errors import TransformError, first_line, nearest
from bnexport.graph import TensorRef
from bnexport.graph.nodes import constant
from bnexport.model import Model
from bnexport.model.paths import refuse_special
from bnexport.tf1 import tf1
from bnexport.transforms.tidying.names import protected
from bnexport.transforms.uses import Uses

# What insert_logging(op=RequantizationRange, show_name=true,
# message="__requant_min_max:") prints, among whatever else is in the log.
_RECORD = re.compile(
  r"(?:^|;)(?P<name>[^;]+)__print__;__requant_min_max:"
  r"\[(?P<min>[^\[\];]*)\]\[(?P<max>[^\[\];]*)\][^\[\];]*(?:;|$)"
)


@dataclasses.dataclass(frozen=True)
class FreezeRequantizationRanges:
  """A range that was measured in each run is the constant a log says.

  A RequantizationRange reads all of a tensor for its minimum and maximum. Of
  the ones that were logged while the graph ran on typical data, a percentile
  is taken, and stands in the graph as a constant.

  With:   freeze_requantization_ranges(min_max_log_file="ranges.log")
  Before: r = RequantizationRange(q, a, b)   z = Requantize(q, a, b, r, r:1)
          y = Dequantize(z, z:1, z:2)
  After:  r/frozen_min = Const() {value=<float -1>}
          r/frozen_max = Const() {value=<float 2>}
          z = Requantize(q, a, b, r/frozen_min, r/frozen_max)
          y = Dequantize(z, z:1, z:2)

  The log of the example has the line
  `;r__print__;__requant_min_max:[-1][2]`, as insert_logging makes it print.
  Refuses a log that names a node which is not in the graph or which is no
  RequantizationRange: it is the log of another graph. Leaves a range alone
  that is an output of the model.

  Attributes:
    min_max_log_file: the file that the run's stderr was written to.
    min_percentile: so many percent of the minima are cut off.
    max_percentile: so many percent of the maxima are cut off.
  """

  name: ClassVar[str] = "freeze_requantization_ranges"
  min_max_log_file: str
  min_percentile: float = 5.0
  max_percentile: float = 5.0

  def apply(self, model: Model) -> List[str]:
    graph, told = model.graph, []
    measured = _read_log(self.min_max_log_file)
    for name in measured:
      _check(graph, name)
    ends, uses = protected(model), Uses(model)
    for name, (lows, highs) in measured.items():
      if name in ends:
        told.append(f"left range '{name}' as it is: it is an output")
      elif name in graph:
        low = _percentile(lows, _share(self.min_percentile))
        high = _percentile(highs, 1 - _share(self.max_percentile))
        _freeze(graph, uses, name, low, high)
        told.append(f"froze range '{name}' to [{low:g}, {high:g}]")
    return told


def _read_log(path: str) -> Dict[str, Tuple[List[float], List[float]]]:
  """Minima and maxima by node, in the order of the log.

  Raises:
    TransformError: there is no such file, or no record in it.
  """
  refuse_special(path, f"read min_max_log_file '{path}'")
  try:
    with tf1.gfile.GFile(path, "rb") as f:
      lines = f.read().decode("utf-8", "replace").split("\n")
  except OSError as error:
    raise TransformError(
      f"read min_max_log_file '{path}'",
      first_line(error),
      "give the file the log was written to",
    ) from error
  measured: Dict[str, Tuple[List[float], List[float]]] = {}
  for line in lines:
    found = _RECORD.search(line)
    if found is None:
      continue
    ends = [_number(found[end]) for end in ("min", "max")]
    if np.isfinite(ends).all():
      lows, highs = measured.setdefault(found["name"], ([], []))
      lows.append(ends[0])
      highs.append(ends[1])
  if not measured:
    raise TransformError(
      "freeze requantization ranges",
      f"'{path}' has no line `;NODE__print__;__requant_min_max:[MIN][MAX]`",
      "run the graph after insert_logging(op=RequantizationRange, "
      'show_name=true, message="__requant_min_max:")',
    )
  return measured


def _number(text):
  try:
    return float(text)
  except ValueError:
    return np.nan


def _check(graph, name):
  if name in graph and graph.op(name) != "RequantizationRange":
    raise TransformError(
      f"freeze the range of '{name}', which the log names",
      f"it is {graph.op(name)}, not RequantizationRange",
      "log the graph that is transformed",
    )
  if name not in graph and name + "/frozen_min" not in graph:
    raise TransformError(
      f"freeze the range of '{name}', which the log names",
      "the graph has no such node",
      nearest(name, graph.names()),
    )


def _share(percent):
  return np.float32(percent) / np.float32(100)


def _percentile(values, fraction):
  """The value at a fraction of the sorted ones, as float32."""
  # C's round(), of a float32 product: halves go up.
  index = int(np.floor(np.float32(len(values)) * fraction + 0.5))
  return np.float32(sorted(values)[min(max(index, 0), len(values) - 1)])


def _freeze(graph, uses, name, low, high):
  control = graph.control_inputs(name)
  control += uses.beside(graph.data_inputs(name)[0])
  low = constant(graph, name + "/frozen_min", low, control=control)
  high = constant(graph, name + "/frozen_max", high, control=control)
  graph.substitute(
    {
      TensorRef(name, 0): low,
      TensorRef(name, 1): high,
      TensorRef(name, 0, control=True): low._replace(control=True),
    }
  )
  uses.remove_unread([name])
