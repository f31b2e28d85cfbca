# SPDX-License-Identifier: Apache-2.0
"""Files that wait, that are bombs, or that would have something executed."""

from __future__ import annotations

import json
import os
import socket
import zipfile

import numpy as np
import pytest
import saved
from judges.commands import assert_refused, copy_of, run

from bnexport.errors import SourceError
from bnexport.sources import archives, arrays, keras_file
from bnexport.sources.keras_code import reaching_part
from bnexport.sources.saved_model_file import read_saved_model
from bnexport.tf1 import SavedModelProto

INPUTS = {
  "inspect": ["--graph_def={}"],
  "repair": ["--graph_def={}", "--output_node=y"],
  "transform": [
    "--in_graph={}",
    "--out_graph={}.out.pb",
    "--outputs=y",
    "--transforms=fold_constants",
  ],
  "validate": ["--graph={}"],
  "freeze": ["--checkpoint={}", "--output_node=y"],
}


@pytest.mark.parametrize("command", sorted(INPUTS))
@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_what_is_no_file_is_refused_at_once(capsys, tmp_path, command, kind):
  path = str(tmp_path / "special")
  if kind == "fifo":
    os.mkfifo(path)
  elif kind == "socket":
    with socket.socket(socket.AF_UNIX) as listening:
      listening.bind(path)
  else:
    os.symlink("/dev/zero", path)
  arguments = [argument.format(path) for argument in INPUTS[command]]
  result = run(capsys, *arguments, command=command)
  assert_refused(result, f"it is a {kind}".replace("fifo", "FIFO"))


@pytest.mark.parametrize("end", [".index", ".data-00000-of-00001", ".meta"])
def test_a_part_of_a_checkpoint_that_waits(capsys, cases, tmp_path, end):
  prefix = copy_of(cases("layers_fused_literal"), tmp_path)
  os.remove(prefix + end)
  os.mkfifo(prefix + end)
  result = run(capsys, f"--checkpoint={prefix}", command="inspect")
  assert_refused(result, "it is a FIFO")


def test_feeds_that_wait(tmp_path):
  os.mkfifo(str(tmp_path / "feeds.npz"))
  with pytest.raises(SourceError, match="it is a FIFO"):
    arrays.read(str(tmp_path / "feeds.npz"), "feeds")


def test_a_file_larger_than_a_protobuf_is_not_read(capsys, tmp_path):
  path = str(tmp_path / "large.pb")
  with open(path, "wb") as f:
    f.truncate(1 << 40)  # it takes no room on a disk
  result = run(capsys, f"--graph_def={path}", command="inspect")
  assert_refused(result, "1099511627776 bytes", "2 GB at most")


def test_a_deep_text_is_one_line(capsys, tmp_path):
  path = tmp_path / "deep.pbtxt"
  path.write_text(
    'node { attr { key: "f" value { func { attr { key: "f" value {' * 9999
  )
  result = run(capsys, f"--graph_def={path}", command="inspect")
  assert_refused(result, "no GraphDef")


def test_a_deep_keras_file_is_one_line(tmp_path):
  path = str(tmp_path / "deep.keras")
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("metadata.json", "{}")
    archive.writestr("config.json", "[" * 99999)
  with pytest.raises(SourceError, match="cannot read Keras file .*recursion"):
    keras_file.describe(path)


def test_arrays_that_unpack_to_much_more_than_they_are(tmp_path):
  path = str(tmp_path / "bomb.npz")
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    with archive.open("x.npy", "w", force_zip64=True) as f:
      for _ in range(1030):
        f.write(bytes(1 << 20))
  with pytest.raises(SourceError, match="would unpack to 1080033280"):
    arrays.read(path, "feeds")
  with pytest.raises(SourceError, match="would unpack to 1080033280"):
    arrays.headers(path, "feeds")


def test_a_header_that_states_more_than_there_is(tmp_path):
  path = str(tmp_path / "short.npz")
  np.savez(path, x=np.zeros(8, np.float32))
  with zipfile.ZipFile(path) as archive:
    data = archive.read("x.npy")
  data = data.replace(b"(8,), }" + 6 * b" ", b"(8888888,), }")
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("x.npy", data)
  with pytest.raises(SourceError, match="not as large as it states"):
    arrays.read(path, "feeds")


def test_pickled_arrays_are_not_read(tmp_path):
  path = str(tmp_path / "objects.npz")
  np.savez(path, x=np.array([{}], object))
  with pytest.raises(SourceError, match="holds Python objects"):
    arrays.read(path, "feeds")


def layer(kind="Dense", module="keras.layers", **config):
  held = {"class_name": kind, "module": module, "config": {"name": "it"}}
  held["config"].update(config)
  return {"config": {"layers": [held]}, "class_name": "Functional"}


@pytest.mark.parametrize(
  "config",
  [
    layer(),
    layer(module=None),
    layer(module="keras.src.layers.core.dense"),
    layer("TFOpLambda", function="math.add"),
    layer("StringLookup", vocabulary=["a", "b"]),
    layer(
      activation={
        "module": "builtins",
        "class_name": "function",
        "config": "relu",
      }
    ),
  ],
)
def test_usual_layers_are_let_in(config):
  assert reaching_part(config) is None


@pytest.mark.parametrize(
  "config, words",
  [
    (layer("Lambda"), "Python code"),
    (layer("TorchModuleWrapper"), "Python code"),
    (layer("system", module="os"), "module 'os'"),
    (layer("get_file", module="keras.utils"), "module 'keras.utils'"),
    (layer("Dense", module="keras.layers\n"), "module"),
    (layer("Dense", module=["keras.layers"]), "module"),
    (layer("TFOpLambda", function="io.write_file"), "'io.write_file'"),
    (layer("TFOpLambda", function="raw_ops.ReadFile"), "'raw_ops.ReadFile'"),
    (layer("StringLookup", vocabulary="/etc/passwd"), "'/etc/passwd'"),
    (layer(inner=layer("__lambda__")), "Python code"),
  ],
)
def test_a_keras_configuration_that_reaches_out(tmp_path, config, words):
  name, fact = reaching_part(config)
  assert words in fact
  path = str(tmp_path / "model.keras")
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
    archive.writestr("config.json", json.dumps(config))
  with pytest.raises(SourceError, match="its layer"):
    keras_file.describe(path)


def test_hdf5_that_reads_other_files(tmp_path):
  h5py = pytest.importorskip("h5py")
  path = str(tmp_path / "linked.h5")
  with h5py.File(path, "w") as f:
    f.attrs["model_config"] = json.dumps(layer())
    f["weights"] = h5py.ExternalLink("/etc/other.h5", "/")
  with pytest.raises(SourceError, match="'weights' in it is a link"):
    keras_file.describe(path)


def test_hdf5_that_states_terabytes(tmp_path):
  h5py = pytest.importorskip("h5py")
  path = str(tmp_path / "bomb.h5")
  with h5py.File(path, "w") as f:
    f.attrs["model_config"] = json.dumps(layer())
    f.create_dataset("weights", (1 << 40,), "f4", chunks=True)
  with pytest.raises(SourceError, match="would unpack to 4398046511104"):
    keras_file.describe(path)


def test_hdf5_whose_groups_hold_themselves_and_each_other_twice(tmp_path):
  h5py = pytest.importorskip("h5py")
  path = str(tmp_path / "loop.h5")
  with h5py.File(path, "w") as f:
    f["self"] = f["/"]
    group = f
    for number in range(60):
      inner = f.create_group(f"g{number}")
      group["a"] = group["b"] = inner
      group = inner
    group.create_dataset("weights", (3,), "f4")
  with h5py.File(path, "r") as f:
    assert archives.stored_size(f) == 12


def test_a_keras_archive_that_unpacks_to_much_more_than_it_is(tmp_path):
  path = str(tmp_path / "bomb.keras")
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("config.json", json.dumps(layer()))
    with archive.open("model.weights.h5", "w", force_zip64=True) as f:
      for _ in range(1030):
        f.write(bytes(1 << 20))
  with pytest.raises(SourceError, match="would unpack to 1080"):
    keras_file.describe(path)


def test_a_file_of_a_saved_model_that_is_a_link_out_of_it(tmp_path):
  folder, _ = saved.load("module", tmp_path)
  path = os.path.join(folder, "saved", "assets", "words.txt")
  os.remove(path)
  (tmp_path / "secret").write_text("secret")
  os.symlink(str(tmp_path / "secret"), path)
  with pytest.raises(SourceError, match="'words.txt' is not in it"):
    read_saved_model(os.path.join(folder, "saved"), (), None)


@pytest.mark.parametrize("name", ["../words.txt", "a/../../b", "/etc/passwd"])
def test_a_file_of_a_saved_model_that_is_named_outside_of_it(tmp_path, name):
  folder, _ = saved.load("module", tmp_path)
  path = os.path.join(folder, "saved", "saved_model.pb")
  proto = SavedModelProto()
  with open(path, "rb") as f:
    proto.ParseFromString(f.read())
  for meta in proto.meta_graphs:
    meta.asset_file_def.add(filename=name).tensor_info.name = "a:0"
  with open(path, "wb") as f:
    f.write(proto.SerializeToString())
  with pytest.raises(SourceError, match=f"its file '{name}' is not in it"):
    read_saved_model(os.path.join(folder, "saved"), (), None)
