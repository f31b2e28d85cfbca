# SPDX-License-Identifier: Apache-2.0
"""Arrays by input name, from files that may be anything."""

import zipfile

import numpy as np
import pytest

from bnexport.errors import SourceError
from bnexport.sources import arrays

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def path(tmp_path):
  path = str(tmp_path / "feeds.npz")
  np.savez(path, **{"x:0": X, "scope/y:1": np.array([True, False])})
  return path


def test_arrays_are_read_by_input_name(path):
  found = arrays.read(path, "the feeds")
  assert sorted(found) == ["scope/y:1", "x"]
  np.testing.assert_array_equal(found["x"], X)
  assert found["x"].dtype == X.dtype


def test_only_what_is_asked_for_is_read(path):
  assert list(arrays.read(path, "the feeds", ["x"])) == ["x"]


def test_headers_tell_shapes_and_dtypes(path):
  found = arrays.headers(path, "the feeds")
  assert found["x"] == ((2, 3), np.dtype(np.float32))
  assert found["scope/y:1"] == arrays.Header((2,), np.dtype(bool))


def test_headers_of_compressed_files(tmp_path):
  path = str(tmp_path / "feeds.npz")
  np.savez_compressed(path, x=np.zeros((1000, 3), np.int32))
  assert arrays.headers(path, "the feeds")["x"].shape == (1000, 3)


def test_headers_are_read_without_values(path, monkeypatch):
  monkeypatch.setattr(np, "load", None)
  assert len(arrays.headers(path, "the feeds")) == 2


BROKEN = {
  "missing": None,
  "empty": b"",
  "text": b"x = 1\n",
  "an array": b"\x93NUMPY\x01\x00",
}


@pytest.mark.parametrize("read", [arrays.read, arrays.headers])
@pytest.mark.parametrize("what", BROKEN)
def test_other_files_are_refused_in_one_line(tmp_path, what, read):
  path = tmp_path / "feeds.npz"
  if BROKEN[what] is not None:
    path.write_bytes(BROKEN[what])
  with pytest.raises(SourceError) as refused:
    read(str(path), "the feeds")
  message = str(refused.value)
  assert message.startswith(f"cannot read the feeds '{path}': ")
  assert "\n" not in message and "numpy.savez" in message


@pytest.mark.parametrize("read", [arrays.read, arrays.headers])
def test_files_that_are_cut_short_are_refused(path, read):
  with open(path, "rb+") as f:
    f.truncate(300)
  with pytest.raises(SourceError, match="cannot read the feeds"):
    read(path, "the feeds")


@pytest.mark.parametrize("read", [arrays.read, arrays.headers])
def test_objects_are_refused(tmp_path, read):
  path = str(tmp_path / "feeds.npz")
  np.savez(path, x=np.array([{}], object))
  with pytest.raises(SourceError, match="cannot read"):
    read(path, "the feeds")


@pytest.mark.parametrize("read", [arrays.read, arrays.headers])
def test_archive_without_arrays_is_refused(tmp_path, read):
  path = str(tmp_path / "feeds.npz")
  zipfile.ZipFile(path, "w").close()
  with pytest.raises(SourceError, match="it holds no arrays"):
    read(path, "the feeds")
