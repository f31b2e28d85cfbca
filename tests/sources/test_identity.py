# SPDX-License-Identifier: Apache-2.0
"""Files and directories are told by their bytes, whatever they are called."""

import io
import os
import random
import shutil
import struct
import zipfile

import numpy as np
import pytest
import saved
import zoo
from google.protobuf import text_format

from bnexport.errors import SourceError
from bnexport.sources import identity
from bnexport.sources.files import read_proto
from bnexport.tf1 import tf1


def kind(path):
  return identity.identify(str(path)).kind


@pytest.fixture(scope="module")
def case(cases):
  return cases("contrib_fused_phase")


@pytest.mark.parametrize("name", zoo.names()[::40])
def test_training_graphs_and_frozen_ones(cases, name, tmp_path):
  """By any name, binary and as text."""
  case = cases(name)
  meta = case.prefix + ".meta"
  shutil.copy(meta, str(tmp_path / "a.pb"))
  proto = read_proto(meta, tf1.MetaGraphDef, "it")
  (tmp_path / "b").write_text(text_format.MessageToString(proto))
  (tmp_path / "c").write_bytes(proto.graph_def.SerializeToString())
  (tmp_path / "d").write_text(text_format.MessageToString(proto.graph_def))
  proto.ClearField("meta_info_def")
  (tmp_path / "e").write_bytes(proto.SerializeToString())
  assert [kind(tmp_path / name) for name in ("a.pb", "b", "c", "d", "e")] == [
    *("meta_graph", "meta_graph", "graph_def", "graph_def", "meta_graph")
  ]
  if case.naive:
    assert kind(case.naive) == "graph_def"


@pytest.mark.parametrize("end", ["", ".index", ".data-00000-of-00001"])
def test_parts_of_a_checkpoint_mean_its_prefix(case, end):
  found = identity.identify(case.prefix + end)
  assert (found.kind, found.path) == ("checkpoint", case.prefix)


def test_directories_of_checkpoints(case, tmp_path):
  for step in (2, 10):
    for end in (".index", ".data-00000-of-00001"):
      shutil.copy(case.prefix + end, str(tmp_path / f"model-{step}{end}"))
  (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model-10"\n')
  for path in (tmp_path, tmp_path / "checkpoint"):
    found = identity.identify(str(path))
    assert found.path == str(tmp_path / "model-10")
    assert found.others == (str(tmp_path / "model-2"),)


@pytest.mark.parametrize("name", ["keras", "keras3", "tf_keras", "module"])
def test_saved_models_and_keras_files(name, tmp_path):
  folder, _ = saved.load(name, tmp_path)
  told = {
    "model.h5": "keras",
    "model.keras": "keras",
    "weights.h5": "keras_weights",
    "truth.npz": "npz",
    "saved": "saved_model",
    "saved/saved_model.pb": "saved_model",
    "saved/fingerprint.pb": "other",
    "saved/keras_metadata.pb": "other",
  }
  there = [n for n in told if os.path.exists(os.path.join(folder, n))]
  assert {n: kind(os.path.join(folder, n)) for n in there} == {
    n: told[n] for n in there
  }
  assert len(there) > 2
  moved = tmp_path / "model.pb"
  shutil.copy(os.path.join(folder, "saved", "saved_model.pb"), str(moved))
  assert kind(moved) == "saved_model"


def test_versions_of_a_saved_model(tmp_path):
  folder, _ = saved.load("module", tmp_path)
  for version in ("2", "10"):
    shutil.copytree(
      os.path.join(folder, "saved"), str(tmp_path / "served" / version)
    )
  found = identity.identify(str(tmp_path / "served"))
  assert found.path == str(tmp_path / "served" / "10")
  assert found.others == (str(tmp_path / "served" / "2"),)


def record(data):
  length = struct.pack("<Q", len(data))
  crc = struct.pack("<I", identity.masked(identity._crc(length)))
  return (
    length
    + crc
    + data
    + struct.pack("<I", identity.masked(identity._crc(data)))
  )


def npz():
  stream = io.BytesIO()
  np.savez(stream, x=np.zeros(2))
  return stream.getvalue()


def archive():
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, "w") as made:
    made.writestr("a/data.pkl", "")
  return stream.getvalue()


# ir_version, producer_name, and a graph with one node.
ONNX = b'\x08\x07\x12\x07pytorch:\x0a\x0a\x08\x0a\x01x\x12\x01y"\x00'

FILES = {
  "model.tflite": (b"\x1c\0\0\0TFL3" + bytes(20), "tflite"),
  "model.onnx": (ONNX, "onnx"),
  "train-0": (record(b"\x0a\x03abc"), "tfrecord"),
  "events": (record(b"\x09" + bytes(8) + b"\x1a\x0dbrain.Event:2"), "events"),
  "arrays": (npz(), "npz"),
  "net.py": (b"def build(x, is_training):\n  return x\n", "model"),
  "damaged.h5": (b"\x89HDF\r\n\x1a\n" + bytes(30), "other"),
  "damaged.npz": (b"PK\x03\x04" + bytes(30), "other"),
  "weights.pt": (archive(), "other"),
  "pointer.pb": (b"version https://git-lfs.github.com/spec/v1\n", "other"),
  "page.pb": (b"<!DOCTYPE html><html>", "other"),
  "notes.txt": (b"node, a small town\n", "other"),
  "empty.pb": (b"", "other"),
  "noise": (
    bytes(random.Random(7).randrange(256) for _ in range(999)),
    "other",
  ),
}


@pytest.mark.parametrize("name", sorted(FILES))
def test_other_files(name, tmp_path):
  data, expected = FILES[name]
  (tmp_path / name).write_bytes(data)
  found = identity.identify(str(tmp_path / name))
  assert found.kind == expected
  assert bool(found.fact) == (expected == "other")


def test_records_of_tensorflow_have_this_checksum(tmp_path):
  path = str(tmp_path / "a.tfrecord")
  with tf1.python_io.TFRecordWriter(path) as writer:
    writer.write(b"some bytes")
  assert (tmp_path / "a.tfrecord").read_bytes() == record(b"some bytes")


def test_damaged_bytes_are_told_or_refused(case, tmp_path):
  """Nothing but an Identity or a SourceError comes of them."""
  chance = random.Random(3)
  path = tmp_path / "file"
  sources = [case.prefix + ".meta", case.prefix + ".index", case.naive]
  for source in filter(None, sources):
    with open(source, "rb") as f:
      whole = f.read()
    for _ in range(60):
      data = bytearray(whole[: chance.randrange(1, len(whole))])
      for _ in range(chance.randrange(9)):
        data[chance.randrange(min(len(data), 99))] = chance.randrange(256)
      path.write_bytes(bytes(data))
      try:
        assert identity.identify(str(path)).path
      except SourceError as error:
        assert error.step


def test_what_is_not_there(tmp_path):
  (tmp_path / "frozen.pb").write_bytes(b"")
  with pytest.raises(SourceError, match="did you mean 'frozen.pb'"):
    identity.identify(str(tmp_path / "frozn.pb"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_is_not_waited_for(tmp_path):
  os.mkfifo(str(tmp_path / "pipe"))
  with pytest.raises(SourceError, match="FIFO"):
    identity.identify(str(tmp_path / "pipe"))
