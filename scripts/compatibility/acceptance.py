# SPDX-License-Identifier: Apache-2.0
"""Cases of a zoo through the commands, in the TensorFlow of this process.

python -m compatibility.acceptance FOLDER CASE...

FOLDER holds cases as `tests/zoo` has them, unpacked. Each line of stdout is
JSON: first Python's version, then a case, the route it took, and the fault that
was found with what the command did, or null.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile

import numpy as np
import zoo
from benchmarks.timing import ROOT
from judges import forking

from bnexport.tf1 import tf1

# The arguments of each route. As a stream, a file is made of a training graph
# by a process that imports no TensorFlow where that has messages apart.
ROUTES = {
  "freeze": ("freeze",),
  "stream": ("freeze", "--engine=stream", "--validate=false"),
  "repair": ("repair",),
}
# On a machine that has nothing else to do it takes two.
_SECONDS = 900


def main(folder, *names):
  _tell(python=platform.python_version())
  for name in names:
    case = zoo.read(os.path.join(folder, name))
    for route in ROUTES:
      if route == "repair" and case.naive is None:
        continue
      _tell(case=name, route=route, fault=_fault(case, route))


def _tell(**said):
  print(json.dumps(said), flush=True)


def _fault(case, route):
  """The fault of what a route makes of a case, or None."""
  with tempfile.TemporaryDirectory(prefix="bnexport-") as folder:
    path = os.path.join(folder, "made.pb")
    arguments = ["-m", *_command(case, route, path)]
    run = _run_alone if route == "stream" else forking.run
    status, _, err = run(arguments)
    last = (err.strip().splitlines() or ["nothing on stderr"])[-1]
    if case.expect == "refuse":
      is_refused = status == 3 and "Traceback" not in err
      if is_refused and not os.path.exists(path):
        return None
      return "it is not refused; status %s: %s" % (status, last)
    if status != 0:
      return "status %s: %s" % (status, last)
    return fault_of_answers(case, path)


def _command(case, route, path):
  """Module and flags."""
  command, *flags = ROUTES[route]
  arguments = [
    "bnexport." + command,
    *flags,
    "--checkpoint=" + case.prefix,
    "--output_node=" + ",".join([case.output, *case.also]),
    "--output_graph=" + path,
    "--set=" + ",".join("%s=%s" % item for item in case.set.items()),
    "--keep_batch_statistics=" + ",".join(case.keep_scopes),
    "--moving_averages=" + str(case.ema),
  ]
  if route == "repair":
    arguments.append("--graph_def=" + case.naive)
  if case.cut_input:
    arguments.append("--input_node=" + case.input)
  if case.average:
    arguments.append("--average_name=" + case.average)
  if case.no_run_115:
    arguments.append("--data_format=NHWC")
  return arguments


def _run_alone(arguments):
  """Runs Python's arguments; the exit status, stdout and stderr."""
  try:
    done = subprocess.run(
      [sys.executable, *arguments],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      universal_newlines=True,
      env=dict(os.environ, PYTHONPATH=ROOT),
      timeout=_SECONDS,
    )
  except subprocess.TimeoutExpired:
    return None, "", "it takes longer than %g seconds" % _SECONDS
  return done.returncode, done.stdout, done.stderr


def fault_of_answers(case, path):
  """The fault of an exported graph's answers to a case's input, or None."""
  try:
    answers, part = _answers(case, path)
  # Whatever TensorFlow says of the graph is the fault.
  except Exception as error:
    return "it does not run: " + " ".join(str(error).split())
  names = [case.output, *case.also]
  for name, value, truth in zip(names, answers, [case.y, *case.also_y]):
    if (value.dtype, value.shape) != (truth.dtype, truth.shape):
      return "'%s' is %s%s" % (name, value.dtype, list(value.shape))
    off = _off(value, truth)
    if not off <= case.tol:
      return "'%s' is off by %.1e" % (name, off)
  whole = answers[0][: len(part)]
  if part.shape != whole.shape or not _off(part, whole) <= case.tol:
    return "a row's answer depends on its batch"
  return None


def _answers(case, path):
  """The outputs' values, and the first one's on half of the batch."""
  graph_def = tf1.GraphDef()
  with open(path, "rb") as f:
    graph_def.ParseFromString(f.read())
  outputs = [name + ":0" for name in [case.output, *case.also]]
  x = case.input + ":0"
  with tf1.Graph().as_default():
    tf1.import_graph_def(graph_def, name="")
    with tf1.Session() as session:
      answers = session.run(outputs, {x: case.x})
      if case.keep or case.keep_scopes or case.joint:
        return answers, answers[0]
      half = case.x[: (len(case.x) + 1) // 2]
      return answers, session.run(outputs[0], {x: half})


def _off(value, truth):
  """The largest difference, of the largest magnitude or 1."""
  value, truth = np.float64(value), np.float64(truth)
  return np.max(np.abs(value - truth)) / max(1.0, np.max(np.abs(truth)))


if __name__ == "__main__":
  main(*sys.argv[1:])
