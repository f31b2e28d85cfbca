# SPDX-License-Identifier: Apache-2.0
"""A file is written whole or not at all."""

import os

import pytest
from google.protobuf import text_format
from judges.commands import contents
from judges.transforming import model_of

from bnexport.errors import SourceError
from bnexport.exporting import writing
from bnexport.tf1 import tf1

MODEL = "x = Placeholder() {shape=[?,2]}   y = Relu(x)"


def written(path, data, fails=None):
  with writing.whole_file(str(path), data):
    if fails is not None:
      raise fails


@pytest.mark.parametrize(
  "data", [[b"all"], [b"one", b"", b"two"], [memoryview(b"view")]]
)
def test_pieces_become_one_file(tmp_path, data):
  written(tmp_path / "out", data)
  assert contents(tmp_path) == {"out": b"".join(map(bytes, data))}


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o077, 0o600)])
@pytest.mark.parametrize("was_there", [False, True])
def test_a_file_has_the_mode_of_a_new_one(tmp_path, mask, mode, was_there):
  path = tmp_path / "out"
  if was_there:
    path.write_bytes(b"old")
    path.chmod(0o777)
  before = os.umask(mask)
  try:
    written(path, [b"new"])
  finally:
    os.umask(before)
  assert path.stat().st_mode & 0o7777 == mode


def test_large_pieces_are_written_in_parts(tmp_path, monkeypatch):
  monkeypatch.setattr(writing, "_AT_ONCE", 3)
  written(tmp_path / "out", [b"0123456789", b"ab"])
  assert contents(tmp_path) == {"out": b"0123456789ab"}


def test_finished_part_can_be_looked_at_before_it_has_the_name(tmp_path):
  path = str(tmp_path / "out")
  with writing.whole_file(path, [b"new"]) as part:
    assert part == writing.part_of(path, os.getpid())
    assert contents(tmp_path) == {os.path.basename(part): b"new"}
  assert contents(tmp_path) == {"out": b"new"}


@pytest.mark.parametrize("before", [{}, {"out": b"old"}])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_block_that_fails_leaves_what_was_there(tmp_path, before, error):
  for name, data in before.items():
    (tmp_path / name).write_bytes(data)
  with pytest.raises(error):
    written(tmp_path / "out", [b"new"], error())
  assert contents(tmp_path) == before


def test_data_that_fail_leave_what_was_there(tmp_path):
  (tmp_path / "out").write_bytes(b"old")

  def data():
    yield b"new"
    raise ValueError

  with pytest.raises(ValueError):
    written(tmp_path / "out", data())
  assert contents(tmp_path) == {"out": b"old"}


def test_file_is_replaced(tmp_path):
  (tmp_path / "out").write_bytes(b"something longer")
  written(tmp_path / "out", [b"new"])
  assert contents(tmp_path) == {"out": b"new"}


def test_path_that_can_not_be_written_is_refused(tmp_path):
  path = str(tmp_path / "none" / "out")
  with pytest.raises(SourceError, match=f"cannot write '{path}': "):
    written(path, [b"new"])


def test_part_of_a_directory_lies_beside_it():
  assert os.path.dirname(writing.part_of("a/b", 7)) == "a"
  assert writing.part_of("a/b/", 7) == writing.part_of("a/b", 7)


@pytest.mark.parametrize(
  "name, overwrite, words",
  [
    ("there", False, ["the file exists", "--overwrite"]),
    ("folder", True, ["it is a directory"]),
    ("none/out", True, ["there is no directory"]),
  ],
)
def test_paths_that_are_refused_before_any_work(
  tmp_path, name, overwrite, words
):
  (tmp_path / "there").write_bytes(b"")
  (tmp_path / "folder").mkdir()
  with pytest.raises(SourceError) as refused:
    writing.refuse_existing(str(tmp_path / name), overwrite)
  assert all(word in str(refused.value) for word in words)


def test_paths_that_are_fine(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "there").write_bytes(b"")
  writing.refuse_existing(str(tmp_path / "there"), True)
  writing.refuse_existing("new", False)


@pytest.mark.parametrize(
  "path",
  [
    "model.ckpt.index",
    "model.ckpt.meta",
    "model.ckpt.data-00000-of-00001",
    "graph.pb",
    "./graph.pb",
  ],
)
def test_what_is_read_is_not_written_over(tmp_path, monkeypatch, path):
  monkeypatch.chdir(tmp_path)
  for name in ("index", "meta", "data-00000-of-00001"):
    (tmp_path / f"model.ckpt.{name}").write_bytes(b"")
  (tmp_path / "graph.pb").write_bytes(b"")
  with pytest.raises(SourceError, match="the model is read from it"):
    writing.refuse_source(path, "model.ckpt", None, "graph.pb")
  writing.refuse_source("other.pb", "model.ckpt", None, "graph.pb")


def test_what_is_not_there_is_looked_for_in_no_large_directory(
  tmp_path, monkeypatch
):
  """There may be thousands of checkpoints in it."""
  (tmp_path / "model.ckpt.index").write_bytes(b"")
  monkeypatch.setattr(os, "listdir", lambda path: pytest.fail("it is listed"))
  prefix = str(tmp_path / "model.ckpt")
  writing.refuse_source(str(tmp_path / "new.pb"), prefix)
  with pytest.raises(SourceError, match="read from it"):
    monkeypatch.undo()
    writing.refuse_source(prefix + ".index", prefix)


@pytest.mark.parametrize("as_text", [True, False])
def test_graphs_are_written_as_text_or_binary(as_text):
  model = model_of(MODEL)
  data = b"".join(map(bytes, writing.serialize(model, as_text)))
  parse = text_format.Parse if as_text else tf1.GraphDef.FromString
  graph_def = parse(*((data.decode(), tf1.GraphDef()) if as_text else (data,)))
  assert graph_def == model.graph.to_graph_def()


@pytest.mark.parametrize(
  "path, is_one",
  [("a.pb", True), ("b.pbtxt", True), ("c", False), ("pb", False)],
)
def test_paths_of_graphs(path, is_one):
  assert writing.is_graph(path) == is_one


def test_a_part_follows_no_link(tmp_path):
  (tmp_path / "mine").write_bytes(b"mine")
  path = str(tmp_path / "out")
  os.symlink(str(tmp_path / "mine"), writing.part_of(path, os.getpid()))
  written(path, [b"new"])
  assert contents(tmp_path) == {"out": b"new", "mine": b"mine"}
  assert not os.path.islink(path)


@pytest.fixture
def dead():
  """The id of a process that has ended."""
  child = os.fork()
  if not child:
    os._exit(0)
  os.waitpid(child, 0)
  return child


def test_what_killed_processes_left_goes_at_the_next_run(tmp_path, dead):
  path = str(tmp_path / "out")
  alive = writing.part_of(path, os.getppid())
  for left in (writing.part_of(path, dead), alive, path + ".part-1"):
    with open(left, "wb") as f:
      f.write(b"half")
  written(path, [b"new"])
  names = {"out", os.path.basename(alive), "out.part-1"}
  assert set(contents(tmp_path)) == names


def test_a_directory_that_was_moved_away_gets_its_name_back(tmp_path, dead):
  path = str(tmp_path / "out")
  os.mkdir(writing.part_of(path, dead, "before"))
  writing.clear_parts(path)
  assert os.listdir(str(tmp_path)) == ["out"]


def test_a_directory_that_was_replaced_goes(tmp_path, dead):
  path = str(tmp_path / "out")
  for name in (path, writing.part_of(path, dead, "before")):
    os.mkdir(name)
  writing.clear_parts(path)
  assert os.listdir(str(tmp_path)) == ["out"]


def test_a_folder_is_listed_once(tmp_path, monkeypatch):
  listed = []
  of = os.listdir
  monkeypatch.setattr(os, "listdir", lambda f: listed.append(f) or of(f))
  for i in range(3):
    written(str(tmp_path / str(i)), [b"new"])
  assert listed == [str(tmp_path)]


@pytest.mark.parametrize(
  "path", ["/dev/stdout", "/dev/null", "/proc/self/fd/1"]
)
def test_devices_are_not_replaced(path):
  with pytest.raises(SourceError, match="it is no file|it is a "):
    writing.refuse_existing(path, overwrite=True)


def test_a_fifo_is_not_replaced(tmp_path):
  os.mkfifo(str(tmp_path / "out"))
  with pytest.raises(SourceError, match="it is a FIFO"):
    writing.refuse_existing(str(tmp_path / "out"), overwrite=True)


def test_another_name_of_what_is_read_is_refused(tmp_path):
  source = tmp_path / "in.pb"
  source.write_bytes(b"in")
  os.link(str(source), str(tmp_path / "hard.pb"))
  os.symlink(str(source), str(tmp_path / "soft.pb"))
  for name in ("in.pb", "hard.pb", "soft.pb"):
    with pytest.raises(SourceError, match="read from it"):
      writing.refuse_source(str(tmp_path / name), None, str(source))
  folder = tmp_path / "saved"
  (folder / "variables").mkdir(parents=True)
  for inner in ("saved_model.pb", "variables/variables.index", "assets/a"):
    with pytest.raises(SourceError, match="read from it"):
      writing.refuse_source(str(folder / inner), None, str(folder))
  writing.refuse_source(str(folder / "frozen.pb"), None, str(folder))
