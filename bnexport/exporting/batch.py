# SPDX-License-Identifier: Apache-2.0
"""Exports of many checkpoints: the plan, the processes, the verdicts."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import re
from typing import Mapping, Optional, Tuple

from bnexport.errors import Error, SourceError, printable
from bnexport.exporting import progress, record, workers, writing
from bnexport.exporting.delivery import Delivery
from bnexport.model import checkpoint
from bnexport.model.paths import refuse_special
from bnexport.model.request import Request
from bnexport.tf1 import tf1

# The words of verdicts, in the order of the summary.
OK, DIFFERS, REFUSED = "ok", "differs", "refused"
FAILED, SKIPPED = "failed", "skipped"
WORDS = (OK, DIFFERS, REFUSED, FAILED, SKIPPED)

# The last bytes of a V1 checkpoint's file, which is a leveldb table.
_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_PART = re.compile(r"\.(index|meta)$")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")

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
  return sorted(found, key=_by_number)


def _by_number(path):
  """Sorts model.ckpt-9 before model.ckpt-10."""
  return [int(s) if s.isdigit() else s for s in re.split(r"([0-9]+)", path)]


def _prefix(path):
  """Prefix of the checkpoint that a path is a file or directory of, or None."""
  if path.endswith(".index"):
    return path[: -len(".index")]
  if tf1.gfile.IsDirectory(path):
    return tf1.train.latest_checkpoint(path)
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


def run(jobs, skipped, export, processes):
  """Exports in worker processes; prints a line for each job and a summary.

  Args:
    jobs: Jobs of `plan`.
    skipped: those of them that are done already.
    export: the function that returns a Job's Verdict; see workers.run.
    processes: the number of processes, at most.

  Returns:
    A Counter of the verdicts' words.

  Raises:
    Error: it was interrupted. Finished files stay, and none is partial.
  """
  counts = collections.Counter()
  left = [job for job in jobs if job not in skipped]
  try:
    with contextlib.closing(
      progress.start(len(jobs), len(skipped))
    ) as shown, contextlib.closing(
      workers.run(left, export, processes, _clear)
    ) as events:
      for job in skipped:
        _say(job, Verdict(SKIPPED, "done before, and unchanged"), counts)
      for event in events:
        if event is not None:
          shown.clear()
          _say(event[0], _verdict(event[1]), counts)
        shown.show(sum(counts.values()), *_troubles(counts))
  except KeyboardInterrupt:
    raise Error(
      "finish",
      f"interrupted with {sum(counts.values())} of {len(jobs)} checkpoints "
      "looked at",
      "pass --resume to go on from there",
    ) from None
  finally:
    _sum_up(len(jobs), counts)
  return counts


def _sum_up(number, counts):
  words = [f"{counts[word]} {word}" for word in WORDS if counts[word]]
  print(f"{number} checkpoints: {', '.join(words) or 'none looked at'}")


def _verdict(result):
  if not isinstance(result, workers.Died):
    return result
  last_words = f" ({result.last_words})" if result.last_words else ""
  return Verdict(
    FAILED,
    f"cannot finish: its process ended with {result.how}{last_words}; export "
    "it alone to see why",
  )


def _clear(process, job):
  """Removes the partial files of a process that was killed or has crashed."""
  for path in filter(None, (job.output, job.report, record.path(job.output))):
    part = writing.part_of(path, process)
    if tf1.gfile.Exists(part):
      tf1.gfile.Remove(part)
  record.clear(job.output)


def _say(job, verdict, counts):
  counts[verdict.word] += 1
  line = f"{verdict.word} {job.checkpoint}: {verdict.says}"
  print(printable(line), flush=True)


def _troubles(counts):
  words = (DIFFERS, REFUSED, FAILED)
  return [f"{counts[word]} {word}" for word in words if counts[word]]
