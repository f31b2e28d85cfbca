# SPDX-License-Identifier: Apache-2.0
"""Exports of many checkpoints: the plan, the processes, the verdicts."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import os
import re
import time
from typing import Callable, Mapping, Optional, Tuple

from bnexport.errors import Error, SourceError
from bnexport.exporting import progress, record, workers, writing
from bnexport.exporting.beginnings import Beginnings
from bnexport.exporting.delivery import Delivery, deliver
from bnexport.exporting.verdicts import (
  DIFFERS,
  FAILED,
  OK,
  REFUSED,
  SKIPPED,
  Tally,
  Verdict,
)
from bnexport.model.paths import refuse_special
from bnexport.model.prefixes import by_number, find_prefix, latest
from bnexport.model.request import Request
from bnexport.tf1 import tf1

# The last bytes of a V1 checkpoint's file, which is a leveldb table.
_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_PART = re.compile(r"\.(index|meta)$")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


# Of this process, a worker.
_BEGINNINGS = Beginnings()
# Of what --resume leaves out.
DONE_BEFORE = Verdict(SKIPPED, "done before, and unchanged")


class Job(collections.namedtuple("Job", "checkpoint output report overwrite")):
  """One checkpoint to export, and the files to write; report may be None."""


@dataclasses.dataclass(frozen=True)
class Task:
  """The work on each of several checkpoints; it can be pickled.

  Attributes:
    request: a Request without its checkpoint.
    options: export.Options.
    delivery: a Delivery without its path.
    flags: values of the flags that affect the graph, by name, for the record.
    read: paths of other files that an export reads.
    report: writes the report of an export: called with a path, the Export,
      its Comparison and the graph's path.
    run: a name of the run, where an export may be asked for again after it
      was done, as after a worker died; or nothing.
  """

  request: Request
  options: object
  delivery: Delivery
  flags: Mapping[str, object] = dataclasses.field(default_factory=dict)
  read: Tuple[Optional[str], ...] = ()
  report: Optional[Callable] = None
  run: str = ""

  def request_of(self, prefix):
    """The Request of one checkpoint."""
    source = self.request.source or prefix + ".meta"
    return dataclasses.replace(self.request, checkpoint=prefix, source=source)

  def delivery_of(self, job, watched):
    """The Delivery of one job, whose bytes are watched for the record."""
    return dataclasses.replace(
      self.delivery,
      path=job.output,
      overwrite=self.delivery.overwrite or job.overwrite,
      watched=watched,
    )

  def origin(self, prefix):
    """The origin of one checkpoint's graph; see record.origin."""
    source = self.request_of(prefix).source
    if self.request.kind == "model":
      source = source.rpartition(":")[0]
    return record.origin(prefix, dict(self.flags), source, *self.read)


def plan(given, output, report, extension):
  """The Jobs for a user's flags; no two of them write the same file.

  Args:
    given: prefixes, directories (their latest) and patterns, with commas.
    output: the graphs' directory, or a path with {name}, {run} or {dir} in it;
      None puts them beside the checkpoints.
    report: such a path for the reports, or None.
    extension: of graphs that the user gives no name.

  Raises:
    SourceError: there is no such checkpoint, or two have the same output.
  """
  if output and tf1.gfile.IsDirectory(output):
    output = os.path.join(output, "{name}" + extension)
  jobs = [
    job_of(prefix, output or prefix + extension, report)
    for prefix in prefixes(given)
  ]
  _refuse_same([(job.output, job) for job in jobs], "output_graph")
  _refuse_same([(job.report, job) for job in jobs if job.report], "report")
  return jobs


def job_of(prefix, output, report=None):
  """The Job of a checkpoint; its paths have {name}, {run} and {dir} in them."""
  return Job(
    prefix,
    _filled(output, prefix),
    _filled(report, prefix) if report else None,
    False,
  )


def prefixes(given):
  found = []
  for item in filter(None, given.split(",")):
    if re.search(r"[*?\[]", item):
      found += _matching(item)
      continue
    try:
      found.append(find_prefix(item))
    except SourceError:
      found.append(item)  # its export raises the same
  return list(dict.fromkeys(found))


def _matching(pattern):
  pattern = _PART.sub("", pattern)
  try:
    paths = tf1.gfile.Glob(pattern + ".index") + tf1.gfile.Glob(pattern)
  except OSError:
    paths = []
  found = {_prefix(path) for path in paths} - {None}
  if not found:
    raise SourceError(
      f"find checkpoints '{pattern}'",
      "none matches",
      "write the pattern of prefixes, like 'runs/*/model.ckpt-*'",
    )
  return sorted(found, key=by_number)


def _prefix(path):
  """Prefix of the checkpoint that a path is a file or directory of, or None."""
  if path.endswith(".index"):
    return path[: -len(".index")]
  if tf1.gfile.IsDirectory(path):
    return latest(path)
  refuse_special(path, f"read checkpoint '{path}'")
  try:
    size = tf1.gfile.Stat(path).length
    with tf1.gfile.GFile(path, "rb") as f:
      f.seek(max(0, size - len(_TABLE)))
      return _SHARD.sub("", path) if f.read() == _TABLE else None
  except OSError:
    return None


def _filled(template, prefix):
  folder = os.path.dirname(prefix) or "."
  for field, value in (
    ("{dir}", folder),
    ("{run}", os.path.basename(os.path.abspath(folder))),
    ("{name}", os.path.basename(prefix)),
  ):
    template = template.replace(field, value)
  return template


def _refuse_same(paths, flag):
  seen = {}
  for path, job in paths:
    if path in seen:
      raise SourceError(
        f"write '{path}' twice",
        f"'{seen[path]}' and '{job.checkpoint}' both go there",
        f"put {{name}}, {{run}} or {{dir}} into --{flag}, for the "
        "checkpoint, its directory's name and its directory",
      )
    seen[path] = job.checkpoint


def resumed(jobs, task):
  """Returns the jobs and those of them that are done.

  Jobs whose graphs were made from something else may replace them.
  """
  looked_at, skipped = [], []
  for job in jobs:
    reported = not job.report or tf1.gfile.Exists(job.report)
    # What can't be read is for the export to say.
    with contextlib.suppress(SourceError):
      origin = task.origin(find_prefix(job.checkpoint))
      if reported and record.is_done(job.output, origin):
        skipped.append(job)
      elif record.is_own(job.output):
        job = job._replace(overwrite=True)
    looked_at.append(job)
  return looked_at, skipped


def run(jobs, skipped, export, processes):
  """Exports in worker processes; prints a line for each job and a summary.

  Args:
    jobs: Jobs of `plan`.
    skipped: those of them that are done already.
    export: the function that returns a Job's Verdict; see workers.run.
    processes: the number of processes, at most.

  Returns:
    A Tally.

  Raises:
    Error: it was interrupted. Finished files stay, and none is partial.
  """
  left = [job for job in jobs if job not in skipped]
  with said_as_they_come(jobs, skipped) as tell, contextlib.closing(
    workers.run(left, export, processes, clear)
  ) as events:
    for event in events:
      tell(*(event or ()))
  return tell.tally


class _Told:
  """Says verdicts, and shows how far a run has come."""

  def __init__(self, tally, shown):
    self.tally = tally
    self._shown = shown

  def __call__(self, job=None, result=None):
    """Says a job's result, if there is one."""
    if job is not None:
      self._shown.clear()
      self.tally.say(job.checkpoint, verdict_of(result))
    self._shown.show(self.tally.finished, *self.tally.troubles)


@contextlib.contextmanager
def said_as_they_come(jobs, skipped):
  """Yields what is called with a Job and its result; sums up at the end.

  Raises:
    Error: it was interrupted.
  """
  tally = Tally(len(jobs))
  try:
    with contextlib.closing(progress.start(len(jobs), len(skipped))) as shown:
      for job in skipped:
        tally.say(job.checkpoint, DONE_BEFORE)
      yield _Told(tally, shown)
  except KeyboardInterrupt:
    raise Error(
      "finish",
      f"interrupted with {tally.finished} of {len(jobs)} checkpoints looked at",
      "pass --resume to go on from there",
    ) from None
  finally:
    tally.sum_up()


def verdict_of(result):
  """The Verdict that a worker gave, or that of its death."""
  if not isinstance(result, workers.Died):
    return result
  last_words = f" ({result.last_words})" if result.last_words else ""
  fact = f"its process ended with {result.how}{last_words}"
  return Verdict(
    FAILED, f"cannot finish: {fact}; export it alone to see why", fact
  )


class OneProcess:
  """Exports one Job after the other in a process of its own.

  A checkpoint that ends the process becomes a Verdict, and the next one has a
  new process.
  """

  def __init__(self, export):
    """Starts no process before the first Job.

    Args:
      export: the function that returns a Job's Verdict; see workers.run.
    """
    self._export = export
    self._worker = None

  def export(self, job):
    """The Verdict of a Job."""
    if self._worker is None:
      self._worker = workers.Worker(self._export, job)
    else:
      self._worker.give(job)
    result = self._worker.result()
    if isinstance(result, workers.Died):
      clear(self._worker.process.pid, job)
      self.close()
    return verdict_of(result)

  def close(self):
    """Ends the process, if there is one."""
    if self._worker is not None:
      self._worker.dismiss()
      self._worker = None


def clear(process, job):
  """Removes the partial files of a process that was killed or has crashed."""
  for path in filter(None, (job.output, job.report, record.path(job.output))):
    part = writing.part_of(path, process)
    if tf1.gfile.Exists(part):
      tf1.gfile.Remove(part)
  record.clear(job.output)


def export_one(task, job):
  """Exports one of several checkpoints; returns its Verdict.

  What the same run has done already, it does not do again.

  Args:
    task: the Task.
    job: a Job.
  """
  started = time.time()
  if task.run:
    before = record.verdict(job.output, task.run)
    if before is not None:
      return Verdict(*before)
    job = job._replace(overwrite=job.overwrite or record.is_own(job.output))
  try:
    made, delivered = _exported(task, job)
  except Error as error:
    record.clear(job.output)
    return Verdict(
      REFUSED, " ".join(str(error).split()), error.fact, time.time() - started
    )
  doubts = [*made.model.warnings, *delivered.doubts]
  said = [f"warning: {doubt}" for doubt in doubts[:1]]
  if doubts[1:]:
    said.append(f"and {len(doubts) - 1} more warnings")
  verdict = Verdict(
    OK if delivered.holds else DIFFERS,
    "; ".join([job.output, *said]),
    "" if delivered.holds else "".join(delivered.doubts),
    time.time() - started,
  )
  record.finish(job.output, delivered.holds, task.run, verdict)
  return verdict


def _exported(task, job):
  """The Export of a job and what was Delivered."""
  prefix = find_prefix(job.checkpoint)
  origin, request = task.origin(prefix), task.request_of(prefix)
  for path in filter(None, (job.output, job.report)):
    writing.refuse_existing(path, job.overwrite or task.delivery.overwrite)
  writing.refuse_source(job.output, prefix, request.source)
  made = _BEGINNINGS.export(request, task.options)
  watched = functools.partial(record.noted, job.output, origin)
  delivered = deliver(made, task.delivery_of(job, watched))
  if job.report:
    task.report(job.report, made, delivered.proof, job.output)
  return made, delivered
