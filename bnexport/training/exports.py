# SPDX-License-Identifier: Apache-2.0
"""Exports of a training job's checkpoints, beside the training."""

from __future__ import annotations

import functools
import glob
import logging
import os
import re
import shutil
import threading
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from bnexport.errors import Error
from bnexport.exporting import batch, record
from bnexport.exporting.delivery import Delivery
from bnexport.exporting.export import Options
from bnexport.exporting.verdicts import OK, REFUSED, SKIPPED, Verdict
from bnexport.exporting.writing import part
from bnexport.model.request import Request
from bnexport.tf1 import tf1
from bnexport.training import events

_LOG = logging.getLogger("bnexport")


class _Waiting(NamedTuple):
  """A checkpoint that is to be exported.

  Attributes:
    prefix: of files that stay until it is done.
    step: the global step.
  """

  prefix: str
  step: int


class Exports:
  """Exports checkpoints one by one, in a process of their own.

  One that comes while another is at work waits; of several that wait, the
  newest is exported. Whatever becomes of an export, training goes on.

  Attributes:
    verdicts: the Verdict of each export, by its step.
  """

  def __init__(
    self,
    outputs: Sequence[str],
    directory: str,
    name: str = "model",
    keep: int = 5,
    options: Optional[Options] = None,
    delivery: Optional[Delivery] = None,
    inputs: Sequence[str] = (),
    strict: bool = False,
  ):
    """Prepares; no process is started before the first export.

    Args:
      outputs: names of the tensors to export.
      directory: where graphs go, as NAME-STEP.pb; it is made.
      name: of the graphs.
      keep: how many graphs stay, the newest; 0 for all.
      options: the Options of the exports.
      delivery: a Delivery with how they are written and proven.
      inputs: names of the tensors to feed, such as what an iterator gives;
        where there are none, every placeholder is one.
      strict: whether `refuse` raises once an export was not proven.
    """
    self.verdicts: Dict[int, Verdict] = {}
    self.directory, self._name = os.fspath(directory), name
    self._keep, self._strict = keep, strict
    self._task = batch.Task(
      Request("meta_graph", None, None, tuple(outputs), tuple(inputs)),
      options or Options(),
      delivery or Delivery(""),
    )
    self._process = batch.OneProcess(functools.partial(_export, self._task))
    self._thread: Optional[threading.Thread] = None
    self._lock = threading.Lock()
    self._waiting: Optional[_Waiting] = None

  def path(self, step: int) -> str:
    """Where the graph of a step goes."""
    return os.path.join(self.directory, f"{self._name}-{step}.pb")

  def save(self, saver: Any, session: Any, step: int) -> None:
    """Saves what a session holds, and exports that; see `submit`.

    Args:
      saver: a tf.compat.v1.train.Saver.
      session: the session.
      step: the global step.
    """
    tf1.gfile.MakeDirs(self.directory)
    with part(os.path.join(self.directory, "checkpoint")) as folder:
      tf1.gfile.MakeDirs(folder)
      path = os.path.join(folder, "model")
      self.submit(saver.save(session, path, global_step=step), step)

  def submit(self, prefix: str, step: int) -> None:
    """Exports a checkpoint beside what the caller goes on with.

    Args:
      prefix: of a checkpoint with its .meta; its files may go afterwards.
      step: the global step that it was saved at.
    """
    tf1.gfile.MakeDirs(self.directory)
    held = _Waiting(self._held(prefix, step), step)
    with self._lock:
      passed, self._waiting = self._waiting, held
      if self._thread is None:
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
    if passed is not None:
      self._release(passed)
      _LOG.info("step %d is not exported: a newer one waits", passed.step)

  def finish(self) -> None:
    """Waits for the exports that are under way."""
    with self._lock:
      thread = self._thread
    if thread is not None:
      thread.join()
    self._process.close()

  def refuse(self) -> None:
    """Raises, where `strict` was asked for, what an export did not prove.

    Raises:
      Error: it names the step.
    """
    for step, verdict in self.verdicts.items():
      if self._strict and verdict.word not in (OK, SKIPPED):
        raise Error(
          f"go on training past step {step}",
          f"its export is {verdict.word}: {verdict.says}",
          "change the training code, or leave out strict=True",
        )

  def _held(self, prefix: str, step: int) -> str:
    """The prefix of copies that no Saver removes; links cost nothing."""
    if not (tf1.gfile.is_local(prefix) and tf1.gfile.is_local(self.directory)):
      return prefix
    folder = self._folder(step)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for path in glob.glob(glob.escape(prefix) + ".*"):
      copy = os.path.join(folder, os.path.basename(path))
      try:
        os.link(path, copy)
      except OSError:  # another file system
        shutil.copyfile(path, copy)
    return os.path.join(folder, os.path.basename(prefix))

  def _folder(self, step: int) -> str:
    return os.path.join(self.directory, f".{self._name}-{step}.checkpoint")

  def _release(self, waiting: _Waiting) -> None:
    shutil.rmtree(self._folder(waiting.step), ignore_errors=True)

  def _work(self) -> None:
    while True:
      with self._lock:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
          self._thread = None
          return
      try:
        self._tell(waiting.step, self._export(waiting))
      except Error as error:
        says = " ".join(str(error).split())
        self._tell(waiting.step, Verdict(REFUSED, says, error.fact))
      finally:
        self._release(waiting)

  def _export(self, waiting: _Waiting) -> Verdict:
    job = batch.Job(waiting.prefix, self.path(waiting.step), None, False)
    jobs, done = batch.resumed([job], self._task)
    return batch.DONE_BEFORE if done else self._process.export(jobs[0])

  def _tell(self, step: int, verdict: Verdict) -> None:
    """Logs a verdict, writes its summary, and lets old graphs go."""
    self.verdicts[step] = verdict
    level = logging.INFO if verdict.word in (OK, SKIPPED) else logging.WARNING
    _LOG.log(level, "step %d: %s %s", step, verdict.word, verdict.says)
    proven = float(verdict.word in (OK, SKIPPED))
    events.write(self.directory, step, {"bnexport/proven": proven})
    for old in self.steps()[: -self._keep] if self._keep else ():
      for path in (self.path(old), record.path(self.path(old))):
        if tf1.gfile.Exists(path):
          tf1.gfile.Remove(path)

  def steps(self) -> List[int]:
    """Steps whose graphs are there, in order; those of earlier runs, too."""
    pattern = re.compile(re.escape(self._name) + r"-(\d+)\.pb$")
    found = map(pattern.match, tf1.gfile.ListDirectory(self.directory))
    return sorted(int(match.group(1)) for match in found if match)


def _export(task: batch.Task, job: batch.Job) -> Verdict:
  """Exports in a process beside the training, whose the accelerator is."""
  # Read when TensorFlow is imported.
  os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
  return batch.export_one(task, job)
