# SPDX-License-Identifier: Apache-2.0
"""Paths that users name, before anything opens them.

Opening a FIFO waits for somebody who writes to it, and reading a device may
never end.
"""

from __future__ import annotations

import os
import stat

from bnexport.errors import SourceError

_SPECIAL = (
  (stat.S_ISFIFO, "a FIFO"),
  (stat.S_ISSOCK, "a socket"),
  (stat.S_ISCHR, "a device"),
  (stat.S_ISBLK, "a device"),
)


def refuse_special(path: str, what: str) -> None:
  """Raises SourceError where a path is a FIFO, a socket or a device.

  Args:
    path: a path. One that is not there, or of a file system that only
      TensorFlow knows, passes: opening it tells.
    what: the deed, for the message, such as `read the graph 'x.pb'`.
  """
  try:
    mode = os.stat(path).st_mode
  except (OSError, ValueError):
    return
  for is_special, name in _SPECIAL:
    if is_special(mode):
      raise SourceError(what, f"it is {name}", "give the path of a file")
