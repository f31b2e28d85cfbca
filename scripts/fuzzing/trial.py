# SPDX-License-Identifier: Apache-2.0
"""One command in a fork, with limits, and what it may not do there."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from typing import List, NamedTuple, Optional, Sequence

from google.protobuf import text_format

from fuzzing import mutations

# Of a command, in seconds of its processors; a fork that waits for something
# has no more seconds than this many times as many, not counting those in which
# others had the processors.
SECONDS, _WAITING = 20, 6
MOST_BYTES = 3 << 30
# What takes more is measured, up to a size that a machine has to spare.
_SPARE_BYTES = 3 << 30
LONGEST_LINE = 4000
_NO_MEMORY = "it takes more memory than there is"
_UNSAID = re.compile(
  r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u200e\u200f\u202a-\u202e]"
)


class Ended(NamedTuple):
  """How a process ended.

  Attributes:
    status: its exit status, negative for a signal; None where it was ended for
      taking too long.
    most_bytes: of memory that it had at any time.
  """

  status: Optional[int]
  most_bytes: int


class Outcome(NamedTuple):
  """What came of a command.

  Attributes:
    status: its exit status, negative for a signal; None without an answer.
    said: its stdout and stderr.
    faults: what it may not do and did, a line each.
  """

  status: Optional[int]
  said: str
  faults: List[str]


def start(arguments: Sequence[str], folder: str) -> int:
  """Starts a command in a folder that holds its files; a process's id."""
  child = os.fork()
  if not child:
    os.setpgid(0, 0)  # so that it can be killed with what it starts
    _limit()
    os.chdir(folder)
    for stream, name in ((1, "stdout"), (2, "stderr")):
      os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os._exit(_status(arguments))
  with contextlib.suppress(OSError):  # it has done so and is another program
    os.setpgid(child, child)
  return child


def run(arguments: Sequence[str], folder: str) -> Outcome:
  """Runs a command in a folder that holds its input files."""
  os.mkfifo(os.path.join(folder, mutations.TRAP))
  os.mkdir(os.path.join(folder, "out"))
  before = _seen(folder)
  ended = wait(start(arguments, folder))
  status = ended.status
  out, err = (_text(folder, name) for name in ("stdout", "stderr"))
  faults = list(_faults(ended, out, err))
  for name in ("stdout", "stderr"):
    os.remove(os.path.join(folder, name))
  made = os.listdir(os.path.join(folder, "out"))
  if any(".part" in name for name in made) or (made and status == 3):
    faults.append(f"left {made}")
  shutil.rmtree(os.path.join(folder, "out"))
  os.mkdir(os.path.join(folder, "out"))
  after = _seen(folder)
  if after != before:
    faults.append(f"touched {sorted(set(before.items()) ^ set(after.items()))}")
  return Outcome(status, out + err, faults)


def _limit():
  for kind, most in (
    (resource.RLIMIT_CPU, SECONDS),
    (resource.RLIMIT_AS, _address_space() + MOST_BYTES + _SPARE_BYTES),
    (resource.RLIMIT_CORE, 0),
  ):
    resource.setrlimit(kind, (most, most))


def _address_space():
  with open("/proc/self/statm") as f:
    return int(f.read().split()[0]) * resource.getpagesize()


def wait(child: int) -> Ended:
  """Waits for a process, and ends it where it takes too long."""
  end = time.time() + SECONDS * _WAITING
  while True:
    pid, status, used = os.wait4(child, os.WNOHANG)
    if pid:
      break
    now = time.time()
    if now > end and now > end + _queued(child):
      os.kill(child, signal.SIGKILL)
      _, _, used = os.wait4(child, 0)
      return Ended(None, used.ru_maxrss << 10)
    time.sleep(0.01)
  most_bytes = used.ru_maxrss << 10
  if os.WIFEXITED(status):
    return Ended(os.WEXITSTATUS(status), most_bytes)
  signalled = os.WTERMSIG(status)
  # The hard limit on processor time kills.
  if signalled in (signal.SIGXCPU, signal.SIGKILL):
    return Ended(None, most_bytes)
  return Ended(-signalled, most_bytes)


def _queued(process) -> float:
  """Seconds in which threads of a process waited for a processor."""
  found = 0
  for path in glob.glob(f"/proc/{process}/task/*/schedstat"):
    with contextlib.suppress(OSError):  # the thread has ended
      with open(path) as f:
        found += int(f.read().split()[1])
  return found / 1e9


def _status(arguments):
  """Runs the command to its end; its exit status."""
  from absl import flags

  from bnexport import freeze, inspect, repair, transform, validate
  from bnexport.cli import process

  commands = {
    "freeze": freeze,
    "inspect": inspect,
    "repair": repair,
    "transform": transform,
    "validate": validate,
  }
  status = 1
  try:
    argv = flags.FLAGS(list(arguments))
    status = process.status_of(commands[arguments[0]].main, argv)
    if status == 0:
      _import_what_was_made(arguments)
  except BaseException:
    traceback.print_exc()
    status = 1
  sys.stdout.flush()
  sys.stderr.flush()
  return status


def _import_what_was_made(arguments):
  """Raises what TensorFlow raises of a graph that is called good.

  With --validate=false nobody asked whether it takes the graph; what it took
  before, it has to take then, too.
  """
  path = "out/made.pb"
  if not os.path.exists(path):
    return
  try:
    _import(path)
  except Exception:
    if "--validate=false" not in arguments or _was_taken(arguments):
      raise


def _was_taken(arguments) -> bool:
  """Whether TensorFlow takes the graph that a command was given."""
  given = dict(argument.split("=", 1) for argument in arguments[1:])
  path = given.get("--graph_def") or given["--checkpoint"] + ".meta"
  try:
    _import(path)
  except Exception:
    return False
  return True


def _import(path):
  from bnexport.graph.importing import import_graph
  from bnexport.tf1 import tf1

  with open(path, "rb") as f:
    data = f.read()
  if path.endswith(".meta"):
    graph_def = tf1.MetaGraphDef.FromString(data).graph_def
  elif path.endswith(".pbtxt"):
    graph_def = text_format.Parse(data, tf1.GraphDef())
  else:
    graph_def = tf1.GraphDef.FromString(data)
  import_graph(graph_def)


def _text(folder, name):
  with open(os.path.join(folder, name), "rb") as f:
    return f.read().decode("utf-8", "backslashreplace")


def _seen(folder):
  """Size and time of every file below a folder, but those of its output."""
  found = {}
  for where, folders, names in os.walk(folder):
    if where == folder:
      folders.remove("out")
    for name in names:
      path = os.path.join(where, name)
      stat = os.lstat(path)
      found[os.path.relpath(path, folder)] = (stat.st_size, stat.st_mtime_ns)
  return found


def _faults(ended, out, err):
  status = ended.status
  if ended.most_bytes > MOST_BYTES:
    yield f"takes {ended.most_bytes >> 20} MB"
  if _NO_MEMORY in err:
    yield "asks for more memory than there is"
  if status is None:
    yield "gives no answer"
    return
  if status < 0:
    yield f"ends by signal {-status}"
  if "Traceback (most" in err:
    yield "traceback: " + _signature(err)
  elif status not in (0, 2, 3, None) and status > 0:
    yield f"exits with {status}"
  lines = err.splitlines()
  if status == 3:
    cannot = [line for line in lines if line.startswith("bnexport: cannot ")]
    if len(cannot) != 1 or lines[-1] != cannot[0]:
      yield "a refusal that is not one line"
    elif ";" not in cannot[0] and ": write" not in cannot[0]:
      yield "a refusal without a step: " + cannot[0][:300]
  if "Traceback (most" in err:
    return
  if _UNSAID.search(out) or _UNSAID.search(err):
    yield "prints control characters"
  if not out.startswith("{"):  # as JSON, for programs, names are whole
    lines += out.splitlines()
  if any(len(line) > LONGEST_LINE for line in lines):
    yield "prints a line without an end"


def _signature(err):
  """The last line of a traceback and the last of our own lines in it."""
  places = [
    line.strip()
    for line in err.splitlines()
    if line.startswith("  File") and "/bnexport/" in line
  ]
  place = places[-1].rpartition("/bnexport/")[2] if places else ""
  return f"{err.rstrip().splitlines()[-1][:200]} [{place}]"
