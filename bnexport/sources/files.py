"""Reading protobuf files that may be missing, truncated or something else."""

from __future__ import annotations

import os

from google.protobuf import message, text_format

from bnexport.errors import SourceError, nearest
from bnexport.tf1 import tf1


def read_proto(path, kind, what):
  """Reads a binary or text protobuf.

  Args:
    path: a file, through tf.io.gfile.
    kind: the message class.
    what: names the file in messages.

  Raises:
    SourceError: it is missing, unreadable, truncated or not such a protobuf.
  """
  try:
    with tf1.gfile.GFile(path, "rb") as f:
      data = f.read()
  except tf1.errors.OpError as error:
    raise SourceError(
      "cannot read %s '%s': %s" % (what, path, _reason(path, error))
    ) from error
  proto = kind()
  try:
    proto.ParseFromString(data)
    if data:
      return proto
  except (message.DecodeError, RuntimeError):
    pass  # it may be text
  if not data:
    raise SourceError(
      "cannot read %s '%s': the file is empty; write or copy "
      "it again" % (what, path)
    )
  proto = kind()
  try:
    text_format.Parse(data.decode("utf-8"), proto)
    return proto
  except (UnicodeDecodeError, text_format.ParseError) as error:
    raise SourceError(
      "cannot read %s '%s': it is no %s, or it is cut short; give the file "
      "that TensorFlow wrote" % (what, path, kind.DESCRIPTOR.name)
    ) from error


def _reason(path, error):
  if isinstance(error, tf1.errors.NotFoundError):
    folder = os.path.dirname(path) or "."
    there = os.listdir(folder) if os.path.isdir(folder) else []
    return "there is no such file" + (
      nearest(os.path.basename(path), there, "; check the path")
    )
  if tf1.gfile.IsDirectory(path):
    return "it is a directory; give the file in it"
  return (
    "%s; check the file's permissions" % (str(error).strip().splitlines()[0])
  )
