# SPDX-License-Identifier: Apache-2.0
"""A command as a process: its exit status, its end, its lines on stderr."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import threading
from typing import Callable, Optional, Sequence

from absl import app, flags

from bnexport import silence
from bnexport.cli import help, offers
from bnexport.errors import Error, SourceError, printable
from bnexport.exporting import progress as shown

DONE = 0
NOT_PROVEN = 2
REFUSED = 3

# So many new objects pass before Python looks for cycles among them: a command
# makes many that stay, and few cycles.
_NEW_OBJECTS = 20_000
# Seconds that an interrupted command takes at most to clear up.
_LONGEST_ENDING = 10.0


def run(main: Callable[[], Optional[int]]) -> None:
  """Runs a command's main as the process; see `status_of`."""
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, _interrupt)
  if help.HELP.intersection(sys.argv[1:]):
    sys.exit(_help())
  silence.ask()
  gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
  try:
    app.run(lambda argv: status_of(main, argv))
  except KeyboardInterrupt:
    sys.exit(_interrupted())


def _help() -> int:
  try:
    _printed(lambda: print(help.page()))
  except Error as error:
    return fail(error)
  return DONE


def _interrupt(number, frame):
  """Ends the process as Ctrl-C does; its clearing up is not interrupted."""
  for again in (signal.SIGINT, signal.SIGTERM):
    signal.signal(again, signal.SIG_IGN)
  # What is interrupted may swallow it, as what runs in a callback does.
  ending = threading.Timer(_LONGEST_ENDING, lambda: os._exit(_interrupted()))
  ending.daemon = True
  ending.start()
  raise KeyboardInterrupt


def _interrupted():
  """Takes away what is half done, and says so; returns the status."""
  # Without that module nothing was begun, and importing it takes seconds.
  writing = sys.modules.get("bnexport.exporting.writing")
  if writing is not None:
    writing.remove_parts()
  return fail(
    Error("finish", "interrupted", "nothing was written, run it again")
  )


def status_of(
  main: Callable[[], Optional[int]], argv: Sequence[str]
) -> Optional[int]:
  """Calls main; an expected failure is one line on stderr and status 3."""
  if len(argv) > 1:
    return fail(
      SourceError(
        f"use argument '{argv[1]}'",
        "every argument is a --flag=value",
        "see --help",
      )
    )

  def decoded():
    _refuse_undecodable()
    return main()

  return answer(decoded, argv[0])


def answer(main: Callable[[], Optional[int]], program: str) -> Optional[int]:
  """Calls main; an expected failure is one line on stderr and status 3."""
  try:
    return _printed(main)
  except Error as error:
    return fail(offers.with_command(error, program))
  except MemoryError:
    return fail(
      Error(
        "finish",
        "it takes more memory than there is",
        "cut large parts away with --input_node, or run it where there is more",
      )
    )
  except KeyboardInterrupt:
    return _interrupted()


def _printed(main: Callable[[], Optional[int]]) -> Optional[int]:
  """Calls main, and sees to it that what it printed has gone out.

  Raises:
    Error: nobody takes it, as where a disk is full or a pipe is closed.
  """
  try:
    with shown.phases():
      status = main()
    sys.stdout.flush()
    return status
  except OSError as error:
    if error.errno not in (errno.EPIPE, errno.ENOSPC):
      raise
    # Python flushes once more as it ends, and is not to complain again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise Error(
      "print the report",
      error.strerror,
      "what was written is whole; give stdout somewhere to go",
    ) from error


def _refuse_undecodable() -> None:
  """Raises SourceError where an argument is no text, such as a file's name."""
  for name, value in flags.FLAGS.flag_values_dict().items():
    for part in value if isinstance(value, list) else [value]:
      try:
        str(part).encode()
      except UnicodeEncodeError:
        raise SourceError(
          f"use --{name}={part}",
          "it is not written in UTF-8, and TensorFlow opens no such files",
          "rename the file",
        ) from None


def fail(error: Error) -> int:
  _tell(" ".join(str(error).split()))
  return REFUSED


def progress(text: str) -> None:
  """Says on stderr what is being done."""
  _tell(text)
  sys.stderr.flush()


def warn(text: str) -> None:
  _tell(f"warning: {text}")


def _tell(text: str) -> None:
  sys.stderr.write(f"bnexport: {printable(text)}\n")
