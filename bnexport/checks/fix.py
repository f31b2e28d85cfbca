# SPDX-License-Identifier: Apache-2.0
"""Fixes of findings: an export, asked for in a certain way."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Mapping, Tuple

from bnexport import calibration
from bnexport.model.request import Request

FREEZE = "freeze"
REPAIR = "repair"
# `Fix.recalibrate` for norms that calibration finds broken itself.
BROKEN = (calibration.BROKEN,)
# A user makes the file.
_DATA = "calibration.npz"


@dataclasses.dataclass(frozen=True)
class Fix:
  """The export that clears a finding.

  Most findings are cleared by what every export does, and their fix changes
  nothing of what was asked for. The other attributes are changes of that.

  Attributes:
    verb: FREEZE or REPAIR.
    request: the Request of what is exported, as it was asked for.
    outputs: names of the tensors to keep.
    inputs: names of all tensors to feed; none where they stay as they are.
    settings: values by the names of placeholders and constants.
    denylist: names of variables that stay variables.
    target_tf: the version of TensorFlow that is to read the graph; "" for any.
    recalibrate: norms whose averages are computed from data, as the option of
      that name has them; none where no data is needed.
  """

  verb: str
  request: Request
  outputs: Tuple[str, ...]
  inputs: Tuple[str, ...] = ()
  settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
  denylist: Tuple[str, ...] = ()
  target_tf: str = ""
  recalibrate: Tuple[str, ...] = ()

  def is_choice(self, outputs: Tuple[str, ...]) -> bool:
    """Whether it makes another graph than was asked for.

    Other ends, and what a model's code states, are changed by nobody but the
    user.

    Args:
      outputs: names of the tensors that were asked for.
    """
    return bool(
      self.inputs
      or self.settings
      or self.denylist
      or self.outputs != tuple(outputs)
    )

  def changed(self, options: Any) -> Any:
    """An export's Options with this fix in them.

    Norms are recalibrated where there is data, and where it is left to us
    which norms.
    """
    asked = options.recalibrate
    if options.calibration_data is None or calibration.BROKEN not in asked:
      return options
    both = tuple(dict.fromkeys((*asked, *self.recalibrate)))
    return dataclasses.replace(options, recalibrate=both)

  def command(self) -> str:
    """The shell command that does it."""
    # A graph that does not open tells no outputs.
    named = ",".join(self.outputs) or "OUTPUT"
    return self.request.command(
      self.verb, f"--output_node={named}", *self._flags()
    )

  def _flags(self) -> List[str]:
    settings = ",".join(f"{k}={v}" for k, v in self.settings.items())
    norms = "" if self.recalibrate == BROKEN else ",".join(self.recalibrate)
    given = (
      ("input_node", ",".join(self.inputs)),
      ("set", settings),
      ("variable_names_denylist", ",".join(self.denylist)),
      ("target_tf", self.target_tf),
      ("recalibrate", norms),
      ("calibration_data", _DATA if self.recalibrate else ""),
    )
    return [f"--{flag}={value}" for flag, value in given if value]
