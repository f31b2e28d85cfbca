# SPDX-License-Identifier: Apache-2.0
"""Storage that Apache Beam knows and TensorFlow does not, held in memory."""

import io
import os
import time

import numpy as np
import pytest
from judges.commands import copy_of
from judges.exporting import assert_close

filesystem = pytest.importorskip("apache_beam.io.filesystem")

from bnexport.calibration.data import Input, read_data  # noqa: E402
from bnexport.errors import SourceError  # noqa: E402
from bnexport.exporting import batch, record  # noqa: E402
from bnexport.exporting.delivery import Delivery  # noqa: E402
from bnexport.exporting.export import Options  # noqa: E402
from bnexport.model.request import Request  # noqa: E402
from bnexport.proof.runs import ImportedGraph  # noqa: E402
from bnexport.tf1 import tf1  # noqa: E402

FILES = {}


class _Kept(io.BytesIO):
  """A file that is there once it is closed."""

  def __init__(self, path):
    super().__init__()
    self._path = path

  def close(self):
    if not self.closed:
      FILES[self._path] = self.getvalue()
    super().close()


class MemoryFiles(filesystem.FileSystem):
  """A store of objects: no directories, and no rename."""

  @classmethod
  def scheme(cls):
    return "memory"

  def join(self, basepath, *paths):
    return "/".join([basepath, *paths])

  def split(self, path):
    return path.rpartition("/")[::2]

  def mkdirs(self, path):
    pass

  def has_dirs(self):
    return False

  def _list(self, dir_or_prefix):
    for path, data in list(FILES.items()):
      if path.startswith(dir_or_prefix):
        yield filesystem.FileMetadata(path, len(data), time.time())

  def create(self, path, mime_type=None, compression_type=None):
    return _Kept(path)

  def open(self, path, mime_type=None, compression_type=None):
    if path not in FILES:
      raise filesystem.BeamIOError("no such file", {path: None})
    return io.BytesIO(FILES[path])

  def copy(self, source_file_names, destination_file_names):
    for source, destination in zip(source_file_names, destination_file_names):
      FILES[destination] = FILES[source]

  def rename(self, source_file_names, destination_file_names):
    raise NotImplementedError

  def exists(self, path):
    return path in FILES

  def size(self, path):
    return len(FILES[path])

  def last_updated(self, path):
    return 0.0

  def checksum(self, path):
    return str(hash(FILES[path]))

  def metadata(self, path):
    return filesystem.FileMetadata(path, self.size(path))

  def delete(self, paths):
    for path in paths:
      for found in [p for p in FILES if (p + "/").startswith(path + "/")]:
        del FILES[found]


@pytest.fixture(autouse=True)
def empty():
  FILES.clear()
  yield
  FILES.clear()


def write(path, data=b"held"):
  with tf1.gfile.GFile(path, "wb") as f:
    f.write(data)


def test_files_are_written_listed_renamed_and_removed():
  write("memory://a/b/one")
  write("memory://a/two", b"")
  files = tf1.gfile
  assert files.Exists("memory://a/two") and files.Exists("memory://a")
  assert files.IsDirectory("memory://a/b")
  assert not files.IsDirectory("memory://a/two")
  assert not files.Exists("memory://a/three")
  assert files.ListDirectory("memory://a") == ["b", "two"]
  assert files.Glob("memory://a/t*") == ["memory://a/two"]
  assert files.Stat("memory://a/b/one").length == 4
  with pytest.raises(FileNotFoundError):
    files.Stat("memory://a/three")
  with pytest.raises(OSError):
    files.Rename("memory://a/b/one", "memory://a/two")
  files.Rename("memory://a/b/one", "memory://a/two", overwrite=True)
  assert FILES == {"memory://a/two": b"held"}
  files.Copy("memory://a/two", "memory://a/b/four")
  with files.GFile("memory://a/b/four", "r") as f:
    assert f.read() == "held"
  with files.GFile("memory://a/b/four", "w") as f:
    f.write("näher")
  assert FILES["memory://a/b/four"].decode() == "näher"
  files.DeleteRecursively("memory://a/b")
  files.Remove("memory://a/two")
  assert not FILES


def test_a_scheme_that_nobody_has():
  with pytest.raises(OSError):
    write("nobody://a/file")


def test_a_checkpoint_is_exported_there(cases, tmp_path):
  case = cases("layers_fused_literal")
  prefix = copy_of(case, tmp_path)
  for name in os.listdir(str(tmp_path)):
    with open(str(tmp_path / name), "rb") as f:
      FILES["memory://runs/1/" + name] = f.read()
  remote = "memory://runs/1/" + os.path.basename(prefix)
  (job,) = batch.plan(
    "memory://runs/*/model.ckpt*", "memory://out/{run}.pb", None, ".pb"
  )
  assert job.checkpoint == remote
  task = batch.Task(
    Request("meta_graph", None, outputs=(case.output,)),
    Options(),
    Delivery(""),
    run="first",
  )
  verdict = batch.export_one(task, job)
  assert verdict[:2] == ("ok", "memory://out/1.pb")
  graph = tf1.GraphDef.FromString(FILES["memory://out/1.pb"])
  runner = ImportedGraph(graph, [case.output])
  assert_close(runner.run({case.input: case.x})[0], case.y, case.tol)
  runner.close()
  # The same run tells what it did; another one does not replace it.
  held = dict(FILES)
  assert batch.export_one(task, job) == verdict
  again = batch.export_one(
    batch.Task(task.request, Options(), Delivery("")), job
  )
  assert again.word == "refused"
  assert FILES == held
  assert record.is_done("memory://out/1.pb", task.origin(remote))
  assert not [path for path in FILES if "part" in path]


ROWS = np.random.RandomState(8).normal(3, 2, [9, 4]).astype(np.float32)
FUNCTION = """
import numpy as np

def rows(record):
  return {"x": np.frombuffer(record, np.float32)}
"""


def fed(pattern, function=""):
  data = read_data(pattern, function=function)
  feeds = data.feeds({"x": Input(tf1.float32, (-1, 4))})
  return data.files, np.concatenate([f["x"] for f in feeds])


@pytest.mark.parametrize("pattern", ["memory://data/part-*", "memory://data"])
def test_arrays_for_calibration_are_read_there(pattern):
  for i, rows in enumerate(np.split(ROWS, [4])):
    held = io.BytesIO()
    np.savez(held, x=rows)
    FILES[f"memory://data/part-{i}.npz"] = held.getvalue()
  files, rows = fed(pattern)
  assert files == sorted(FILES)
  np.testing.assert_array_equal(rows, ROWS)


def test_records_for_calibration_are_read_there(tmp_path):
  (tmp_path / "reading.py").write_text(FUNCTION)
  # The first name begins the second one.
  for name, rows in zip(("1", "10"), np.split(ROWS, [4])):
    local = str(tmp_path / name)
    with tf1.python_io.TFRecordWriter(local) as f:
      for row in rows:
        f.write(row.tobytes())
    with open(local, "rb") as f:
      FILES[f"memory://data/part-{name}"] = f.read()
  files, rows = fed("memory://data/part-*", f"{tmp_path / 'reading.py'}:rows")
  assert files == ["memory://data/part-1", "memory://data/part-10"]
  np.testing.assert_array_equal(rows, ROWS)


@pytest.mark.parametrize("held", [b"", b"PK\x05\x06" + bytes(18), b"cut"])
def test_bad_shards_there_are_refused(held):
  FILES["memory://data/part.npz"] = held
  with pytest.raises(SourceError, match="memory://data/part.npz"):
    read_data("memory://data/part.npz")
  with pytest.raises(SourceError, match="no file matches"):
    read_data("memory://data/*.tfrecord")
