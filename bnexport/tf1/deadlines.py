# SPDX-License-Identifier: Apache-2.0
"""When runs of sessions have to have ended."""

from __future__ import annotations

import contextlib
import time
from typing import Iterator, List, Optional

# By time.monotonic; the earliest counts.
_DEADLINES: List[float] = []


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
  """Ends runs of sessions in the block once so many seconds are over.

  A run that is not over by then, or that would begin later, raises
  DeadlineExceededError.
  """
  _DEADLINES.append(time.monotonic() + seconds)
  try:
    yield
  finally:
    _DEADLINES.pop()


def time_left() -> Optional[float]:
  """Seconds that runs have left; None where nothing limits them."""
  return min(_DEADLINES) - time.monotonic() if _DEADLINES else None
