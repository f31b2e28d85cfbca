# SPDX-License-Identifier: Apache-2.0
"""Worker processes that take one item after another.

A process that dies, of a crash or for lack of memory, costs only the item
that it had. The standard library's pools break or hang then, and tell neither
its exit status nor its last words.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import types
from multiprocessing import connection

# Results and deaths wake the loop; this is for a caller that shows the time.
_SECONDS = 1.0


class Died(collections.namedtuple("Died", "how last_words")):
  """In the place of a result: how the process ended, and its last line."""


def run(items, function, count, clear):
  """Calls a function for each item, in processes of their own.

  Args:
    items: objects that can be pickled.
    function: a module's function, or a partial of one; it never returns None.
      It may import TensorFlow: processes are spawned, not forked.
    count: how many processes to have, at most.
    clear: called with a process id and an item where a process ended without a
      result, so that it can remove what is half done.

  Yields:
    (item, result) as they come, the result a Died where there is none; and
    None now and then. Closing the generator kills the processes.
  """
  waiting, workers = collections.deque(items), []
  try:
    while waiting or workers:
      while waiting and len(workers) < count:
        workers.append(Worker(function, waiting.popleft()))
      ready = connection.wait([w.connection for w in workers], _SECONDS)
      for worker in [w for w in workers if w.connection in ready]:
        item, result = worker.item, worker.result()
        if waiting and not isinstance(result, Died):
          worker.give(waiting.popleft())
        else:
          workers.remove(worker)
          worker.dismiss()
        if isinstance(result, Died):
          clear(worker.process.pid, item)
        yield item, result
      yield None
  finally:
    with _undisturbed():
      for worker in workers:
        worker.process.kill()
        worker.process.join()
        worker.dismiss()
        clear(worker.process.pid, worker.item)


class Worker:
  """A process, and the item that it has or had last."""

  def __init__(self, function, item):
    """Starts the process; it takes further items with `give`."""
    context = multiprocessing.get_context("spawn")
    self._log = tempfile.NamedTemporaryFile(prefix="bnexport-")
    self.connection, other_end = context.Pipe()
    self.process = context.Process(
      target=_work, args=(other_end, function, self._log.name), daemon=True
    )
    # Ctrl-C goes to all processes of a terminal; only the first is to act. A
    # process inherits what is blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
      with _no_main():
        self.process.start()
    finally:
      signal.pthread_sigmask(signal.SIG_SETMASK, before)
    other_end.close()  # so that the death of the process closes the pipe
    self.give(item)

  def give(self, item):
    self.item = item
    with contextlib.suppress(OSError):  # it has died, which `result` finds
      self.connection.send(item)

  def result(self):
    """Waits for the function's result, or the death of the process."""
    try:
      return self.connection.recv()
    except (EOFError, OSError):
      self.process.join()
    code = self.process.exitcode
    how = signal.Signals(-code).name if code < 0 else f"status {code}"
    said = self._log.read().decode(errors="replace").splitlines()
    lines = [line.strip() for line in said if line.strip()]
    return Died(how, lines[-1] if lines else "")

  def dismiss(self):
    """Closes the pipe, upon which the process ends by itself."""
    self.connection.close()
    self._log.close()


def _work(items, function, log):
  """Answers every item until the pipe is closed."""
  # The output of the item's code and of TensorFlow is not for the terminal; its
  # end may say why the process died.
  os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), 2)
  while True:
    try:
      item = items.recv()
    except EOFError:
      return
    os.ftruncate(2, 0)
    items.send(function(item))


@contextlib.contextmanager
def _no_main():
  """Hides the main module, which a spawned process imports once more.

  It may be a script that trains, or that starts a pipeline.
  """
  main = sys.modules["__main__"]
  sys.modules["__main__"] = types.ModuleType("__main__")
  try:
    yield
  finally:
    sys.modules["__main__"] = main


@contextlib.contextmanager
def _undisturbed():
  """A second Ctrl-C does not interrupt the clearing up."""
  signals = (signal.SIGINT, signal.SIGTERM)
  before = [signal.signal(number, signal.SIG_IGN) for number in signals]
  try:
    yield
  finally:
    for number, handler in zip(signals, before):
      signal.signal(number, handler)
