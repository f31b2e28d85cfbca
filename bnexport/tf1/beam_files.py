# SPDX-License-Identifier: Apache-2.0
"""Files on Apache Beam's filesystems, for schemes that TensorFlow lacks.

The names are those of tf.io.gfile. All errors of Beam's are OSErrors.
"""

from __future__ import annotations

import contextlib
import io
from typing import IO, Iterator, List

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from bnexport.errors import first_line
from bnexport.tf1.gfile import FileStatistics


def has(path: str) -> bool:
  """Tells whether Beam has a filesystem for a path."""
  try:
    FileSystems.get_filesystem(path)
  except ValueError:  # so it says that there is none
    return False
  return True


@contextlib.contextmanager
def GFile(path: str, mode: str = "r") -> Iterator[IO]:
  """A file that is open in the block; a new one is there after it."""
  make = FileSystems.open if "r" in mode else FileSystems.create
  opened = make(path, compression_type=CompressionTypes.UNCOMPRESSED)
  with contextlib.closing(opened) as f:
    if "b" in mode:
      yield f
      return
    text = io.TextIOWrapper(f, encoding="utf-8", newline="")
    yield text
    text.flush()
    text.detach()


def Exists(path: str) -> bool:
  return FileSystems.exists(path) or IsDirectory(path)


def IsDirectory(path: str) -> bool:
  """Tells whether there is a file below; stores of objects know no more."""
  return bool(_below(path))


def Stat(path: str) -> FileStatistics:
  (match,) = FileSystems.match([path])
  if not match.metadata_list:
    raise FileNotFoundError(f"{path}; no such file")
  return FileStatistics(match.metadata_list[0].size_in_bytes)


def ListDirectory(path: str) -> List[str]:
  start = _folder(path)
  return sorted({p[len(start) :].split("/")[0] for p in _below(path)})


def Glob(pattern: str) -> List[str]:
  (match,) = FileSystems.match([pattern])
  return sorted(found.path for found in match.metadata_list)


def Rename(old: str, new: str, overwrite: bool = False) -> None:
  """Renames a file, or a directory's files; copies where there is no rename.

  Beam's filesystems do not replace files, so `new` is away for a moment.
  """
  if Exists(new):
    if not overwrite:
      raise FileExistsError(f"{new} exists")
    FileSystems.delete([new])
  try:
    FileSystems.rename([old], [new])
  except (BeamIOError, NotImplementedError):
    FileSystems.copy([old], [new])
    FileSystems.delete([old])


def Copy(old: str, new: str, overwrite: bool = False) -> None:
  if not overwrite and Exists(new):
    raise FileExistsError(f"{new} exists")
  FileSystems.copy([old], [new])


def Remove(path: str) -> None:
  FileSystems.delete([path])


def MakeDirs(path: str) -> None:
  with contextlib.suppress(BeamIOError):  # it is there
    FileSystems.mkdirs(path)


def DeleteRecursively(path: str) -> None:
  FileSystems.delete([path])


def _folder(path: str) -> str:
  return path.rstrip("/") + "/"


def _below(path: str) -> List[str]:
  """Paths of the files in a directory, and in those below it."""
  try:
    (match,) = FileSystems.match([_folder(path) + "**"])
  except BeamIOError as error:
    raise OSError(first_line(error)) from error
  return [found.path for found in match.metadata_list]
