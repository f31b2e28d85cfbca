# SPDX-License-Identifier: Apache-2.0
"""The statements of a Keras file on itself, read without Keras."""

from __future__ import annotations

import json
import zipfile
import zlib
from typing import NamedTuple

from bnexport.errors import SourceError, first_line
from bnexport.sources.archives import refuse_bomb, stored_size, zipped_size
from bnexport.sources.files import read
from bnexport.sources.keras_code import reaching_part
from bnexport.tf1 import tf1

ENDINGS = (".keras", ".h5", ".hdf5")
# Bytes of a text in it; the largest networks' have some megabytes.
_LONGEST_TEXT = 1 << 27


# What zipfile, json and h5py raise of files that are not whole.
_UNSOUND = (
  zipfile.BadZipFile,
  zlib.error,
  AttributeError,
  EOFError,
  KeyError,
  NotImplementedError,
  OSError,
  RecursionError,
  RuntimeError,
  TypeError,
  ValueError,
)


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
  found = reaching_part(config)
  if found is not None:
    raise SourceError(
      f"load Keras file '{path}'",
      f"its layer '{found[0]}' {found[1]}",
      "where you trust it and have its code, save a SavedModel, and pass "
      "that with --saved_model",
    )
  return KerasFile(path, version, is_zip)


def _zipped(path):
  try:
    with zipfile.ZipFile(path) as archive:
      refuse_bomb(path, zipped_size(archive))
      metadata = _parsed(archive, "metadata.json")
      config = _parsed(archive, "config.json")
      broken = archive.testzip()
  except _UNSOUND as error:
    raise _unsound(path, first_line(error)) from error
  if broken is not None:
    raise _unsound(path, f"'{broken}' in it is damaged")
  if not isinstance(metadata, dict):
    raise _unsound(path, "its metadata are no object")
  return str(metadata.get("keras_version", "2")), config


def _parsed(archive, name):
  if archive.getinfo(name).file_size > _LONGEST_TEXT:
    raise ValueError(f"'{name}' in it is too large")
  return json.loads(archive.read(name).decode())


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
      refuse_bomb(path, stored_size(f))
      told = {key: f.attrs[key] for key in f.attrs}
      is_weights = "layer_names" in told or "layers" in f
  except _UNSOUND as error:
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
  except (ValueError, RecursionError) as error:
    raise _unsound(path, first_line(error)) from error


def _text(value):
  return value.decode() if isinstance(value, bytes) else str(value)


def _unsound(path, fact):
  return SourceError(
    f"read Keras file '{path}'",
    fact,
    "give the .keras or .h5 file that model.save wrote, whole",
  )
