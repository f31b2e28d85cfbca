# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's start-up chatter, which no setting of its own turns off.

Its libraries write to file descriptor 2 before they read any setting: on GPUs
that are not there, on kernels, on logging itself. A process holds that back
while they start, and lets go of it where nothing went wrong. Where the start
fails, or ends the whole process, all of it is shown.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import warnings
from typing import Iterator, Optional, TextIO

_STDERR = 2
_PIECE = 1 << 16


class _Holder:
  """A process that holds what is written to a pipe.

  It shows that on the real stderr when nobody has the pipe open any more, such
  as after a crash, unless it is ended before.
  """

  def __init__(self) -> None:
    self.stderr = os.dup(_STDERR)
    reading, self.pipe = os.pipe()
    self._child = os.fork()
    if not self._child:
      self._hold(reading)
    os.close(reading)

  def _hold(self, reading: int) -> None:
    """Never returns; nothing of Python's own runs in the copied process."""
    try:
      # Ctrl-C is for the other one.
      for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
      for other in (0, 1, self.pipe):
        with contextlib.suppress(OSError):
          os.close(other)  # whoever waits for its end does not wait for this
      held = []
      while True:
        piece = os.read(reading, _PIECE)
        if not piece:
          break
        held.append(piece)
      for piece in held:
        os.write(self.stderr, piece)
    finally:
      os._exit(0)

  def show(self) -> None:
    """Shows what is held; nothing is held any more."""
    os.close(self.pipe)
    os.waitpid(self._child, 0)

  def drop(self) -> None:
    """Lets go of what is held."""
    os.kill(self._child, signal.SIGKILL)
    self.show()


# Whether a command asked for it: a library leaves stderr alone.
_is_asked = False
_holder: Optional[_Holder] = None
_is_on = False


def ask() -> None:
  """Has `starting` hold back what it can, until the process ends.

  What TensorFlow says of layers that model code uses is not shown either.
  """
  global _is_asked
  # Who exports a model is not about to rewrite its code.
  warnings.filterwarnings("ignore", message=r"`tf\.[\w.]+` is deprecated")
  if hasattr(os, "fork"):
    _is_asked = True
    atexit.register(_drop)


def _drop() -> None:
  global _holder, _is_asked
  holder, _holder, _is_asked = _holder, None, False
  if holder is not None:
    holder.drop()


@contextlib.contextmanager
def starting() -> Iterator[None]:
  """Holds back what TensorFlow writes while something of it starts.

  What Python code writes to `sys.stderr` is shown, but for warnings. Where the
  block raises an error, so is what was held back.
  """
  if not _is_asked or _is_on:
    yield
    return
  with _diverted(), warnings.catch_warnings():
    # NumPy and Python warn of TensorFlow's own code.
    warnings.simplefilter("ignore")
    yield


@contextlib.contextmanager
def _diverted() -> Iterator[None]:
  """Has descriptor 2 go to a Holder, and `sys.stderr` where it went."""
  global _holder, _is_on
  python = sys.stderr
  python.flush()
  holder = _holder = _holder or _Holder()
  os.dup2(holder.pipe, _STDERR)
  sys.stderr, _is_on = _writer(python, holder.stderr), True
  try:
    yield
  except Exception:
    _holder = None
    raise
  finally:
    os.dup2(holder.stderr, _STDERR)
    sys.stderr.flush()
    sys.stderr, _is_on = python, False
    if _holder is None:
      holder.show()


def _writer(python: TextIO, stderr: int) -> TextIO:
  """What stands for `sys.stderr` while descriptor 2 is another's."""
  return open(
    os.dup(stderr),
    "w",
    buffering=1,
    encoding=getattr(python, "encoding", None),
    errors=getattr(python, "errors", None),
  )
