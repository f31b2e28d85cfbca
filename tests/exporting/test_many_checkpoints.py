# SPDX-License-Identifier: Apache-2.0
"""Many checkpoints at once: verdicts, --resume, what is left when it ends."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from judges.commands import (
  ROOT,
  Result,
  assert_refused,
  contents,
  copy_of,
  run_process,
)
from judges.commands import run as run_one
from judges.exporting import assert_close

from bnexport import cli, freeze
from bnexport.cli import meaning
from bnexport.cli.process import status_of
from bnexport.errors import SourceError
from bnexport.exporting import batch, progress, record, workers, writing
from bnexport.exporting import verdicts as verdicts_room
from bnexport.model.prefixes import is_several
from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_proto
from bnexport.tf1 import session, tf1

PARTS = (".index", ".data-00000-of-00001", ".meta")


def run(*arguments):
  """Calls freeze in this process; its workers are processes."""
  out, err = io.StringIO(), io.StringIO()
  with flagsaver.flagsaver(), contextlib.redirect_stdout(
    out
  ), contextlib.redirect_stderr(err):
    argv = flags.FLAGS(["freeze"] + list(arguments))
    status = status_of(freeze.main, argv)
  return Result(status, out.getvalue(), err.getvalue())


def verdicts(result):
  """The word and the rest of each line, by the name of the run."""
  said = {}
  for line in result.out.splitlines()[:-1]:
    word, prefix, rest = line.split(" ", 2)
    assert prefix.endswith(":")
    said[os.path.basename(os.path.dirname(prefix))] = (word, rest)
  return said


def words(result):
  return {name: word for name, (word, _) in verdicts(result).items()}


def answers(path, case):
  runner = ImportedGraph(
    read_proto(path, tf1.GraphDef, "the graph"), [case.output]
  )
  given = runner.run({case.input: case.x})[0]
  runner.close()
  return given


def save(prefix, values, version=tf1.train.SaverDef.V2, **options):
  """Writes a checkpoint with variables of these values."""
  os.makedirs(os.path.dirname(prefix), exist_ok=True)
  with tf1.Graph().as_default() as graph:
    tf1.disable_resource_variables()
    made = [
      tf1.get_variable(name, initializer=np.asarray(value, np.float32))
      for name, value in values.items()
    ]
    x = tf1.placeholder(tf1.float32, [None, 2], name="x")
    tf1.multiply(x, made[0], name="y")
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      tf1.train.Saver(write_version=version, **options).save(running, prefix)
  return prefix


def touch(path):
  """Makes an empty file and its directory; returns its path."""
  os.makedirs(os.path.dirname(str(path)), exist_ok=True)
  open(str(path), "w").close()
  return str(path)


def told(words, seconds=1.0):
  """A Tally to which verdicts of these words, each so often, were said."""
  tally = verdicts_room.Tally(sum(words.values()))
  with contextlib.redirect_stdout(io.StringIO()):
    for word, count in words.items():
      for i in range(count):
        tally.say(
          f"{word}/{i}",
          verdicts_room.Verdict(word, "as it is", f"why {i % 2}", seconds + i),
        )
  return tally


# Whole runs.


@pytest.fixture
def case(cases):
  return cases("layers_fused_literal")


@pytest.fixture
def runs(case, tmp_path):
  """Three runs with a checkpoint each; that of `cut` is cut short."""
  for name in ("a", "b", "cut"):
    folder = tmp_path / "runs" / name
    folder.mkdir(parents=True)
    prefix = copy_of(case, folder)
  with open(prefix + ".index", "rb+") as f:
    f.truncate(100)
  return tmp_path / "runs"


def change_values(folder):
  """Adds 1 to all float variables of a run's checkpoint."""
  prefix = str(folder / "model.ckpt")
  reader = tf1.train.NewCheckpointReader(prefix)
  values = {
    key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()
  }
  with tf1.Graph().as_default() as graph:
    tf1.disable_resource_variables()
    for key, value in values.items():
      more = 1 if value.dtype.kind == "f" else 0
      tf1.get_variable(key, initializer=value + more * np.ones_like(value))
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      tf1.train.Saver().save(running, prefix, write_meta_graph=False)


def test_a_run_and_its_resumption(runs, case, forked_workers):
  given = [
    "--checkpoint=%s/*/model.ckpt*" % runs,
    "--output_node=prob",
    "--report={dir}/{name}.json",
  ]
  first = run("--jobs=2", *given)
  assert first.status == 3, first.err
  assert words(first) == {"a": "ok", "b": "ok", "cut": "refused"}
  assert verdicts(first)["cut"][1].startswith("cannot read checkpoint ")
  assert first.out.splitlines()[-1] == "3 checkpoints: 2 ok, 1 refused"
  assert "Traceback" not in first.err
  graph = str(runs / "b" / "model.ckpt.frozen.pb")
  assert verdicts(first)["b"][1] == graph
  assert_close(answers(graph, case), case.y, case.tol)
  with open(str(runs / "a" / "model.ckpt.json")) as f:
    assert json.load(f)["proof"]["holds"] is True
  extra = set(contents(runs)) - {
    "%s/model.ckpt%s" % (name, end)
    for name in "ab"
    for end in PARTS + (".frozen.pb", ".frozen.pb.bnexport.json", ".json")
  }
  assert extra == {"cut/model.ckpt" + end for end in PARTS}

  change_values(runs / "b")
  for end in PARTS:
    shutil.copy(str(runs / "a" / ("model.ckpt" + end)), str(runs / "cut"))
  not_ours = runs / "cut" / "model.ckpt.frozen.pb"
  not_ours.write_bytes(b"not ours")
  again = run("--jobs=1", "--resume", *given)
  assert words(again) == {"a": "skipped", "b": "ok", "cut": "refused"}
  assert "the file exists" in verdicts(again)["cut"][1]
  assert again.out.splitlines()[-1] == (
    "3 checkpoints: 1 ok, 1 refused, 1 skipped"
  )
  assert not np.allclose(answers(graph, case), case.y, atol=1e-3)
  assert not_ours.read_bytes() == b"not ours"

  not_ours.unlink()
  shutil.rmtree(str(runs / "cut"))
  before = contents(runs)
  last = run("--resume", *given)  # starts no process
  assert last.status == 0
  assert words(last) == {"a": "skipped", "b": "skipped"}
  assert contents(runs) == before


def test_list_with_a_missing_one_into_a_directory(runs, case, forked_workers):
  graphs = runs / "graphs"
  graphs.mkdir()
  prefix = str(runs / "a" / "model.ckpt")
  result = run(
    "--checkpoint=%s-7,%s" % (prefix, prefix),
    "--output_graph=%s" % graphs,
    "--output_node=prob",
    "--jobs=1",
  )
  assert result.status == 3
  missing, done, summary = result.out.splitlines()
  assert missing.startswith("refused %s-7: cannot read checkpoint" % prefix)
  assert "did you mean '%s'?" % prefix in missing
  graph = str(graphs / "model.ckpt.frozen.pb")
  assert done == "ok %s: %s" % (prefix, graph)
  assert summary == "2 checkpoints: 1 ok, 1 refused"
  assert_close(answers(graph, case), case.y, case.tol)
  assert len(os.listdir(str(graphs))) == 2


@pytest.mark.parametrize(
  "arguments, skipped, overwrites",
  [
    (["--output_node=prob"], 2, 0),
    (["--output_node=prob", "--overwrite", "--jobs=3"], 2, 0),
    (["--output_node=logits"], 0, 2),
    (["--output_node=prob", "--set=a=1"], 0, 2),
    (["--output_node=prob", "--report={dir}/{name}.md"], 1, 1),
  ],
)
def test_what_is_done_again(tmp_path, arguments, skipped, overwrites):
  """Two graphs of --output_node=prob are there, one of them with a report."""

  def jobs_for(*given):
    flags.FLAGS(["freeze", "--checkpoint=%s/*/m" % tmp_path] + list(given))
    return batch.plan(cli.CHECKPOINT.value, None, cli.REPORT.value, ".pb")

  for name in "ab":
    touch(tmp_path / name / "m.index")
    touch(tmp_path / name / "m.meta")
  with flagsaver.flagsaver():
    for job in jobs_for("--output_node=prob"):
      origin = freeze._task(["prob"]).origin(job.checkpoint)
      list(record.noted(job.output, origin, [b""]))
      record.finish(job.output, True)
      touch(job.output)
  touch(tmp_path / "a" / "m.md")
  with flagsaver.flagsaver():
    jobs = jobs_for(*arguments)
    jobs, done = batch.resumed(jobs, freeze._task(meaning.named_outputs()))
  assert len(jobs) == 2 and len(done) == skipped
  assert sum(job.overwrite for job in jobs) == overwrites


def test_answers_that_differ(case, tmp_path, monkeypatch):
  """What a worker says then; --resume tries again."""
  from bnexport.proof.training_graph import TrainingGraph

  right = TrainingGraph.run
  monkeypatch.setattr(
    TrainingGraph,
    "run",
    lambda self, feeds: [a + 0.01 for a in right(self, feeds)],
  )
  prefix = copy_of(case, tmp_path)
  job = batch.Job(prefix, prefix + ".pb", None, False)
  with flagsaver.flagsaver():
    flags.FLAGS(["freeze", "--output_node=prob"])
    task = freeze._task(["prob"])
    verdict = batch.export_one(task, job)
    assert verdict.word == "differs"
    assert verdict.says.startswith(job.output + "; warning: ")
    assert "does not answer as its reference" in verdict.says
    origin = task.origin(prefix)
    assert not record.is_done(job.output, origin) and record.is_own(job.output)
    again = batch.export_one(task, job)
    assert again.word == "refused" and "the file exists" in again.says
    more = batch.export_one(task, job._replace(overwrite=True))
    assert more.word == "differs"


def test_one_checkpoint_is_as_ever(capsys, case, tmp_path):
  prefix = copy_of(case, tmp_path)
  result = run_one(capsys, "--checkpoint=" + prefix, "--output_node=prob")
  assert result.status == 0, result.err
  assert "\nwrote %s.frozen.pb:" % prefix in result.out
  assert len(contents(tmp_path)) == len(PARTS) + 1


SLOW = """
import os, sys, time
import tensorflow.compat.v1 as tf
from bnexport.exporting import writing

def build(x, is_training):
  w = tf.get_variable("w", [2])
  tf.multiply(x, w, name="y")
  calls = len(os.listdir("calls"))
  open("calls/%d" % calls, "w").close()
  if calls == 1:
    open(writing.part_of("runs/b/m.frozen.pb", os.getpid()), "w").close()
    open("waits", "w").write(str(os.getpid()))
    time.sleep(300)
"""


def test_interrupted_run(tmp_path):
  for name in "abc":
    save(str(tmp_path / "runs" / name / "m"), {"w": [1, 2]})
  (tmp_path / "slow.py").write_text(SLOW)
  (tmp_path / "calls").mkdir()
  before = set(contents(tmp_path / "runs"))
  process = subprocess.Popen(
    [
      sys.executable,
      "-m",
      "bnexport.freeze",
      "--checkpoint=runs/*/m",
      "--model=slow.py:build",
      "--input=x:float32:?,2",
      "--output_node=y",
      "--jobs=1",
    ],
    cwd=str(tmp_path),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    universal_newlines=True,
    start_new_session=True,
    env=dict(os.environ, PYTHONPATH=ROOT),
  )
  waits = tmp_path / "waits"
  end = time.time() + 240
  while not (waits.exists() and waits.read_text()):
    assert process.poll() is None and time.time() < end, process.communicate()
    time.sleep(0.1)
  os.killpg(process.pid, signal.SIGINT)  # as a terminal does
  out, err = process.communicate(timeout=60)
  assert process.returncode == 3, err
  assert out.splitlines() == [
    "ok runs/a/m: runs/a/m.frozen.pb",
    "3 checkpoints: 1 ok",
  ]
  assert err.splitlines()[-1] == (
    "bnexport: cannot finish: interrupted with 1 of 3 checkpoints looked at; "
    "pass --resume to go on from there"
  )
  assert "Traceback" not in err
  assert set(contents(tmp_path / "runs")) - before == {
    "a/m.frozen.pb",
    "a/m.frozen.pb.bnexport.json",
  }
  with pytest.raises(ProcessLookupError):
    os.kill(int(waits.read_text()), 0)


def test_help_says_so_without_tensorflow():
  result = run_process(
    "-X", "importtime", "-m", "bnexport.freeze", "--helpshort"
  )
  for words_ in ("--jobs", "--resume", "runs/*/model.ckpt-*", "{name}"):
    assert words_ in result.out
  modules = {line.split("|")[-1].strip() for line in result.err.splitlines()}
  assert "bnexport.cli" in modules and "tensorflow" not in modules


# Which checkpoints, and where their graphs go.


def prefixes(given):
  return [job.checkpoint for job in batch.plan(given, None, None, ".pb")]


def test_pattern_goes_by_number_and_takes_no_other_files(tmp_path):
  for step in (100, 9, 10):
    for end in PARTS + (".frozen.pb", ".frozen.pb.bnexport.json"):
      touch(tmp_path / "run" / ("model.ckpt-%d%s" % (step, end)))
  touch(tmp_path / "run" / "model.ckpt-7.meta")
  expected = [
    str(tmp_path / "run" / ("model.ckpt-%d" % step)) for step in (9, 10, 100)
  ]
  for pattern in ("model.ckpt-*", "model.ckpt-*.index", "*", "m*[0-9]"):
    assert prefixes("%s/*/%s" % (tmp_path, pattern)) == expected


def test_lists_have_each_checkpoint_once(tmp_path):
  first = touch(tmp_path / "a.index")[: -len(".index")]
  second = touch(tmp_path / "b.index")[: -len(".index")]
  assert prefixes(
    "%s,%s/*,%s.index,,%s/none" % (second, tmp_path, first, tmp_path)
  ) == [second, first, str(tmp_path / "none")]


def test_checkpoints_of_format_v1(tmp_path):
  v1 = tf1.train.SaverDef.V1
  whole = save(str(tmp_path / "v1" / "a-1"), {"w": [1, 2]}, v1)
  shards = save(str(tmp_path / "v1" / "a-2"), {"w": [1, 2]}, v1, sharded=True)
  assert prefixes("%s/v1/a-*" % tmp_path) == [whole, shards]


def test_directories_stand_for_their_latest(tmp_path):
  for name in "ab":
    save(str(tmp_path / name / "m-1"), {"w": [1, 2]})
    touch(tmp_path / name / "m-0.index")
  (tmp_path / "empty").mkdir()
  expected = [str(tmp_path / name / "m-1") for name in "ab"]
  assert prefixes("%s/*" % tmp_path) == expected
  assert prefixes("%s/b,%s/a" % (tmp_path, tmp_path)) == expected[::-1]


def test_names_with_the_characters_of_patterns(tmp_path):
  path = touch(tmp_path / "m[1],2.index")
  assert not is_several(path)
  assert not is_several(path[: -len(".index")])
  assert not is_several(str(tmp_path / "none"))
  assert is_several("a,b") and is_several("a-?")


def test_names_of_what_is_written(tmp_path):
  for name in "ab":
    touch(tmp_path / name / "m.index")
  jobs = batch.plan(
    "%s/*/m" % tmp_path,
    "out/{run}-{name}.pb",
    "{dir}/{name}.html",
    ".frozen.pb",
  )
  assert [job.output for job in jobs] == ["out/a-m.pb", "out/b-m.pb"]
  assert jobs[1].report == "%s/b/m.html" % tmp_path
  jobs = batch.plan("%s/*/m" % tmp_path, None, None, ".frozen.pb")
  assert jobs[0].output == "%s/a/m.frozen.pb" % tmp_path


@pytest.mark.parametrize(
  "output, report, flag",
  [
    ("DIR", None, "--output_graph"),
    ("one.pb", None, "--output_graph"),
    (None, "one.html", "--report"),
    (None, "{name}.html", "--report"),
  ],
)
def test_two_outputs_of_one_name_are_refused(tmp_path, output, report, flag):
  for name in "ab":
    touch(tmp_path / name / "m.index")
  if output == "DIR":
    output = str(tmp_path)
  with pytest.raises(SourceError, match="twice: '.*a/m' and '.*b/m'.*" + flag):
    batch.plan("%s/*/m" % tmp_path, output, report, ".frozen.pb")


@pytest.mark.parametrize(
  "arguments, named",
  [
    (["--checkpoint=DIR/none-*"], "none matches"),
    (["--checkpoint=DIR/no_dir/*/none"], "none matches"),
    (["--checkpoint=DIR/a,DIR/b", "--report={name}.doc"], "extension"),
    (["--checkpoint=DIR/a,DIR/b", "--saved_model_out=x"], "--saved_model_out"),
  ],
)
def test_refused_before_any_work(tmp_path, arguments, named):
  arguments = [text.replace("DIR", str(tmp_path)) for text in arguments]
  assert_refused(run("--output_node=y", *arguments), named)


# Records.


def test_record_tells_what_has_changed(tmp_path):
  prefix, graph = str(tmp_path / "m"), str(tmp_path / "m.pb")
  touch(prefix + ".index")
  made_from = record.origin(prefix, {"set": ["a=1"]}, None, prefix + ".no")
  assert not record.is_own(graph)

  def write(piece):
    data = b"".join(record.noted(graph, made_from, [piece, b"."]))
    record_only = record.is_done(graph, made_from)
    with open(graph, "wb") as f:
      f.write(data)
    return record_only

  assert not write(b"first")
  assert record.is_own(graph) and not record.is_done(graph, made_from)
  record.finish(graph, True)
  assert record.is_done(graph, made_from)
  assert not record.is_done(graph, record.origin(prefix, {"set": ["a=2"]}))
  with open(prefix + ".index", "w") as f:
    f.write("saved again")
  assert record.origin(prefix, {"set": ["a=1"]}) != made_from
  # The earlier graph stays known while the next is on its way.
  list(record.noted(graph, made_from, [b"second"]))
  assert record.is_own(graph) and not record.is_done(graph, made_from)
  record.finish(graph, False)
  assert not record.is_own(graph)
  with open(record.path(graph), "w") as f:
    f.write("{")
  assert not record.is_own(graph)
  os.remove(graph)
  record.clear(graph)
  assert not os.path.exists(record.path(graph))


def test_record_looks_at_model_code_and_data(tmp_path, monkeypatch):
  touch(tmp_path / "m.index")
  touch(tmp_path / "data" / "one.npz")
  touch(tmp_path / "many_nets.py")
  monkeypatch.syspath_prepend(str(tmp_path))
  made_from = record.origin(
    str(tmp_path / "m"), {}, "many_nets", str(tmp_path / "data"), "no.module"
  )
  assert [name for name, _ in made_from["read"]] == [
    "m.index",
    "many_nets.py",
    "one.npz",
  ]


# Processes. Those of `eval` do not import TensorFlow.

_KILL = "__import__('os').kill(__import__('os').getpid(), 9)"


def test_process_that_dies_costs_its_item():
  items = ["1 + 1", _KILL, "1 / 0", "print('x') or 4"]
  cleared, found = [], {}
  for event in workers.run(items, eval, 2, lambda *dead: cleared.append(dead)):
    if event is not None:
      found[event[0]] = event[1]
  assert found == {
    items[0]: 2,
    items[3]: 4,
    _KILL: workers.Died("SIGKILL", ""),
    "1 / 0": workers.Died("status 1", "ZeroDivisionError: division by zero"),
  }
  assert sorted(item for _, item in cleared) == ["1 / 0", _KILL]


def test_closing_kills_the_processes():
  cleared = []
  events = workers.run(
    ["1", "__import__('time').sleep(300)"],
    eval,
    2,
    lambda *dead: cleared.append(dead),
  )
  while next(events) is None:
    pass
  events.close()
  assert [item for _, item in cleared] == ["__import__('time').sleep(300)"]
  with pytest.raises(ProcessLookupError):
    os.kill(cleared[0][0], 0)


def test_dead_process_leaves_no_part_of_a_file(tmp_path):
  job = batch.Job("m", str(tmp_path / "m.pb"), str(tmp_path / "m.md"), False)
  keep = touch(writing.part_of(str(tmp_path / "m.pb"), 8))
  for path in (job.output, job.report, record.path(job.output)):
    touch(writing.part_of(path, 7))
  touch(record.path(job.output))
  batch.clear(7, job)
  assert list(contents(tmp_path)) == [os.path.basename(keep)]
  batch.clear(7, job._replace(report=None))


def test_status_of_a_difference(monkeypatch, tmp_path):
  touch(tmp_path / "a.index")
  for found, status in (
    ({"ok": 1}, 0),
    ({"ok": 1, "differs": 1}, 2),
    ({"differs": 1, "failed": 1}, 3),
  ):
    tally = told(found)
    monkeypatch.setattr(batch, "run", lambda *args, tally=tally: tally)
    assert (
      run("--checkpoint=%s/*" % tmp_path, "--output_node=y").status == status
    )


# The summary.


def test_summary_groups_refusals_by_reason_and_names_the_slowest(tmp_path):
  tally = told({"ok": 20, "refused": 3})
  out = io.StringIO()
  with contextlib.redirect_stdout(out):
    tally.sum_up()
  assert out.getvalue().splitlines() == [
    "2 refused: why 0; refused/0",
    "slowest: ok/19 20.0 s, ok/18 19.0 s, ok/17 18.0 s",
    "23 checkpoints: 20 ok, 3 refused",
  ]
  path = str(tmp_path / "summary.json")
  tally.write(path)
  with open(path) as f:
    summary = json.load(f)
  assert summary["counts"]["refused"] == 3
  assert summary["reasons"] == [
    {
      "word": "refused",
      "reason": "why 0",
      "checkpoints": ["refused/0", "refused/2"],
    },
    {"word": "refused", "reason": "why 1", "checkpoints": ["refused/1"]},
  ]
  assert summary["slowest"][0] == {"checkpoint": "ok/19", "seconds": 20.0}
  assert len(summary["verdicts"]) == 23


# Progress.


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_line_of_progress():
  now = [0.0]
  lines = progress.Lines(300, 5, io.StringIO(), lambda: now[0])
  assert lines.text(9.0, 5) == "5 of 300 done"
  lines.show(5)
  now[0] = 10.0
  lines.show(7)
  assert lines.text(10.0, 7) == "7 of 300 done"
  assert lines.text(13.0, 12, "1 refused") == (
    "12 of 300 done, 1 refused, about 3 min left"
  )


def test_terminal_shows_a_bar():
  pytest.importorskip("tqdm")
  stream = Terminal()
  bar = progress.start(4, 1, stream)
  bar.show(1)
  bar.show(2, "1 refused")
  drawn = stream.getvalue().split("\r")[-1]
  assert drawn.startswith("bnexport:  50%") and " 2/4 [" in drawn
  assert re.search(r"\[\d\d:\d\d<\d\d:\d\d,.*, 1 refused\]", drawn), drawn
  bar.clear()
  assert stream.getvalue().split("\r")[-2].strip() == ""
  bar.close()
  assert stream.getvalue().endswith("\r") and "\n" not in stream.getvalue()


def test_bar_estimates_by_what_has_finished():
  pytest.importorskip("tqdm")
  bar, now = progress.Bar(4, 0, Terminal()), [0.0]
  bar._bar._time = lambda: now[0]
  bar._bar.start_t = bar._bar.last_print_t = 0.0
  for second in range(1, 21):
    now[0] = float(second)
    bar.show(second // 10)
  assert bar._bar.format_dict["rate"] == pytest.approx(0.1)
  bar.close()


def test_lines_where_there_is_no_bar(monkeypatch):
  assert isinstance(progress.start(2, 0, io.StringIO()), progress.Lines)
  monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: None)
  assert isinstance(progress.start(2, 0, Terminal()), progress.Lines)


def test_troubles_are_shown():
  tally = told({"ok": 3, "refused": 2, "skipped": 1, "differs": 1})
  assert tally.troubles == ["1 differs", "2 refused"]
  assert tally.finished == 7


def test_log_gets_a_line_now_and_then():
  now, stream = [0.0], io.StringIO()
  lines = progress.Lines(200, 0, stream, lambda: now[0])
  for second in range(100):
    now[0] = float(second)
    lines.show(second + 1)
    lines.clear()
  assert stream.getvalue().splitlines() == [
    "bnexport: 31 of 200 done, about 3 min left",
    "bnexport: 61 of 200 done, about 2 min left",
    "bnexport: 91 of 200 done, about 2 min left",
  ]
