# SPDX-License-Identifier: Apache-2.0
"""The repair command: what it writes, says and refuses."""

import contextlib
import os
import re
import shutil

import numpy as np
import pytest
from judges.commands import assert_refused, contents, copy_of, run, run_forked
from judges.exporting import assert_close

from bnexport.exporting import writing
from bnexport.proof import comparison
from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_proto
from bnexport.tf1 import tf1

DATA_FILE = "model.ckpt.data-00000-of-00001"


class Broken:
  """A directory of a user's with a frozen graph and what it was made from."""

  def __init__(self, case, folder):
    self.case = case
    self.folder = str(folder)
    self.prefix = copy_of(case, folder)
    self.graph = os.path.join(self.folder, "broken.pb")
    shutil.copy(case.naive, self.graph)
    self.fixed = os.path.join(self.folder, "fixed.pb")

  def repair(self, capsys, *arguments, **options):
    """Runs the command; the checkpoint, or None for none, is an option."""
    checkpoint = options.pop("checkpoint", self.prefix)
    assert not options
    given = list(arguments)
    defaults = [
      "--graph_def=" + self.graph,
      "--output_node=" + ",".join([self.case.output] + list(self.case.also)),
      "--output_graph=" + self.fixed,
    ]
    if checkpoint:
      defaults.append("--checkpoint=" + checkpoint)
    flags = {a.partition("=")[0] for a in given}
    given += [d for d in defaults if d.partition("=")[0] not in flags]
    return run(capsys, *given, command="repair")

  def assert_right(self, path=None):
    """Asserts that the written graph answers the truth."""
    runner = ImportedGraph(read_graph(path or self.fixed), [self.case.output])
    answer = runner.run({self.case.input: self.case.x})[0]
    assert_close(answer, self.case.y, self.case.tol)
    runner.close()

  def assert_refuses(self, capsys, arguments, *words, **options):
    """Asserts one line, status 3, and that no file appears or changes."""
    before = contents(self.folder)
    assert_refused(self.repair(capsys, *arguments, **options), *words)
    assert contents(self.folder) == before

  def edit(self, change):
    graph_def = read_graph(self.graph)
    change(graph_def)
    with open(self.graph, "wb") as f:
      f.write(graph_def.SerializeToString())


def read_graph(path):
  return read_proto(str(path), tf1.GraphDef, "the graph")


def read_bytes(path):
  with open(str(path), "rb") as f:
    return f.read()


def write_bytes(path, data):
  with open(str(path), "wb") as f:
    f.write(data)


@pytest.fixture
def broken(cases, tmp_path):
  """Makes a Broken of a zoo case by its name."""

  def make(name):
    folder = tmp_path / name
    folder.mkdir()
    return Broken(cases(name), folder)

  return make


@pytest.fixture
def literal(broken):
  return broken("layers_fused_literal")


@pytest.fixture
def clashing(broken):
  """A graph that TensorFlow refuses: it has updates of constants."""
  made = broken("contrib_fused_inplace_phase")
  graph_def = read_graph(made.graph)
  with tf1.Graph().as_default():
    with pytest.raises((ValueError, tf1.errors.OpError)):
      tf1.import_graph_def(graph_def, name="")
  return made


# What it writes and says.


def test_with_checkpoint_and_training_graph(capsys, literal):
  result = literal.repair(capsys)
  assert result.status == 0, result.err
  literal.assert_right()
  assert "wrote " + literal.fixed in result.out
  assert re.search("uses '[*]/moving_mean' for its batch mean", result.out)
  assert result.out.startswith("PROVEN: ")
  assert "warning" not in result.err


@pytest.mark.parametrize("left", ["meta", "checkpoint", "nothing"])
def test_reference_clash(capsys, clashing, left):
  if left != "meta":
    os.remove(clashing.prefix + ".meta")
  checkpoint = None if left == "nothing" else clashing.prefix
  result = clashing.repair(capsys, checkpoint=checkpoint)
  assert result.status == 0, result.err
  clashing.assert_right()
  used = {node.op for node in read_graph(clashing.fixed).node}
  assert not used & {"RefSwitch", "Switch", "Merge", "AssignSub", "Assign"}
  if left != "meta":
    assert "it is a variable again" in result.out
  assert result.out.startswith("PROVEN: ")


def test_checkpoint_without_its_training_graph(capsys, literal):
  """Names alone tell which averages are meant: that is asked."""
  os.remove(literal.prefix + ".meta")
  literal.assert_refuses(capsys, [], "nothing but their names", "--meta_graph")
  asked = re.search(r"--averages=\S+", literal.repair(capsys).err).group()
  result = literal.repair(capsys, asked)
  assert result.status == 0, result.err
  literal.assert_right()
  assert "as averages, as asked" in result.out
  assert result.err.count("by their names, as asked") == 3


def test_no_checkpoint_and_no_statistics(capsys, literal):
  literal.assert_refuses(
    capsys, [], "preact", "--checkpoint", "--calibration_data", checkpoint=None
  )


def test_meta_graph_elsewhere(capsys, literal, tmp_path):
  other = str(tmp_path / "train.meta")
  shutil.move(literal.prefix + ".meta", other)
  result = literal.repair(capsys, "--meta_graph=" + other)
  assert result.status == 0, result.err
  literal.assert_right()
  assert "warning" not in result.err


def test_training_graph_of_another_model_is_not_used(capsys, broken, cases):
  made = broken("layers_fused_phase")
  other = cases("net_residual_v2").prefix + ".meta"
  result = made.repair(capsys, "--meta_graph=" + other)
  assert result.status == 0, result.err
  made.assert_right()
  assert "warning: '%s' is of another model, and not used" % other in result.err


def test_default_output_stands_beside_the_graph(capsys, literal):
  result = run(
    capsys,
    "--graph_def=" + literal.graph,
    "--checkpoint=" + literal.prefix,
    "--output_node=" + literal.case.output,
    command="repair",
  )
  assert result.status == 0, result.err
  (written,) = re.findall(r"wrote (\S+?):?\s", result.out)
  assert os.path.dirname(written) == literal.folder
  assert ".repaired" in written
  literal.assert_right(written)


def test_as_text(capsys, literal):
  literal.fixed += "txt"
  assert literal.repair(capsys, "--as_text").status == 0
  literal.assert_right()
  assert read_bytes(literal.fixed)[:6] == b"node {"


@pytest.mark.parametrize(
  "name", ["layers_fused_phase", "layers_resource_phase"]
)
def test_text_graph(capsys, broken, name):
  made = broken(name)
  graph_def = read_graph(made.graph)
  made.graph += "txt"
  write_bytes(made.graph, str(graph_def).encode())
  assert made.repair(capsys).status == 0
  made.assert_right()


def test_old_flag_names(capsys, literal):
  result = run(
    capsys,
    "--input_graph=" + literal.graph,
    "--input_binary",
    "--input_checkpoint=" + literal.prefix,
    "--output_node_names=" + literal.case.output,
    "--output_graph=" + literal.fixed,
    command="repair",
  )
  assert result.status == 0, result.err
  literal.assert_right()


def test_same_bytes_each_time(capsys, literal):
  literal.repair(capsys)
  first = read_bytes(literal.fixed)
  literal.repair(capsys, "--overwrite")
  assert read_bytes(literal.fixed) == first


@pytest.mark.parametrize("left", ["meta", "nothing"])
def test_missing_input(capsys, broken, left):
  made = broken("layers_fused_phase")
  name = made.case.input

  def remove(graph_def):
    kept = [node for node in graph_def.node if node.name != name]
    graph_def.ClearField("node")
    graph_def.node.extend(kept)

  made.edit(remove)
  if left == "meta":
    result = made.repair(capsys)
    assert "'%s' is restored" % name in result.out
  else:
    os.remove(made.prefix + ".meta")
    made.assert_refuses(
      capsys, [], "'%s'" % name, "not in the graph", "--input_node=" + name
    )
    result = made.repair(capsys, "--input_node=" + name)
    assert "it is a placeholder now" in result.out
  assert result.status == 0, result.err
  made.assert_right()


def test_devices(capsys, literal):
  def place(graph_def):
    for node in graph_def.node:
      node.device = "/device:GPU:0"

  literal.edit(place)
  result = literal.repair(capsys)
  assert result.status == 0, result.err
  assert re.search(r"removed the devices of \d+ nodes", result.out)
  assert {node.device for node in read_graph(literal.fixed).node} == {""}


# Flags that say what the graph can't.


def test_stated_phase(capsys, broken):
  made = broken("anywhere_three_modes_differ")
  made.assert_refuses(capsys, [], "'mode'", "--set=mode=VALUE")
  result = made.repair(capsys, "--set=mode=predict")
  assert result.status == 0, result.err
  assert "decided 'mode' = predict, as stated" in result.out


@pytest.mark.parametrize(
  "name",
  [
    "weights_average_everything",
    "weights_average_phase",
    "keep_named_scope",
    "keep_mixed_literal",
    "layers_nchw_literal",
    "layers_nchw_phase",
    "dropout_keep_prob_set",
  ],
)
@pytest.mark.parametrize("has_meta", [False, True])
def test_flags_of_a_case(capsys, broken, name, has_meta):
  made = broken(name)
  case = made.case
  named = []
  if not has_meta:
    os.remove(made.prefix + ".meta")
    named = [key for key, _ in tf1.train.list_variables(made.prefix)]
  flags = ["--averages=" + ",".join(named)] if named else []
  flags += ["--set=%s=%s" % item for item in case.set.items()]
  flags += ["--moving_averages"] if case.ema else []
  flags += ["--data_format=NHWC"] if case.no_run_115 else []
  if case.keep_scopes:
    flags.append("--keep_batch_statistics=" + ",".join(case.keep_scopes))
  result = made.repair(capsys, *flags)
  assert result.status == 0, result.err
  made.assert_right()


# A graph that is fine.


@pytest.fixture
def fine(broken):
  """A Broken that has been repaired already."""

  def make(name, capsys):
    made = broken(name)
    assert made.repair(capsys).status == 0
    shutil.move(made.fixed, made.graph)
    return made

  return make


@pytest.mark.parametrize(
  "name",
  [
    "layers_fused_literal",
    "layers_unfused_phase",
    "layers_resource_phase",
    "flow_data_cond",
    "loop_while_phase",
    "keep_instance_hand",
  ],
)
def test_fine_graph_comes_back_byte_for_byte(capsys, fine, name):
  made = fine(name, capsys)
  result = made.repair(capsys, checkpoint=None)
  assert result.status == 0, result.err
  assert "the graph is fine" in result.out
  assert read_bytes(made.fixed) == read_bytes(made.graph)
  assert "warning" not in result.err


def test_fine_graph_with_its_checkpoint(capsys, fine):
  """Also where the training graph is there to compare with."""
  made = fine("layers_unfused_phase", capsys)
  assert made.repair(capsys).status == 0
  made.assert_right()
  values = {
    path: {
      node.name: node.attr["value"].tensor.SerializeToString()
      for node in read_graph(path).node
      if node.op == "Const"
    }
    for path in (made.graph, made.fixed)
  }
  assert values[made.fixed] == values[made.graph]


def test_fine_text_graph(capsys, fine):
  made = fine("layers_fused_phase", capsys)
  text = "# by hand\n" + str(read_graph(made.graph))
  made.graph += "txt"
  made.fixed += "txt"
  write_bytes(made.graph, text.encode())
  assert made.repair(capsys, "--as_text", checkpoint=None).status == 0
  assert read_bytes(made.fixed) == text.encode()


def test_fine_graph_with_more_than_is_needed(capsys, fine):
  made = fine("layers_fused_phase", capsys)
  output = made.case.output

  def add(graph_def):
    graph_def.node.add(
      name="aside", op="Neg", input=[output], attr={"T": tf1.AttrValue(type=1)}
    )

  made.edit(add)
  result = made.repair(capsys, checkpoint=None)
  assert "the graph is fine" in result.out
  assert read_bytes(made.fixed) == read_bytes(made.graph)


def test_fine_graph_with_an_assertion(capsys, fine):
  made = fine("layers_fused_phase", capsys)
  output, first = made.case.output, made.case.input

  def add(graph_def):
    graph_def.node.add(
      name="check",
      op="IsFinite",
      input=[first],
      attr={"T": tf1.AttrValue(type=1)},
    )
    axes = graph_def.node.add(name="axes", op="Const")
    value = tf1.make_tensor_proto(np.arange(4, dtype=np.int32))
    axes.attr["value"].tensor.CopyFrom(value)
    axes.attr["dtype"].type = value.dtype
    graph_def.node.add(
      name="all",
      op="All",
      input=["check", "axes"],
      attr={"Tidx": tf1.AttrValue(type=value.dtype)},
    )
    types = tf1.AttrValue.ListValue(type=[1])
    graph_def.node.add(
      name="assert",
      op="Assert",
      input=["all", first],
      attr={"T": tf1.AttrValue(list=types), "summarize": tf1.AttrValue(i=3)},
    )
    for node in graph_def.node:
      if node.name == output:
        node.input.append("^assert")

  made.edit(add)
  result = made.repair(capsys, checkpoint=None)
  assert result.status == 0, result.err
  assert "the graph is fine" in result.out
  assert read_bytes(made.fixed) == read_bytes(made.graph)


@pytest.mark.parametrize("name", ["layers_fused_phase", "ema_cond_pointnet"])
def test_repaired_twice(capsys, broken, name):
  """With all files at hand, what is repaired again stays as it is."""
  made = broken(name)
  assert made.repair(capsys).status == 0
  once = read_graph(made.fixed)
  shutil.copy(made.fixed, made.graph)
  assert made.repair(capsys, "--overwrite").status == 0
  twice = read_graph(made.fixed)
  assert {n.name: n for n in twice.node} == {n.name: n for n in once.node}


def test_the_only_output_is_taken(capsys, broken):
  made = broken("layers_fused_literal")
  assert made.repair(capsys, "--output_node=").status == 0
  assert str(read_graph(made.fixed).node[-1].name) == made.case.output


# What it refuses: one line, status 3, no file, nothing changed.


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--graph_def="], ["--graph_def"]),
    (["--graph_def=%/none.pb"], ["none.pb", "no such file"]),
    (["--graph_def=%"], ["it is a checkpoint", "bnexport.freeze"]),
    (["--output_node=prop"], ["'prop'", "did you mean 'prob'"]),
    (["--output_node=prob:4"], ["prob:4"]),
    (["--input_node=imges"], ["'imges'", "'images'"]),
    (["--set=mode"], ["'mode'"]),
    (["--set=mode=1"], ["'mode'"]),
    (["--keep_batch_statistics=nosuch"], ["'nosuch'"]),
    (["--checkpoint=%/none"], ["none"]),
    (["--meta_graph=%/none.meta"], ["none.meta", "no such file"]),
    (["--meta_graph=%/model.ckpt.index"], ["model.ckpt.index"]),
    (["--model=a.py:f"], ["--model", "freeze"]),
    (["--output_graph=%/broken.pb", "--overwrite"], ["read from it"]),
    (["--output_graph=%/model.ckpt.meta", "--overwrite"], ["read from it"]),
    (["--output_graph=%/no/x.pb"], ["directory"]),
    (["--output_graph=%"], ["directory"]),
    (["--feeds=%/none.npz"], ["none.npz"]),
    (["--report=%/r.pdf"], ["r.pdf"]),
    (["extra"], ["'extra'"]),
  ],
)
def test_refused(capsys, literal, arguments, words):
  arguments = [a.replace("%", literal.folder) for a in arguments]
  literal.assert_refuses(capsys, arguments, *words)


@pytest.mark.parametrize(
  "data",
  [
    b"",
    b"hello, world\n",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1",
    b"\0" * 64,
    "na\u00efve\n".encode("latin-1"),
    b"versions { producer: 27 }\n",
  ],
  ids=["empty", "text", "png", "zeros", "latin", "no_nodes"],
)
@pytest.mark.parametrize("file", ["broken.pb", "model.ckpt.meta"])
def test_file_that_is_no_graph(capsys, literal, data, file):
  if file != "broken.pb":
    data = data.replace(b"versions { producer: 27 }", b"meta_info_def {}")
  write_bytes(os.path.join(literal.folder, file), data)
  literal.assert_refuses(capsys, [], file)


@pytest.mark.parametrize(
  "file, left",
  [
    (file, left)
    for file in ("broken.pb", "model.ckpt.meta", "model.ckpt.index")
    for left in (0.1, 0.5, 0.95)
  ]
  # The graph holds the weights, which are at the end of the data.
  + [(DATA_FILE, 0.0), (DATA_FILE, 0.1)],
)
def test_truncated_file(capsys, literal, file, left):
  path = os.path.join(literal.folder, file)
  data = read_bytes(path)
  write_bytes(path, data[: int(left * len(data))])
  literal.assert_refuses(capsys, [], file.split(".data")[0].split(".index")[0])


def test_existing_target_is_not_touched(capsys, literal):
  write_bytes(literal.fixed, b"precious")
  literal.assert_refuses(capsys, [], "exists", "--overwrite")
  assert literal.repair(capsys, "--overwrite").status == 0
  literal.assert_right()


@pytest.mark.parametrize("exists", [False, True])
def test_failing_write(capsys, literal, exists, monkeypatch):
  @contextlib.contextmanager
  def full(part):
    with open("/dev/full", "wb", buffering=0) as f:
      yield f

  if exists:
    write_bytes(literal.fixed, b"old")
  monkeypatch.setattr(writing, "_new_file", full)
  literal.assert_refuses(
    capsys, ["--overwrite"], "cannot write", "No space left"
  )


def test_interrupted_while_proving(capsys, literal, monkeypatch):
  def prove(*args, **kwargs):
    raise KeyboardInterrupt

  monkeypatch.setattr(comparison, "prove", prove)
  literal.assert_refuses(capsys, [], "interrupted")


def test_answers_that_differ(capsys, literal, monkeypatch):
  """Status 2, and the graph is there to look at."""
  from bnexport.proof.training_graph import TrainingGraph

  answers = TrainingGraph.run
  monkeypatch.setattr(
    TrainingGraph,
    "run",
    lambda self, feeds: [a + 0.01 for a in answers(self, feeds)],
  )
  result = literal.repair(capsys)
  assert result.status == 2
  assert "DIFFERS" in result.out
  literal.assert_right()


def test_checkpoint_of_another_model(capsys, literal, cases):
  other = cases("net_residual_v2").prefix
  literal.assert_refuses(capsys, [], other, "--checkpoint", checkpoint=other)


# As a process.


def test_process_end_to_end(clashing):
  result = run_forked(
    "-m",
    "bnexport.repair",
    "--graph_def=" + clashing.graph,
    "--output_node=" + clashing.case.output,
    "--output_graph=" + clashing.fixed,
  )
  assert result.status == 0, result.err
  assert result.out.startswith("PROVEN: ")
  clashing.assert_right()


def test_process_refuses(literal):
  result = run_forked(
    "-m",
    "bnexport.repair",
    "--graph_def=" + literal.graph,
    "--output_node=prob",
    "--output_graph=" + literal.fixed,
  )
  assert result.status == 3
  errors = [
    line
    for line in result.err.splitlines()
    if line.startswith("bnexport: cannot ")
  ]
  assert len(errors) == 1 and "--checkpoint" in errors[0]
  assert "Traceback" not in result.err
  assert not os.path.exists(literal.fixed)


def test_norms_of_a_fine_graph_stay(capsys, cases, tmp_path):
  """What is fine comes back as it is: not even its norms are folded."""
  case = cases("layers_fused_literal")
  fine, again = str(tmp_path / "fine.pb"), str(tmp_path / "again.pb")
  freeze = run(
    capsys,
    "--checkpoint=" + case.prefix,
    "--nofold_batch_norms",
    "--output_node=" + case.output,
    "--output_graph=" + fine,
  )
  assert freeze.status == 0, freeze
  result = run(
    capsys,
    "--graph_def=" + fine,
    "--output_node=" + case.output,
    "--output_graph=" + again,
    command="repair",
  )
  assert result.status == 0, result
  assert "the graph is fine" in result.out
  with open(fine, "rb") as a, open(again, "rb") as b:
    assert a.read() == b.read()


def test_repaired_into_a_saved_model(capsys, cases, tmp_path):
  case, folder = cases("layers_fused_literal"), str(tmp_path / "saved")
  result = run(
    capsys,
    "--graph_def=" + case.naive,
    "--checkpoint=" + case.prefix,
    "--output_node=" + case.output,
    "--saved_model_out=" + folder,
    command="repair",
  )
  assert result.status == 0, result
  assert result.out.startswith("PROVEN: ")
  assert sorted(os.listdir(folder)) == ["saved_model.pb", "variables"]
