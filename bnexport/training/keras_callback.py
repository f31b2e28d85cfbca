# SPDX-License-Identifier: Apache-2.0
"""A callback that exports Keras models while they are trained."""

from __future__ import annotations

from typing import Optional

from bnexport.errors import SourceError
from bnexport.exporting.delivery import Delivery
from bnexport.exporting.export import Options
from bnexport.tf1 import tf1
from bnexport.training.exports import Exports


class ExportCallback(tf1.keras.callbacks.Callback):
  """Exports a model of compat mode, with its proof, while training goes on.

    model.fit(x, y, callbacks=[bnexport.training.ExportCallback("exports")])

  Graphs are `DIRECTORY/NAME-EPOCH.pb`; see ExportHook for what is said of them.

  Attributes:
    exports: the Exports, which has the verdicts by epoch; None before training.
  """

  def __init__(
    self,
    directory: str,
    every_epochs: Optional[int] = None,
    at_end: bool = True,
    keep: int = 5,
    options: Optional[Options] = None,
    delivery: Optional[Delivery] = None,
    name: str = "model",
    strict: bool = False,
  ):
    """Prepares.

    Args:
      directory: where the graphs go.
      every_epochs: epochs between exports; None for the end only.
      at_end: whether the last state is exported, which training waits for.
      keep: how many graphs stay, the newest; 0 for all.
      options: the Options of the exports.
      delivery: a Delivery with how they are written and proven.
      name: of the graphs.
      strict: whether training ends where an export is not proven.
    """
    super().__init__()
    self.exports: Optional[Exports] = None
    self._directory, self._name = directory, name
    self._every, self._at_end = every_epochs, at_end
    self._how = (keep, options, delivery, (), strict)
    self._saver = None
    self._epochs = 0

  def on_train_begin(self, logs=None):
    if tf1.executing_eagerly():
      raise SourceError(
        "export while Keras trains",
        "it runs eagerly, and there is no training graph",
        "call tf.compat.v1.disable_eager_execution() first, or save the model "
        "and export that: python -m bnexport.freeze --keras=FILE",
      )
    outputs = [tensor.name for tensor in self.model.outputs]
    self.exports = Exports(outputs, self._directory, self._name, *self._how)

  def on_epoch_end(self, epoch, logs=None):
    self._epochs = epoch + 1
    if self._every is not None and self._epochs % self._every == 0:
      self._submit()
    self.exports.refuse()

  def on_train_end(self, logs=None):
    if self._at_end and (
      self._every is None or self._epochs % self._every != 0
    ):
      self._submit()
    self.exports.finish()
    self.exports.refuse()

  def _submit(self):
    session = tf1.keras.backend.get_session()
    if self._saver is None:
      with session.graph.as_default():
        self._saver = tf1.train.Saver(max_to_keep=1, save_relative_paths=True)
    self.exports.save(self._saver, session, self._epochs)
