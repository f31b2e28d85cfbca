# SPDX-License-Identifier: Apache-2.0
"""Batch norm watched and exported while it is trained.

Before the first step, no session needed:

  bnexport.training.check(train_op=train_op, outputs=["logits"])

While training, as hooks:

  with tf.train.MonitoredTrainingSession(
    checkpoint_dir="run",
    hooks=[
      bnexport.training.NormHealthHook(every_steps=1000, directory="run"),
      bnexport.training.ExportHook(["logits"], "exports", every_steps=5000),
    ],
  ) as session:

Estimators take `Exporter`, Keras models `ExportCallback`.

Nothing here imports TensorFlow before it is used.
"""

from __future__ import annotations

import importlib
from typing import Any, List

_ROOMS = {
  "ExportCallback": "keras_callback",
  "ExportHook": "export_hook",
  "Exporter": "estimator_exporter",
  "NormHealthHook": "health_hook",
  "check": "checking",
}

__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
  if name in _ROOMS:
    room = importlib.import_module(f"bnexport.training.{_ROOMS[name]}")
    return getattr(room, name)
  raise AttributeError(f"module 'bnexport.training' has no attribute '{name}'")


def __dir__() -> List[str]:
  return sorted(set(globals()) | set(__all__))
