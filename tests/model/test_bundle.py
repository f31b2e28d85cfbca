# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of format V2, as they are read without TensorFlow and with it."""

from __future__ import annotations

import glob
import os

import numpy as np
import pytest
from judges.transforming import checkpoint

from bnexport.errors import SourceError
from bnexport.model import bundle
from bnexport.model.bundle import Bundle, Unusual
from bnexport.model.checkpoint import Checkpoint
from bnexport.tf1 import session, tf1

TYPES = (
  *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
  *("uint8", "uint16", "bool", "complex64", "complex128", "bfloat16"),
)


@pytest.fixture(autouse=True)
def crc():
  pytest.importorskip("google_crc32c")


def save(prefix, tensors, slices=None):
  """Writes tensors by (key, slice) as Savers do."""
  graph = tf1.Graph()
  with graph.as_default():
    made = tf1.raw_ops.SaveV2(
      prefix=prefix,
      tensor_names=[key for key, _ in tensors],
      shape_and_slices=[spec for _, spec in tensors],
      tensors=[tf1.constant(value) for value in tensors.values()],
    )
  with session(graph) as running:
    running.run(made)
  return prefix


def agree(prefix):
  """Compares all tensors of a checkpoint; returns how many there are."""
  ours, theirs = Bundle(prefix), tf1.train.NewCheckpointReader(prefix)
  assert ours.shapes == theirs.get_variable_to_shape_map()
  for key in ours.shapes:
    expected = theirs.get_tensor(key)
    if not isinstance(expected, bytes):
      assert ours.read(key).dtype == expected.dtype
      assert ours.read(key).shape == expected.shape
      assert ours.read(key).tolist() == expected.tolist()
    else:
      assert ours.read(key).item() == expected
  return len(ours.shapes)


def test_every_type(tmp_path):
  random = np.random.RandomState(0)
  tensors = {}
  for name in TYPES:
    for shape in ((), (3,), (2, 0), (2, 3)):
      value = random.randint(0, 2, shape)
      dtype = tf1.as_dtype(name).as_numpy_dtype
      tensors[f"{name}/{len(shape)}{shape[1:]}", ""] = np.asarray(value, dtype)
  tensors["text", ""] = np.array([b"a\0", b"", b"long" * 100], object)
  tensors["one text", ""] = b"ab\0"
  prefix = save(str(tmp_path / "model"), tensors)
  assert agree(prefix) == len(tensors)


def test_many_keys_and_a_large_tensor(tmp_path):
  """More than one block of keys, and a tensor that is mapped."""
  tensors = {(f"layer/with/a/name/{i}", ""): np.float32(i) for i in range(500)}
  large = np.random.RandomState(0).rand(300, 301).astype(np.float32)
  tensors["layer/large", ""] = large
  prefix = save(str(tmp_path / "model"), tensors)
  assert agree(prefix) == 501
  read = Bundle(prefix).read("layer/large")
  assert not read.flags.writeable and read.flags.c_contiguous
  part = Bundle(prefix).read("layer/large", [(7, 100), None])
  np.testing.assert_array_equal(part, large[7:107])


def test_shards(tmp_path):
  prefixes = [
    save(str(tmp_path / name), {(name, ""): np.arange(4.0) + i})
    for i, name in enumerate(("a", "b"))
  ]
  prefix = str(tmp_path / "model")
  graph = tf1.Graph()
  with graph.as_default():
    merged = tf1.raw_ops.MergeV2Checkpoints(
      checkpoint_prefixes=prefixes, destination_prefix=prefix
    )
  with session(graph) as running:
    running.run(merged)
  assert len(glob.glob(prefix + ".data-*-of-00002")) == 2
  assert agree(prefix) == 2


def part_of(word):
  """The slice that `2,3` means, which is of 3, or `-`."""
  begin, comma, length = word.partition(",")
  return slice(int(begin), int(begin) + int(length)) if comma else slice(None)


@pytest.mark.parametrize(
  "shape, specs",
  [
    ((6, 4), ["0,2:-", "2,3:-", "5,1:-"]),
    ((6, 4), ["-:0,1", "-:1,3"]),
    ((4, 4), ["0,2:0,2", "0,2:2,2", "2,2:0,2", "2,2:2,2"]),
    ((300, 2), ["0,200:-", "200,100:-"]),
    ((20000, 1), ["0,70:-", "70,9000:-", "9070,10930:-"]),
  ],
)
def test_partitioned_variables(tmp_path, shape, specs):
  whole = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
  full = " ".join(map(str, shape)) + " "

  tensors = {
    ("w", full + spec): whole[tuple(map(part_of, spec.split(":")))]
    for spec in specs
  }
  prefix = save(str(tmp_path / "model"), tensors)
  assert agree(prefix) == 1
  saved = Checkpoint(prefix)
  assert saved._bundle is not None
  for (_, spec), value in tensors.items():
    np.testing.assert_array_equal(saved.read("w", spec), value)
  across = full + f"1,{shape[0] - 2}:-"
  np.testing.assert_array_equal(saved.read("w", across), whole[1:-1])


@pytest.mark.parametrize(
  "value, data",
  [
    (0, b"\x80"),
    (-1, b"\x7f"),
    (63, b"\xbf"),
    (64, b"\xc0\x40"),
    (8191, b"\xdf\xff"),
    (8192, b"\xe0\x20\x00"),
    (-64, b"\x40"),
    (-65, b"\x3f\xbf"),
  ],
)
def test_numbers_in_keys_of_slices(value, data):
  assert bundle._signed(value) == data


def damaged(prefix):
  """Yields what damages a checkpoint, one file and byte at a time."""
  for path in sorted(glob.glob(prefix + ".*")):
    size = os.path.getsize(path)
    for at in range(size):
      yield path, at, None
    for length in (0, 1, size // 2, size - 1):
      yield path, None, length


def outcome(read, prefix):
  """The arrays of a checkpoint by key, or None where it is refused."""
  try:
    return read(prefix)
  except (SourceError, Unusual, OSError):
    return None


def all_of(prefix):
  ours = Bundle(prefix)
  return {key: ours.read(key).tolist() for key in ours.shapes}


def test_damage_is_noticed_wherever_it_is(tmp_path):
  """What is read of a file with one wrong byte, or without its end, is right."""
  prefix = save(
    str(tmp_path / "model"),
    {("w", ""): np.float32([1, 2]), ("s", ""): np.array([b"ab", b""], object)},
  )
  right, refused = all_of(prefix), 0
  for path, at, length in list(damaged(prefix)):
    with open(path, "rb") as f:
      data = f.read()
    changed = data[:length]
    if at is not None:
      changed = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
    with open(path, "wb") as f:
      f.write(changed)
    found = outcome(all_of, prefix)
    assert found in (None, right), (path, at, length)
    refused += found is None
    with open(path, "wb") as f:
      f.write(data)
  assert all_of(prefix) == right
  # Padding of the table's footer is no part of it.
  assert refused > 100


@pytest.mark.parametrize("end", [".index", ".data-00000-of-00001"])
def test_damaged_checkpoints_are_refused_in_one_line(tmp_path, end):
  saved = checkpoint(tmp_path, {"v": np.arange(3.0)})
  with open(saved.prefix + end, "rb+") as f:
    f.seek(9)
    f.write(b"\xaa\xaa")
  with pytest.raises(SourceError) as refused:
    Checkpoint(saved.prefix).read("v")
  assert str(refused.value).startswith("cannot read ")
  assert "\n" not in str(refused.value)


def test_without_checksums_tensorflow_reads(tmp_path, monkeypatch):
  saved = checkpoint(tmp_path, {"v": np.arange(3.0)})
  monkeypatch.setattr(bundle.importlib.util, "find_spec", lambda name: None)
  again = Checkpoint(saved.prefix)
  assert again._bundle is None and again.shapes == saved.shapes
  np.testing.assert_array_equal(again.read("v"), saved.read("v"))


def test_a_checkpoint_that_is_cut_while_it_is_read(tmp_path, monkeypatch):
  """Who has read a tensor keeps it; who has not gets one line."""
  array = np.arange(1 << 18, dtype=np.float32)
  prefix = save(str(tmp_path / "model"), {("v", ""): array})
  ours = Bundle(prefix)
  read, real = ours.read("v"), os.fstat

  def before_it_is_cut(file):
    found = real(file)
    os.truncate(prefix + ".data-00000-of-00001", 4096)
    return found

  monkeypatch.setattr(bundle.os, "fstat", before_it_is_cut)
  with pytest.raises(Unusual, match="cut short"):
    ours.read("v")
  child = os.fork()  # a signal would end this process
  if not child:
    os._exit(int(read.tolist() != array.tolist()))
  assert os.waitpid(child, 0)[1] == 0


def test_no_file_stays_open(tmp_path):
  """A process may hold more models than it may open files."""
  array = np.arange(8, dtype=np.float32)
  prefix = save(str(tmp_path / "model"), {("v", ""): array})
  before = len(os.listdir("/proc/self/fd"))
  held = [Bundle(prefix) for _ in range(3)]
  for one in held:
    one.read("v")
  assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_read_in_parts(tmp_path, monkeypatch):
  array = np.arange(1000, dtype=np.float32)
  prefix = save(str(tmp_path / "model"), {("v", ""): array})
  real = os.pread
  monkeypatch.setattr(
    bundle.os, "pread", lambda file, size, at: real(file, min(size, 999), at)
  )
  assert Bundle(prefix).read("v").tolist() == array.tolist()


def test_what_is_handed_on_as_it_is_stored(tmp_path, monkeypatch):
  """The same bytes as the array's, a few at a time."""
  random = np.random.RandomState(0)
  tensors = {}
  for name in TYPES:
    dtype = tf1.as_dtype(name).as_numpy_dtype
    for shape in ((), (2, 0), (7, 5)):
      value = np.asarray(random.randint(0, 2, shape), dtype)
      tensors[f"{name}/{shape}", ""] = value
  prefix = save(str(tmp_path / "model"), tensors)
  monkeypatch.setattr(bundle, "_PIECE", 16)
  ours, saved = Bundle(prefix), Checkpoint(prefix)
  for (key, _), value in tensors.items():
    size, pieces = ours.content(key)
    pieces = list(pieces)
    assert max(map(len, pieces), default=0) <= 16
    assert b"".join(pieces) == value.tobytes() and size == value.nbytes
    assert b"".join(saved.content(key)[1]) == value.tobytes()


def test_what_is_not_handed_on_as_it_is_stored(tmp_path, monkeypatch):
  halves = {("v", "4 0,2"): np.ones(2), ("v", "4 2,2"): np.zeros(2)}
  texts = {("t", ""): np.array([b"a", b"b"], object)}
  prefix = save(str(tmp_path / "model"), {**halves, **texts, ("w", ""): 1.0})
  saved = Checkpoint(prefix)
  for key in ("v", "t"):
    assert saved.content(key) is None
    with pytest.raises(Unusual, match="as it is"):
      Bundle(prefix).content(key)
  assert saved.content("w") is not None
  assert saved.content("w", "4 0,2") is None
  monkeypatch.setattr(bundle.importlib.util, "find_spec", lambda name: None)
  assert Checkpoint(prefix).content("w") is None  # TensorFlow reads it


def test_damage_of_what_is_handed_on_is_refused_as_that_of_arrays(tmp_path):
  """Wherever it is, the pieces do not end well."""
  prefix = save(str(tmp_path / "model"), {("v", ""): np.arange(20.0)})
  (path,) = glob.glob(prefix + ".data-*")
  with open(path, "rb") as f:
    data = f.read()
  for at in (0, 77, len(data) - 1, None):
    changed = data[:90]
    if at is not None:
      changed = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
    with open(path, "wb") as f:
      f.write(changed)
    with pytest.raises(SourceError) as of_array:
      Checkpoint(prefix).read("v")
    with pytest.raises(SourceError) as of_pieces:
      list(Checkpoint(prefix).content("v")[1])
    assert str(of_pieces.value) == str(of_array.value)


def test_damage_that_is_gone_when_it_is_looked_for(tmp_path, monkeypatch):
  """What was handed on is wrong all the same."""
  prefix = save(str(tmp_path / "model"), {("v", ""): np.arange(20.0)})
  saved, real = Checkpoint(prefix), os.pread
  reads = []

  def first_time_otherwise(file, size, at):
    reads.append(at)
    found = real(file, size, at)
    return bytes(len(found)) if len(reads) == 1 else found

  monkeypatch.setattr(bundle.os, "pread", first_time_otherwise)
  with pytest.raises(SourceError, match="a checksum does not match"):
    list(saved.content("v")[1])
  assert len(reads) == 2
