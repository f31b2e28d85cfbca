# SPDX-License-Identifier: Apache-2.0
"""Exports of many checkpoints on Apache Beam, wherever its runners run.

In a pipeline of one's own, from prefixes of checkpoints to what became of
each:

  verdicts = (
    pipeline
    | beam.io.fileio.MatchFiles("gs://runs/*/model.ckpt-9000.index")
    | beam.Map(lambda file: file.path[: -len(".index")])
    | ExportCheckpoints(Options(), outputs=["logits"])
  )

The graphs are written by the workers, to storage that all of them see.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import os
import shlex
import threading
import time
import uuid

import apache_beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from bnexport.errors import Error, SourceError, first_line
from bnexport.exporting import batch, writing
from bnexport.exporting.delivery import Delivery
from bnexport.exporting.export import Options
from bnexport.exporting.verdicts import Verdict
from bnexport.model.request import Request
from bnexport.tf1 import tf1

# Runners that lose a worker may give up all that it had. What is left is run
# again, so often without a single new verdict.
_TRIES = 3
# Seconds between looks at the verdicts that have come.
_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Exported:
  """The outcome of one checkpoint's export.

  Attributes:
    checkpoint: its prefix.
    output: the graph's path.
    word: "ok", "differs", "refused" or "failed"; see exporting.verdicts.
    says: the rest of its line.
    seconds: how long it took.
  """

  checkpoint: str
  output: str
  word: str
  says: str
  seconds: float


class ExportCheckpoints(apache_beam.PTransform):
  """Exports each checkpoint of a PCollection of prefixes.

  A checkpoint that can't be exported, or whose export takes its process along,
  becomes a verdict and does not stop the others. A bundle that is tried again
  writes no graph a second time. There are counters `ok`, `differs`, `refused`
  and `failed`, and a distribution `milliseconds`, in the namespace "bnexport".

  Each instance of the DoFn has a process with TensorFlow of its own; the
  runner's options say how many there are on a machine.

  Args:
    options: an export.Options; None for those by default.
    outputs: names of the tensors to export.
    output_graph: where graphs go; {name}, {run} and {dir} are the checkpoint's
      name, its directory's name and its directory.
    request: a Request with what else describes the source; its checkpoint and
      outputs do not count. None takes the .meta beside each checkpoint.
    delivery: a Delivery with how graphs are written and proven; its path does
      not count.

  Returns:
    A PCollection of Exported.
  """

  def __init__(
    self,
    options=None,
    outputs=(),
    output_graph="{dir}/{name}.frozen.pb",
    request=None,
    delivery=None,
  ):
    super().__init__()
    request = request or Request("meta_graph", None)
    self._task = batch.Task(
      dataclasses.replace(request, outputs=tuple(outputs)),
      options or Options(),
      delivery or Delivery(""),
      run=uuid.uuid4().hex,
    )
    self._output_graph = output_graph

  def expand(self, prefixes):
    return (
      prefixes
      | "name outputs" >> apache_beam.Map(batch.job_of, self._output_graph)
      | "export" >> _ExportJobs(self._task)
      | "tell" >> apache_beam.MapTuple(_exported)
    )


def _exported(job, verdict):
  return Exported(
    job.checkpoint, job.output, verdict.word, verdict.says, verdict.seconds
  )


class _ExportJobs(apache_beam.PTransform):
  """From Jobs to pairs of a Job and its Verdict."""

  def __init__(self, task):
    super().__init__()
    self._task = task

  def expand(self, jobs):
    # Neighbours in a list of checkpoints are not to be one machine's bundle.
    return (
      jobs | apache_beam.Reshuffle() | apache_beam.ParDo(_Export(self._task))
    )


class _Export(apache_beam.DoFn):
  """Exports in a process of its own, which may die of a checkpoint."""

  def __init__(self, task):
    self._process = batch.OneProcess(functools.partial(batch.export_one, task))

  def process(self, job):
    verdict = self._process.export(job)
    Metrics.counter("bnexport", verdict.word).inc()
    Metrics.distribution("bnexport", "milliseconds").update(
      int(verdict.seconds * 1000)
    )
    yield job, verdict

  def teardown(self):
    self._process.close()


def run(jobs, skipped, task, runner, options):
  """Exports on a runner of Beam's; prints what `batch.run` prints.

  Args:
    jobs: Jobs of `batch.plan`.
    skipped: those of them that are done already.
    task: a batch.Task.
    runner: the name of a runner, such as "DirectRunner".
    options: options of Beam and its runner, as on a command line.

  Returns:
    A verdicts.Tally.

  Raises:
    SourceError: Beam does not take the options.
    Error: the runner gave up, or it was interrupted. Finished files stay.
  """
  asked = pipeline_options(runner, options)
  task = dataclasses.replace(task, run=uuid.uuid4().hex)
  folder = os.path.dirname(jobs[0].output) or "."
  with writing.part(os.path.join(folder, "verdicts")) as said:
    tf1.gfile.MakeDirs(said)
    with batch.said_as_they_come(jobs, skipped) as tell:
      coming = _Coming([job for job in jobs if job not in skipped], said, tell)
      tries = _TRIES
      while coming.left:
        before = len(coming.left)
        failure = _try(coming, task, asked)
        if not coming.left:
          break
        tries = tries - 1 if len(coming.left) == before else _TRIES
        if not tries:
          raise Error(
            "finish",
            f"{runner} gave up with {len(coming.left)} of {len(jobs)} "
            f"checkpoints left: {failure}",
            "pass --resume to go on from there",
          )
  return tell.tally


def pipeline_options(runner, options):
  """PipelineOptions of a runner's name and of options as on a command line.

  Raises:
    SourceError: Beam does not take them.
  """
  try:
    given = shlex.split(options)
  except ValueError as error:
    raise SourceError(
      "read --beam_options", error, "quote it as on a command line"
    ) from error
  # Workers tell of themselves; what they do is told here.
  quiet = f"--default_sdk_harness_log_level={logging.WARNING}"
  logging.getLogger("apache_beam").setLevel(logging.WARNING)
  try:
    return PipelineOptions([f"--runner={runner}", quiet, *given])
  except SystemExit:  # argparse's way to refuse; it has said why
    raise SourceError(
      f"use --beam_options='{options}'",
      "Beam does not take them",
      "see its runner's documentation",
    ) from None


def _try(coming, task, options):
  """Runs a pipeline over what is left; returns why some of it may be missing.

  A runner that gives up does so with errors of any kind; what they stand for
  is the verdicts that have not come.
  """
  pipeline = apache_beam.Pipeline(options=options)
  (
    pipeline
    | "list" >> apache_beam.Create(coming.left)
    | "export" >> _ExportJobs(task)
    | "say" >> apache_beam.Map(_say, coming.folder)
  )
  with coming:
    try:
      pipeline.run().wait_until_finish()
    except Exception as error:
      return first_line(error) or type(error).__name__
  return "it ended without their verdicts"


def _say(told, folder):
  """Writes a verdict where the launcher looks for it."""
  job, verdict = told
  path = os.path.join(folder, _name(job))
  with writing.whole_file(path, [json.dumps(verdict).encode()]):
    pass


def _name(job):
  """The name of the file with a job's verdict."""
  return hashlib.sha256(job.output.encode()).hexdigest() + ".json"


class _Coming:
  """Verdicts that workers leave in a folder, told while a pipeline runs.

  Attributes:
    folder: where they are.
    left: Jobs whose verdicts have not come.
  """

  def __init__(self, jobs, folder, tell):
    self.folder = folder
    self._jobs = {_name(job): job for job in jobs}
    self._tell = tell
    self._ended = threading.Event()
    self._thread = None

  @property
  def left(self):
    return list(self._jobs.values())

  def __enter__(self):
    self._ended.clear()
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *error):
    self._ended.set()
    self._thread.join()
    self._look()

  def _watch(self):
    pause = _SECONDS
    while not self._ended.wait(pause):
      started = time.time()
      self._look()
      # Listing a large folder of a remote store takes long.
      pause = max(_SECONDS, 10 * (time.time() - started))

  def _look(self):
    for name in tf1.gfile.ListDirectory(self.folder):
      if name in self._jobs:
        with tf1.gfile.GFile(os.path.join(self.folder, name), "r") as f:
          verdict = Verdict(*json.loads(f.read()))
        self._tell(self._jobs.pop(name), verdict)
    self._tell()
