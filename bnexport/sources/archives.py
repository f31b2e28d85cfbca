# SPDX-License-Identifier: Apache-2.0
"""Bounds on what packed files unpack to, told by their stated sizes.

A few bytes of a zip or an HDF5 file may stand for terabytes. Does not import
TensorFlow.
"""

from __future__ import annotations

from bnexport.tf1 import tf1

# Zeros deflate to a thousandth; no weights and few data come near.
_MOST_BYTES, _MOST_TIMES = 1 << 30, 100


def refuse_bomb(path, size):
  """Raises ValueError where a file would unpack to much more than it is.

  Args:
    path: the file.
    size: bytes of all that it states to hold.
  """
  packed = max(tf1.gfile.Stat(path).length, 1)
  if size > _MOST_BYTES and size > _MOST_TIMES * packed:
    raise ValueError(f"its {packed} bytes would unpack to {size}")


def zipped_size(archive):
  """Bytes that the members of a zipfile.ZipFile state; no more are read."""
  return sum(member.file_size for member in archive.infolist())


def stored_size(h5_file):
  """Bytes that the datasets of an h5py.File state.

  Raises:
    ValueError: a part of it is in another file.
  """
  sizes, stack, seen = [], [h5_file], {h5_file}
  for group in stack:
    for name in group:
      link = type(group.get(name, getlink=True)).__name__
      if link != "HardLink":
        raise ValueError(f"'{name}' in it is a link to elsewhere")
      item = group[name]
      if item in seen:
        continue  # by another name; a group may even hold itself
      seen.add(item)
      if hasattr(item, "keys"):
        stack.append(item)
      elif getattr(item, "external", None):
        raise ValueError(f"'{name}' of it is in another file")
      else:
        sizes.append((item.size or 0) * item.dtype.itemsize)
  return sum(sizes)
