# SPDX-License-Identifier: Apache-2.0
"""Many checkpoints at once: which, where their graphs go, how far it is."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import re
import sys
import time
from typing import Mapping, Optional, Tuple

from bnexport.errors import Error, SourceError
from bnexport.exporting import record, workers, writing
from bnexport.exporting.delivery import Delivery
from bnexport.model import checkpoint
from bnexport.model.request import Request
from bnexport.tf1 import tf1

# What a verdict may be, in the order of the summary.
OK, DIFFERS, REFUSED = "ok", "differs", "refused"
FAILED, SKIPPED = "failed", "skipped"
WORDS = (OK, DIFFERS, REFUSED, FAILED, SKIPPED)

# The files of V1 checkpoints end so: leveldb's table format.
_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_PART = re.compile(r"\.(index|meta)$")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
# Between lines of progress that are kept, in a log.
_SECONDS = 30

Verdict = collections.namedtuple("Verdict", "word says")


class Job(collections.namedtuple("Job", "checkpoint output report overwrite")):
  """One checkpoint to export, and the files to write; report may be None."""


@dataclasses.dataclass(frozen=True)
class Task:
  """What is done with each of several checkpoints; it can be pickled.

  Attributes:
    request: a Request without its checkpoint.
    options: export.Options.
    delivery: a Delivery without its path.
    flags: values of the flags that affect the graph, by name, for the record.
    read: paths of other files that an export reads.
  """

  request: Request
  options: object
  delivery: Delivery
  flags: Mapping[str, object] = dataclasses.field(default_factory=dict)
  read: Tuple[Optional[str], ...] = ()

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
    """What the graph of one checkpoint is made from; see record.origin."""
    source = self.request_of(prefix).source
    if self.request.kind == "model":
      source = source.rpartition(":")[0]
    return record.origin(prefix, dict(self.flags), source, *self.read)


def is_several(given):
  """Whether a user's --checkpoint is a list or pattern of checkpoints."""
  if not re.search(r"[,*?\[]", given):
    return False
  # File names may hold those characters too.
  return not tf1.gfile.Exists(given) and not tf1.gfile.Exists(given + ".index")


def plan(given, output, report, extension):
  """The jobs that a user's flags mean; no two of them write the same file.

  Args:
    given: prefixes, directories (their latest) and patterns, with commas.
    output: where the graphs go: a directory, or a path with {name}, {run} or
      {dir} in it; None for beside the checkpoints.
    report: where the reports go: such a path, or None.
    extension: of the graphs that get no name from the user.

  Raises:
    SourceError: there is no such checkpoint, or two have the same output.
  """
  if output and tf1.gfile.IsDirectory(output):
    output = os.path.join(output, "{name}" + extension)
  jobs = [
    Job(
      prefix,
      _filled(output, prefix) if output else prefix + extension,
      _filled(report, prefix) if report else None,
      False,
    )
    for prefix in _prefixes(given)
  ]
  _refuse_same([(job.output, job) for job in jobs], "output_graph")
  _refuse_same([(job.report, job) for job in jobs if job.report], "report")
  return jobs


def _prefixes(given):
  found = []
  for item in filter(None, given.split(",")):
    if re.search(r"[*?\[]", item):
      found += _matching(item)
      continue
    try:
      found.append(checkpoint.find_prefix(item))
    except SourceError:
      found.append(item)  # its export says what is wrong
  return list(dict.fromkeys(found))


def _matching(pattern):
  pattern = _PART.sub("", pattern)
  try:
    paths = tf1.gfile.Glob(pattern + ".index") + tf1.gfile.Glob(pattern)
  except tf1.errors.OpError:
    paths = []
  found = {_prefix(path) for path in paths} - {None}
  if not found:
    raise SourceError(
      f"find checkpoints '{pattern}'",
      "none matches",
      "write the pattern of prefixes, like 'runs/*/model.ckpt-*'",
    )
  return sorted(found, key=_by_number)


def _by_number(path):
  """Sorts model.ckpt-9 before model.ckpt-10."""
  return [int(s) if s.isdigit() else s for s in re.split(r"([0-9]+)", path)]


def _prefix(path):
  """The checkpoint that a file belongs to or a directory holds, or None."""
  if path.endswith(".index"):
    return path[: -len(".index")]
  if tf1.gfile.IsDirectory(path):
    return tf1.train.latest_checkpoint(path)
  try:
    size = tf1.gfile.Stat(path).length
    with tf1.gfile.GFile(path, "rb") as f:
      f.seek(max(0, size - len(_TABLE)))
      return _SHARD.sub("", path) if f.read() == _TABLE else None
  except tf1.errors.OpError:
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


def run(jobs, skipped, export, processes):
  """Exports in worker processes; prints a line for each job and a summary.

  Args:
    jobs: of `plan`.
    skipped: those of them that are done already.
    export: returns the Verdict of a job; see workers.run.
    processes: how many, at most.

  Returns:
    A Counter of the verdicts' words.

  Raises:
    Error: it was interrupted. What is done stays, nothing is half done.
  """
  counts, progress = collections.Counter(), Progress(len(jobs), len(skipped))
  _say(progress, skipped, Verdict(SKIPPED, "done before, and unchanged"))
  counts[SKIPPED] += len(skipped)
  left = [job for job in jobs if job not in skipped]
  try:
    with contextlib.closing(
      workers.run(left, export, processes, _clear)
    ) as events:
      for event in events:
        if event is not None:
          job, verdict = event[0], _verdict(event[1])
          counts[verdict.word] += 1
          _say(progress, [job], verdict)
        progress.show(counts)
  except KeyboardInterrupt:
    progress.clear()
    _summarize(len(jobs), counts)
    raise Error(
      "finish",
      f"interrupted with {sum(counts.values())} of {len(jobs)} checkpoints "
      "looked at",
      "pass --resume to go on from there",
    ) from None
  progress.clear()
  _summarize(len(jobs), counts)
  return counts


def _verdict(result):
  if not isinstance(result, workers.Died):
    return result
  return Verdict(
    FAILED,
    "cannot finish: its process ended with %s%s; export it alone to see why"
    % (result.how, f" ({result.last_words})" if result.last_words else ""),
  )


def _clear(process, job):
  """Removes what a process left that was killed or has crashed."""
  for path in filter(None, (job.output, job.report, record.path(job.output))):
    part = writing.part_of(path, process)
    if tf1.gfile.Exists(part):
      tf1.gfile.Remove(part)
  record.clear(job.output)


def _say(progress, jobs, verdict):
  progress.clear()
  for job in jobs:
    print(f"{verdict.word} {job.checkpoint}: {verdict.says}")
  sys.stdout.flush()


def _summarize(total, counts):
  print(
    "%d checkpoints: %s"
    % (
      total,
      ", ".join(f"{counts[w]} {w}" for w in WORDS if counts[w])
      or "none looked at",
    )
  )


class Progress:
  """How far it is, on stderr: a line that changes, or in a log a few lines."""

  def __init__(self, total, skipped=0, stream=None, clock=time.time):
    self._total, self._skipped = total, skipped
    self._stream, self._clock = stream or sys.stderr, clock
    self._shown = clock()
    self._first = None
    self._changes = self._stream.isatty()

  def show(self, counts):
    now, finished = self._clock(), sum(counts.values())
    if self._first is None and finished > self._skipped:
      self._first = now, finished
    if not self._changes and (
      now - self._shown < _SECONDS or finished == self._total
    ):
      return
    self._shown = now
    text = "bnexport: " + self.text(counts, now)
    self._stream.write(f"\r{text}\x1b[K" if self._changes else text + "\n")
    self._stream.flush()

  def clear(self):
    """Makes room for other lines."""
    if self._changes:
      self._stream.write("\r\x1b[K")
      self._stream.flush()

  def text(self, counts, now):
    """How many are done, what went wrong, how long it will take.

    The time is told by what came after the first: processes start slowly.
    """
    finished = sum(counts.values())
    parts = [f"{finished} of {self._total} done"]
    parts += [
      f"{counts[word]} {word}"
      for word in (DIFFERS, REFUSED, FAILED)
      if counts[word]
    ]
    start, first = self._first or (now, finished)
    if finished > first:
      left = (now - start) / (finished - first) * (self._total - finished)
      parts.append(f"about {_duration(left)} left")
    return ", ".join(parts)


def _duration(seconds):
  if seconds < 100:
    return f"{int(seconds)} s"
  if seconds < 100 * 60:
    return f"{round(seconds / 60)} min"
  return f"{round(seconds / 3600)} h"
