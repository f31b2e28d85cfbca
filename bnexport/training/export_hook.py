# SPDX-License-Identifier: Apache-2.0
"""A hook that exports the checkpoints of a training job."""

from __future__ import annotations

from typing import Optional, Sequence

from bnexport.errors import SourceError
from bnexport.exporting.delivery import Delivery
from bnexport.exporting.export import Options
from bnexport.model.prefixes import latest
from bnexport.tf1 import tf1
from bnexport.training.exports import Exports


class ExportHook(tf1.train.SessionRunHook, tf1.train.CheckpointSaverListener):
  """Exports what was trained, with its proof, while training goes on.

  As a hook it saves a checkpoint of its own every so many steps, and at the
  end. As a listener of a CheckpointSaverHook it takes the checkpoints that are
  saved anyway:

    tf.train.CheckpointSaverHook("run", save_steps=5000, listeners=[
      ExportHook(["logits"], "exports", checkpoint_dir="run")])

  Graphs are `DIRECTORY/NAME-STEP.pb`. Each has one line of verdict in the log
  of the logger "bnexport", and the scalar `bnexport/proven` beside it, for
  TensorBoard. A refusal does not stop training, unless `strict` says so. A job
  that is started again leaves what is exported, and goes on from there.

  Attributes:
    exports: the Exports, which has the verdicts by step.
  """

  def __init__(
    self,
    outputs: Sequence[str],
    directory: str,
    every_steps: Optional[int] = None,
    at_end: bool = True,
    keep: int = 5,
    options: Optional[Options] = None,
    delivery: Optional[Delivery] = None,
    name: str = "model",
    inputs: Sequence[str] = (),
    checkpoint_dir: Optional[str] = None,
    strict: bool = False,
  ):
    """Prepares; nothing is added to the graph before it is used.

    Args:
      outputs: names of the tensors to export.
      directory: where the graphs go.
      every_steps: steps between exports; None for the end only, or, as a
        listener, for every checkpoint.
      at_end: whether the last state is exported, which training waits for.
      keep: how many graphs stay, the newest; 0 for all.
      options: the Options of the exports.
      delivery: a Delivery with how they are written and proven.
      name: of the graphs.
      inputs: names of the tensors to feed, such as what a queue gives; where
        there are none, every placeholder is one.
      checkpoint_dir: where the CheckpointSaverHook saves that it listens to.
      strict: whether training ends where an export is not proven.
    """
    self.exports = Exports(
      outputs, directory, name, keep, options, delivery, inputs, strict
    )
    self._at_end, self._checkpoint_dir = at_end, checkpoint_dir
    self._timer = None
    if every_steps is not None:
      self._timer = tf1.train.SecondOrStepTimer(every_steps=every_steps)
    self._saver = self._step = None
    self._last = -1

  # As a hook, and as a listener.

  def begin(self):
    self._step = tf1.train.get_or_create_global_step()
    if self._checkpoint_dir is None:
      self._saver = tf1.train.Saver(max_to_keep=1, save_relative_paths=True)

  def end(self, session, global_step_value=None):
    if self._at_end:
      step = global_step_value
      if step is None:
        step = int(session.run(self._step))
      if step != self._last:
        self._submit(session, step)
    self.exports.finish()
    self.exports.refuse()

  # As a hook.

  def before_run(self, run_context):
    if self._timer is None or self._checkpoint_dir is not None:
      return None
    return tf1.train.SessionRunArgs(self._step)

  def after_run(self, run_context, run_values):
    self.exports.refuse()
    if run_values.results is None:
      return
    step = int(run_values.results)
    if self._timer.last_triggered_step() is None:
      self._timer.update_last_triggered_step(step)
    elif self._timer.should_trigger_for_step(step):
      self._timer.update_last_triggered_step(step)
      self._submit(run_context.session, step)

  # As a listener.

  def before_save(self, session, global_step_value):
    del session, global_step_value

  def after_save(self, session, global_step_value):
    if self._timer is not None:
      if not self._timer.should_trigger_for_step(global_step_value):
        return
      self._timer.update_last_triggered_step(global_step_value)
    self._submit(session, int(global_step_value))
    self.exports.refuse()

  def _submit(self, session, step):
    self._last = step
    if self._checkpoint_dir is None:
      self.exports.save(self._saver, session, step)
    else:
      self.exports.submit(self._saved(step), step)

  def _saved(self, step):
    """The prefix of the checkpoint that was saved at a step."""
    prefix = latest(self._checkpoint_dir)
    if prefix is None or not prefix.endswith(f"-{step}"):
      raise SourceError(
        f"export step {step}",
        f"its checkpoint is not in '{self._checkpoint_dir}'",
        "pass the CheckpointSaverHook's directory as checkpoint_dir",
      )
    return prefix
