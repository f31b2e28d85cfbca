# SPDX-License-Identifier: Apache-2.0
"""An exporter for tf.estimator.train_and_evaluate."""

from __future__ import annotations

import os
from typing import Optional, Sequence

from bnexport.errors import SourceError
from bnexport.exporting.delivery import Delivery
from bnexport.exporting.export import Options
from bnexport.tf1 import tf1
from bnexport.training.exports import Exports

if not hasattr(tf1, "estimator"):
  raise SourceError(
    "make an Exporter",
    f"TensorFlow {tf1.__version__} has no estimators",
    "use ExportHook, or a TensorFlow from 1.15 to 2.15",
  )


class Exporter(tf1.estimator.Exporter):
  """Exports the checkpoint that was evaluated, from its training graph.

    tf.estimator.EvalSpec(input_fn, exporters=[
      bnexport.training.Exporter("frozen", ["logits"])])

  Graphs are `MODEL_DIR/export/NAME/NAME-STEP.pb`, each with one line of verdict
  in the log of the logger "bnexport".

  Attributes:
    exports: the Exports, which has the verdicts by step; None before the first.
  """

  def __init__(
    self,
    name: str,
    outputs: Sequence[str],
    keep: int = 5,
    options: Optional[Options] = None,
    delivery: Optional[Delivery] = None,
    inputs: Sequence[str] = (),
    strict: bool = False,
  ):
    """Prepares.

    Args:
      name: of the exporter, and of its graphs.
      outputs: names of the tensors to export.
      keep: how many graphs stay, the newest; 0 for all.
      options: the Options of the exports.
      delivery: a Delivery with how they are written and proven.
      inputs: names of the tensors to feed, such as what the input_fn's
        iterator gives.
      strict: whether an export that is not proven ends the training.
    """
    self.exports: Optional[Exports] = None
    self._name, self._outputs = name, tuple(outputs)
    self._how = (keep, options, delivery, inputs, strict)

  @property
  def name(self):
    return self._name

  def export(
    self,
    estimator,
    export_path,
    checkpoint_path,
    eval_result,
    is_the_final_export,
  ):
    """Exports a checkpoint; returns the graph's path, or None."""
    del estimator, eval_result, is_the_final_export
    path = os.fsdecode(export_path)
    prefix = os.fsdecode(checkpoint_path)
    if self.exports is None:
      self.exports = Exports(self._outputs, path, self._name, *self._how)
    step = int(prefix.rpartition("-")[2])
    self.exports.submit(prefix, step)
    self.exports.finish()
    self.exports.refuse()
    written = self.exports.path(step)
    return written if tf1.gfile.Exists(written) else None
