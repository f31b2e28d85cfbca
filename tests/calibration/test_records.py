# SPDX-License-Identifier: Apache-2.0
"""Calibration data in TFRecord files, and moments merged in any order."""

import os

import numpy as np
import pytest

from bnexport.calibration.data import Input, read_data
from bnexport.calibration.moments import Moments
from bnexport.errors import SourceError
from bnexport.tf1 import tf1

ROWS = np.random.RandomState(5).normal(3, 2, [600, 4]).astype(np.float32)
FUNCTION = """
import numpy as np

def rows(record):
  return {"x:0": np.frombuffer(record, np.float32)}

def uneven(record):
  row = np.frombuffer(record, np.float32)
  return {"x": row[: 4 if row[0] > 3 else 3]}

def broken(record):
  raise KeyError("image")

def nothing(record):
  return {"x": object()}
"""


def assert_refusal(refused, *words):
  for word in ("cannot ", *words):
    assert word in str(refused.value)


@pytest.fixture
def shards(tmp_path):
  """Three TFRecord files, and the function that reads them."""
  for i, rows in enumerate(np.split(ROWS, [10, 400])):
    with tf1.python_io.TFRecordWriter(str(tmp_path / f"data-{i}")) as f:
      for row in rows:
        f.write(row.tobytes())
  (tmp_path / "reading.py").write_text(FUNCTION)
  return tmp_path


def opened(folder, name="rows", pattern="data-*", **options):
  function = f"{folder / 'reading.py'}:{name}"
  return read_data(str(folder / pattern), function=function, **options)


def fed(data, size=-1):
  return [f["x"] for f in data.feeds({"x": Input(tf1.float32, (size, 4))})]


def test_records_are_rows_in_the_order_of_the_files(shards):
  data = opened(shards, rows=128)
  assert [os.path.basename(file) for file in data.files] == [
    "data-0",
    "data-1",
    "data-2",
  ]
  assert data.names == ["x"]
  batches = fed(data)
  assert max(map(len, batches)) == 128
  np.testing.assert_array_equal(np.concatenate(batches), ROWS)


def test_records_of_an_exact_number_of_rows(shards):
  data = opened(shards)
  assert [len(x) for x in fed(data, 7)] == [7] * 85
  np.testing.assert_array_equal(np.concatenate(fed(data, 7)), ROWS[:595])


def test_some_of_the_files(shards):
  data = opened(shards)
  inputs = {"x": Input(tf1.float32, (-1, 4))}
  second = [f["x"] for f in data.feeds(inputs, data.files[1:2])]
  np.testing.assert_array_equal(np.concatenate(second), ROWS[10:400])


@pytest.mark.parametrize(
  "name, words",
  [("broken", "image"), ("nothing", "arrays of numbers"), ("absent", "absent")],
)
def test_functions_that_make_no_rows(shards, name, words):
  with pytest.raises(SourceError) as refused:
    opened(shards, name)
  assert_refusal(refused, words)


def test_rows_that_differ(shards):
  data = opened(shards, "uneven")
  with pytest.raises(SourceError) as refused:
    list(data.feeds({"x": Input(tf1.float32, None)}))
  assert_refusal(refused, "its rows differ", "same shapes")


def test_files_that_hold_no_records(shards):
  with pytest.raises(SourceError) as refused:
    opened(shards, pattern="none-*")
  assert_refusal(refused, "no file matches")
  (shards / "other").write_bytes(b"no records at all")
  with pytest.raises(SourceError) as refused:
    opened(shards, pattern="other")
  assert_refusal(refused, "no TFRecord file, or cut short")
  with open(str(shards / "data-1"), "rb+") as f:
    f.truncate(1000)
  with pytest.raises(SourceError) as refused:
    opened(shards)
  assert_refusal(refused, "cut short")
  (shards / "data-1").write_bytes(b"")
  with pytest.raises(SourceError) as refused:
    opened(shards)
  assert_refusal(refused, "no record")


def test_a_record_whose_checksum_is_wrong(shards):
  with open(str(shards / "data-2"), "rb+") as f:
    f.seek(40)
    f.write(b"\x01")
  with pytest.raises(SourceError) as refused:
    fed(opened(shards))
  assert_refusal(refused, "copy the file again")


def seen(rows):
  moments = Moments()
  moments.add(rows, (1,))
  return moments


def test_moments_merge_in_any_order():
  x = ROWS.astype(np.float64) * 1e-3 + 1e6
  parts = [seen(part) for part in np.split(x, [1, 50, 300, 301])]
  left, right, nested = Moments(), Moments(), Moments()
  for part in parts:
    left.merge(part)
  for part in reversed(parts):
    right.merge(Moments.of_state(part.state))
  nested.merge(parts[0])
  rest = Moments()
  for part in parts[1:]:
    rest.merge(part)
  rest.merge(Moments())
  nested.merge(rest)
  for moments in (left, right, nested):
    assert moments.samples == 600
    np.testing.assert_allclose(moments.mean, x.mean(0), 1e-14)
    np.testing.assert_allclose(moments.variance, x.var(0), 1e-9)
  assert Moments.of_state(Moments().state).samples == 0


@pytest.mark.skipif(
  tf1.__version__ < "2",
  reason="this TensorFlow has no file system of which nothing is on disk",
)
def test_records_on_a_file_system_of_tensorflow(shards):
  for name in ("data-0", "data-1", "data-2"):
    tf1.gfile.Copy(str(shards / name), f"ram://shards/{name}", overwrite=True)
  function = f"{shards / 'reading.py'}:rows"
  data = read_data("ram://shards/data-*", function=function)
  np.testing.assert_array_equal(np.concatenate(fed(data)), ROWS)
