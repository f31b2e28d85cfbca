# SPDX-License-Identifier: Apache-2.0
"""What a Keras file says of itself, read without Keras."""

from __future__ import annotations

import json
import zipfile
from typing import NamedTuple

from bnexport.errors import SourceError, first_line
from bnexport.sources.files import read
from bnexport.tf1 import tf1

ENDINGS = (".keras", ".h5", ".hdf5")
# Layers whose code is in the file.
_CODE = frozenset(("Lambda", "__lambda__"))


class KerasFile(NamedTuple):
  """A file that holds a whole model."""

  path: str
  version: str
  is_zip: bool

  @property
  def major(self):
    head = self.version.partition(".")[0]
    return int(head) if head.isdigit() else 2


def is_keras(path):
  """Whether a path is that of a Keras file, by its name."""
  return path.endswith(ENDINGS) and not tf1.gfile.Exists(path + ".index")


def describe(path):
  """A KerasFile.

  Raises:
    SourceError: it is missing, cut short or something else, holds no more
      than weights, or code that loading it would run.
  """
  if tf1.gfile.IsDirectory(path):
    raise SourceError(
      f"read Keras file '{path}'",
      "it is a directory",
      "pass a SavedModel's with --saved_model",
    )
  read(path, "Keras file", most=1)
  is_zip = zipfile.is_zipfile(path)
  version, config = (_zipped if is_zip else _stored)(path)
  layer = _layer_of_code(config)
  if layer is not None:
    raise SourceError(
      f"load Keras file '{path}'",
      f"its layer '{layer}' is Python code in the file, which loading it "
      "would run",
      "where you trust it and have its code, save a SavedModel, and pass "
      "that with --saved_model",
    )
  return KerasFile(path, version, is_zip)


def _zipped(path):
  try:
    with zipfile.ZipFile(path) as archive:
      metadata = json.loads(archive.read("metadata.json").decode())
      config = json.loads(archive.read("config.json").decode())
      broken = archive.testzip()
  except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
    raise _unsound(path, first_line(error)) from error
  if broken is not None:
    raise _unsound(path, f"'{broken}' in it is damaged")
  return str(metadata.get("keras_version", "2")), config


def _stored(path):
  try:
    import h5py  # comes with most TensorFlows
  except ImportError as error:
    raise SourceError(
      f"read Keras file '{path}'",
      "h5py is not installed",
      "pip install h5py",
    ) from error
  try:
    with h5py.File(path, "r") as f:
      told = {key: f.attrs[key] for key in f.attrs}
      is_weights = "layer_names" in told or "layers" in f
  except (OSError, KeyError, ValueError) as error:
    raise _unsound(path, first_line(error)) from error
  if "model_config" not in told:
    if not is_weights:
      raise _unsound(path, "it holds no model")
    raise SourceError(
      f"load Keras file '{path}'",
      "it holds weights and no model",
      "save all of it with model.save(FILE), or the weights as a checkpoint "
      "with tf.compat.v1.train.Saver, and pass --model=FILE.py:FUNCTION "
      "--checkpoint=PREFIX",
    )
  try:
    return _text(told.get("keras_version", "2")), json.loads(
      _text(told["model_config"])
    )
  except ValueError as error:
    raise _unsound(path, first_line(error)) from error


def _text(value):
  return value.decode() if isinstance(value, bytes) else str(value)


def _unsound(path, fact):
  return SourceError(
    f"read Keras file '{path}'",
    fact,
    "give the .keras or .h5 file that model.save wrote, whole",
  )


def _layer_of_code(config):
  """Name of a layer that is Python code, or None."""
  stack = [config]
  for value in stack:
    if isinstance(value, dict):
      if value.get("class_name") in _CODE:
        inner = value.get("config")
        named = inner.get("name") if isinstance(inner, dict) else None
        return named or value["class_name"]
      stack.extend(value.values())
    elif isinstance(value, list):
      stack.extend(value)
  return None
