# SPDX-License-Identifier: Apache-2.0
"""Many checkpoints on Apache Beam's runners, in real processes.

BNEXPORT_BEAM_CHECKPOINTS says how many, and BNEXPORT_BEAM_SHARDS how many
shards of data there are; 200 checkpoints take some minutes.
"""

import glob
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from judges.commands import ROOT, copy_of

from bnexport.sources.files import read_proto
from bnexport.tf1 import tf1

pytest.importorskip("apache_beam")

COUNT = int(os.environ.get("BNEXPORT_BEAM_CHECKPOINTS", "10"))
SHARDS = int(os.environ.get("BNEXPORT_BEAM_SHARDS", "8"))
MULTI_PROCESSING = (
  "--runner=DirectRunner",
  "--beam_options=--direct_num_workers=2 "
  "--direct_running_mode=multi_processing",
)


@pytest.fixture
def runs(cases, tmp_path):
  """Runs with a checkpoint each, every tenth of them bad in another way."""
  spoil = [_cut_index, _remove_values, _remove_graph, _flip_values]
  case = cases("layers_fused_literal")
  for i in range(COUNT):
    folder = tmp_path / "runs" / f"{i:03d}"
    folder.mkdir(parents=True)
    prefix = copy_of(case, folder)
    if i % 10 == 5:
      spoil[i // 10 % len(spoil)](prefix)
  return tmp_path / "runs"


def _cut_index(prefix):
  with open(prefix + ".index", "rb+") as f:
    f.truncate(100)


def _remove_values(prefix):
  os.remove(prefix + ".data-00000-of-00001")


def _remove_graph(prefix):
  os.remove(prefix + ".meta")


def _flip_values(prefix):
  with open(prefix + ".data-00000-of-00001", "rb+") as f:
    f.seek(-8, os.SEEK_END)
    f.write(b"\xff" * 8)


def start(folder, *flags):
  """The command as a process, which writes to the files `out` and `err`."""
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "bnexport.freeze",
      "--checkpoint=runs/*/model.ckpt*",
      "--output_node=prob",
      "--proof=quick",
      *flags,
    ],
    cwd=str(folder),
    env=dict(os.environ, PYTHONPATH=ROOT),
    stdout=open(str(folder / "out"), "w"),
    stderr=open(str(folder / "err"), "w"),
  )


def wait(process, folder):
  """What the process printed; it refused some of the checkpoints."""
  status = process.wait()
  assert status == 3, (folder / "err").read_text()
  return (folder / "out").read_text()


def verdicts(out):
  """The word and what is said, by checkpoint."""
  said = {}
  for line in out.splitlines():
    found = re.match(r"(ok|differs|refused|failed) (\S+): (.*)", line)
    if found:
      word, checkpoint, rest = found.groups()
      assert checkpoint not in said, "each is told once"
      said[checkpoint] = word, rest
  return said


def descendants(process):
  """Process ids below one, with their command lines."""
  parents = {}
  for path in glob.glob("/proc/[0-9]*/stat"):
    try:
      with open(path) as f:
        fields = f.read().rsplit(")", 1)[1].split()
      with open(os.path.join(os.path.dirname(path), "cmdline")) as f:
        command = f.read()
    except OSError:
      continue  # it has ended meanwhile
    parents[int(path.split("/")[2])] = int(fields[1]), command
  found, more = {}, [process]
  while more:
    parent = more.pop()
    for child, (its_parent, command) in parents.items():
      if its_parent == parent:
        found[child] = command
        more.append(child)
  return found


def test_every_verdict_is_that_of_jobs_though_a_worker_is_killed(runs):
  folder = runs.parent
  alone = start(folder, "--jobs=2", "--output_graph=alone-{run}.pb")
  expected = wait(alone, folder)
  on_beam = start(
    folder,
    "--output_graph=beam-{run}.pb",
    "--summary=summary.json",
    *MULTI_PROCESSING,
  )
  while not (folder / "out").read_text():
    assert on_beam.poll() is None, (folder / "err").read_text()
    time.sleep(0.1)
  harness = [
    process
    for process, command in descendants(on_beam.pid).items()
    if "sdk_worker_main" in command
  ]
  os.kill(harness[0], signal.SIGKILL)
  told = verdicts(wait(on_beam, folder))
  assert told == {
    checkpoint: (word, says.replace("alone-", "beam-"))
    for checkpoint, (word, says) in verdicts(expected).items()
  }
  assert len(told) == COUNT
  # Every file is whole, and nothing else is left.
  graphs = sorted(glob.glob(str(folder / "beam-*.pb")))
  assert len(graphs) == sum(word == "ok" for word, _ in told.values())
  for graph in graphs:
    twin = graph.replace("/beam-", "/alone-")
    with open(graph, "rb") as one, open(twin, "rb") as other:
      assert one.read() == other.read()
  assert not [name for name in os.listdir(str(folder)) if "part" in name]
  with open(str(folder / "summary.json")) as f:
    summary = json.load(f)
  assert summary["checkpoints"] == COUNT
  assert summary["counts"]["ok"] == len(graphs)


@pytest.mark.newest("the service's processes do not run TensorFlow")
def test_a_portable_job_service_on_loopback(runs):
  folder = runs.parent
  service = subprocess.Popen(
    [
      sys.executable,
      "-m",
      "apache_beam.runners.portability.local_job_service_main",
      "--job_port=0",
      "--port_file=port",
    ],
    cwd=str(folder),
    env=dict(os.environ, PYTHONPATH=ROOT),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  try:
    port = _port(str(folder / "port"), service)
    given = (
      "--runner=PortableRunner",
      f"--beam_options=--job_endpoint=localhost:{port} "
      "--environment_type=LOOPBACK",
    )
    told = verdicts(wait(start(folder, *given), folder))
    assert len(told) == COUNT
    again = verdicts(wait(start(folder, "--resume", *given), folder))
    assert again == {c: said for c, said in told.items() if said[0] != "ok"}
  finally:
    service.terminate()
    service.wait()


def test_a_transform_in_a_pipeline_of_ones_own(runs, monkeypatch):
  from apache_beam import Create, Map, Pipeline
  from apache_beam.metrics import MetricsFilter

  from bnexport.exporting.beam import ExportCheckpoints

  monkeypatch.setenv("PYTHONPATH", ROOT)
  prefixes = [str(runs / name / "model.ckpt") for name in ("000", "005")]
  told = str(runs / "told")
  pipeline = Pipeline()
  (
    pipeline
    | Create(prefixes)
    | ExportCheckpoints(outputs=["prob"], output_graph="{dir}/own.pb")
    | Map(_note, told)
  )
  done = pipeline.run()
  done.wait_until_finish()
  with open(told) as f:
    lines = sorted(f.read().splitlines())
  assert lines == [f"{prefixes[0]} ok", f"{prefixes[1]} refused"]
  assert (runs / "000" / "own.pb").exists()
  counters = done.metrics().query(MetricsFilter().with_namespace("bnexport"))
  counts = {c.key.metric.name: c.committed for c in counters["counters"]}
  assert counts == {"ok": 1, "refused": 1}


def _note(one, path):
  with open(path, "a") as f:
    f.write(f"{one.checkpoint} {one.word}\n")


def _port(path, service):
  """The port that a service writes to a file once it listens."""
  for _ in range(600):
    assert service.poll() is None, "the service ended"
    if os.path.exists(path):
      with open(path) as f:
        said = f.read().strip()
      if said:
        return said
    time.sleep(0.1)
  raise AssertionError("the service did not say its port")


# Statistics from data.

INPUT = """
import numpy as np

def row(record):
  return {"images": np.frombuffer(record, np.float32).reshape(SHAPE)}
"""


@pytest.fixture
def shards(cases, tmp_path):
  """A checkpoint and TFRecord shards of rows for its graph."""
  case = cases("layers_fused_literal")
  copy_of(case, tmp_path)
  shape = case.x.shape[1:]
  rows = np.random.RandomState(2).normal(size=(SHARDS * 5, *shape))
  for i, shard in enumerate(np.split(rows.astype(np.float32), SHARDS)):
    path = str(tmp_path / f"data-{i:02d}")
    with tf1.python_io.TFRecordWriter(path) as f:
      for one in shard:
        f.write(one.tobytes())
  (tmp_path / "rows.py").write_text(INPUT.replace("SHAPE", str(shape)))
  return tmp_path


def recalibrated(folder, name, *flags):
  """The constants of an export with statistics of the shards."""
  process = start(
    folder,
    f"--output_graph={name}.pb",
    "--checkpoint=model.ckpt",
    "--calibration_data=data-*",
    "--calibration_input=rows.py:row",
    "--recalibrate=all",
    "--fold_batch_norms=false",
    *flags,
  )
  assert process.wait() == 0, (folder / "err").read_text()
  graph = read_proto(str(folder / (name + ".pb")), tf1.GraphDef, "the graph")
  return {
    node.name: tf1.make_ndarray(node.attr["value"].tensor)
    for node in graph.node
    if node.op == "Const"
  }


@pytest.mark.part(2, 1)
@pytest.mark.parametrize("workers", [1, 2])
def test_statistics_gathered_by_workers_are_those_of_one_process(
  shards, workers
):
  alone = recalibrated(shards, "alone")
  moving = [name for name in alone if "moving_" in name]
  assert len(moving) >= 4
  spread = recalibrated(
    shards,
    "spread",
    "--runner=DirectRunner",
    f"--beam_options=--direct_num_workers={workers} "
    "--direct_running_mode=multi_processing",
  )
  assert spread.keys() == alone.keys()
  for name, value in alone.items():
    np.testing.assert_allclose(spread[name], value, 1e-6, 1e-6)
  assert not [name for name in os.listdir(str(shards)) if "part" in name]
