# SPDX-License-Identifier: Apache-2.0
"""A process that has imported TensorFlow, and forks for what is run in it.

That import is most of what a command takes as a process. A fork has its own
directory, arguments, streams and exit status, and imports bnexport anew; what
it does not show is what importing TensorFlow prints and costs.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import runpy
import selectors
import signal
import subprocess
import sys
import traceback

_ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
_SERVER = []
# A run that takes longer than these seconds is ended.
_LONGEST = 300


def run(arguments, cwd=None, largest_file=None):
  """Runs Python's arguments: `-m MODULE ...`, `-c CODE ...` or `FILE ...`.

  Args:
    arguments: as behind `python`.
    cwd: the directory to run in.
    largest_file: how many bytes a file may have there; any where it is None.

  Returns:
    The exit status as subprocess has it, stdout and stderr.
  """
  if not _SERVER:
    process = subprocess.Popen(
      [sys.executable, os.path.abspath(__file__)],
      env=dict(os.environ, PYTHONPATH=_ROOT),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      universal_newlines=True,
    )
    _SERVER.append(process)
    atexit.register(process.communicate)  # which ends it
  (server,) = _SERVER
  asked = [list(arguments), str(cwd or os.getcwd()), largest_file]
  server.stdin.write(json.dumps(asked) + "\n")
  server.stdin.flush()
  return json.loads(server.stdout.readline())


def _serve():
  from bnexport.tf1 import full  # noqa: F401

  for name in [n for n in sys.modules if n.partition(".")[0] == "bnexport"]:
    del sys.modules[name]
  for line in sys.stdin:
    print(json.dumps(_run_in_fork(*json.loads(line))), flush=True)


def _run_in_fork(arguments, cwd, largest_file):
  readers, writers = zip(os.pipe(), os.pipe())
  child = os.fork()
  if not child:
    for writer, stream in zip(writers, (1, 2)):
      os.dup2(writer, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.alarm(_LONGEST)
    os.chdir(cwd)
    if largest_file is not None:
      hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
      resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, hard))
    os._exit(_status(arguments))
  for writer in writers:
    os.close(writer)
  said = [part.decode() for part in _read(readers)]
  status = os.waitpid(child, 0)[1]
  if os.WIFSIGNALED(status):
    return [-os.WTERMSIG(status)] + said
  return [os.WEXITSTATUS(status)] + said


def _read(readers):
  """Reads several pipes to their ends."""
  found = {reader: b"" for reader in readers}
  with selectors.DefaultSelector() as selector:
    for reader in readers:
      selector.register(reader, selectors.EVENT_READ)
    while selector.get_map():
      for key, _ in selector.select():
        data = os.read(key.fd, 1 << 16)
        found[key.fd] += data
        if not data:
          selector.unregister(key.fd)
          os.close(key.fd)
  return [found[reader] for reader in readers]


def _status(arguments):
  """Runs what Python would, to the end of the process; its exit status."""
  try:
    _execute(*arguments)
    status = 0
  except SystemExit as end:
    status = end.code or 0
    if not isinstance(status, int):
      print(status, file=sys.stderr)
      status = 1
  except BaseException:
    traceback.print_exc()
    status = 1
  atexit._run_exitfuncs()
  sys.stdout.flush()
  sys.stderr.flush()
  return status


def _execute(what, *rest):
  if what == "-m":
    sys.path[0], sys.argv = os.getcwd(), list(rest)
    runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
  elif what == "-c":
    sys.path[0], sys.argv = "", ["-c"] + list(rest[1:])
    exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
  else:
    sys.path[0], sys.argv = os.path.dirname(what), [what] + list(rest)
    runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
  _serve()
