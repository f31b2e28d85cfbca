# SPDX-License-Identifier: Apache-2.0
"""Commands that are killed at a random moment: nothing may be lost.

What is at the output is what was there before or what the command writes,
whole; what it reads is as it was; and what else it leaves goes when it runs
again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
from typing import Dict, Iterator, List, NamedTuple, Tuple

from fuzzing import artefacts, trial

_OUT = "out"
_OLD = b"what was there before"
_CASES = ("layers_fused_phase", "layers_fused_literal", "contrib_fused_phase")
# Of a whole report, which states a time, the last bytes are compared.
_END = 7
_RUNS = ("first", "second", "third")
# Beside each of several graphs; it states two graphs while one is replaced.
_RECORD = ".bnexport.json"

Files = Dict[str, bytes]


class Whole(NamedTuple):
  """What a command does that nobody kills: its files, and in what time."""

  files: Files
  seconds: float


def lines(output: str) -> Tuple[Tuple[str, ...], ...]:
  """Command lines for a zoo case; `inspect` and `validate` write nothing."""
  folder = artefacts.FOLDER
  trained, frozen = f"--checkpoint={folder}/model.ckpt", f"{folder}/naive.pb"
  asked = (f"--output_node={output}", "--overwrite")
  proven = (*asked, "--proof=quick")
  many = f"--checkpoint={folder}/*/model.ckpt"
  made, report = f"{_OUT}/made.pb", f"--report={_OUT}/made.html"
  return (
    ("freeze", trained, f"--output_graph={made}", *proven),
    ("freeze", trained, f"--output_graph={made}", "--novalidate", *asked),
    ("freeze", trained, f"--saved_model_out={_OUT}/made", *proven),
    ("freeze", trained, f"--output_graph={made}", report, *proven),
    (
      "repair",
      f"--graph_def={frozen}",
      trained,
      f"--output_graph={made}",
      *proven,
    ),
    (
      "transform",
      f"--in_graph={frozen}",
      f"--out_graph={made}",
      f"--outputs={output}",
      "--transforms=fold_constants",
      "--overwrite",
    ),
    (
      "freeze",
      many,
      f"--output_graph={_OUT}/{{run}}.pb",
      "--novalidate",
      "--jobs=2",
      *asked,
    ),
    ("inspect", trained),
    ("validate", f"--graph={frozen}", f"--output_node={output}"),
  )


def run(count: int, seed: int) -> Iterator[Tuple[str, List[str]]]:
  """Kills so many commands; yields each and what was lost, a line each."""
  draw = random.Random(seed)
  wholes: Dict[Tuple[str, ...], Whole] = {}
  for _ in range(count):
    name = draw.choice(_CASES)
    with tempfile.TemporaryDirectory(prefix="kill") as folder:
      case = artefacts.unpacked(name, folder)
      _copy_checkpoint(os.path.join(folder, artefacts.FOLDER))
      line = draw.choice(lines(case.output))
      if (name, *line) not in wholes:
        begin = time.time()
        files = _finished(line, folder)
        wholes[(name, *line)] = Whole(files, time.time() - begin)
      whole = wholes[(name, *line)]
      moment = draw.uniform(0, whole.seconds)
      faults = list(_killed(line, folder, whole.files, moment, draw))
      yield f"{' '.join(line)} of {name} after {moment:.3f} s", faults


def _copy_checkpoint(folder):
  """Makes several checkpoints of one, each in a directory of its own."""
  parts = [n for n in os.listdir(folder) if n.startswith("model.ckpt.")]
  for run in _RUNS:
    os.mkdir(os.path.join(folder, run))
    for part in parts:
      shutil.copy(os.path.join(folder, part), os.path.join(folder, run))


def _finished(line, folder) -> Files:
  """Runs a command to its end; what it wrote."""
  os.makedirs(os.path.join(folder, _OUT), exist_ok=True)
  status = trial.wait(trial.start(line, folder)).status
  assert status in (0, 2), (line, status)
  return _contents(os.path.join(folder, _OUT))


def _killed(line, folder, whole, moment, draw) -> Iterator[str]:
  """Kills a command after so many seconds; yields what was lost."""
  out, given = (os.path.join(folder, n) for n in (_OUT, artefacts.FOLDER))
  read = _contents(given)
  before = draw.choice(({}, whole, {name: _OLD for name in whole}))
  if any(os.sep in name for name in whole) and before is not whole:
    before = {}  # a directory is replaced by no other
  shutil.rmtree(out, ignore_errors=True)
  _write(before, out)
  child = trial.start(line, folder)
  time.sleep(moment)
  os.killpg(child, signal.SIGKILL)
  os.waitpid(child, 0)
  left = _contents(out)
  own = {n: data for n, data in left.items() if ".bnexport-" not in n}
  for name in sorted({*own, *before}):
    is_old = own.get(name) == before.get(name)
    if not is_old and not _is_whole(name, own.get(name), whole.get(name)):
      yield f"'{name}' is neither the old nor the new file"
  if _contents(given) != read:
    yield "what was read is changed"
  again = _finished(line, folder)
  if sorted(again) != sorted(whole):
    yield f"there are {sorted(again)} after the next run"
  for name in sorted(set(again) & set(whole)):
    if not _is_whole(name, again[name], whole[name]):
      yield f"'{name}' is another after the next run"


def _write(files, folder):
  os.mkdir(folder)
  for name, data in files.items():
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
      f.write(data)


def _is_whole(name, data, whole) -> bool:
  if data is None or whole is None:
    return data is whole
  if name.endswith(_RECORD):
    return _is_json(data)
  if whole.startswith(b"<!DOCTYPE html>"):
    return data[-_END:] == whole[-_END:]
  return data == whole


def _is_json(data) -> bool:
  try:
    return isinstance(json.loads(data.decode()), dict)
  except ValueError:
    return False


def _contents(folder) -> Files:
  """Bytes of all files below a folder, by relative path."""
  found = {}
  for where, _, names in os.walk(folder):
    for name in names:
      path = os.path.join(where, name)
      with open(path, "rb") as f:
        found[os.path.relpath(path, folder)] = f.read()
  return found
