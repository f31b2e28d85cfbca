# SPDX-License-Identifier: Apache-2.0
"""The freeze command: what it writes, says and refuses."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil

import numpy as np
import pytest
from judges.commands import (
  assert_refused,
  contents,
  copy_of,
  run,
  run_forked,
  run_process,
)
from judges.exporting import assert_close

from bnexport import errors, text
from bnexport.exporting import writing
from bnexport.model import checkpoint
from bnexport.proof import comparison
from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_proto
from bnexport.tf1 import session, tf1

DATA_FILE = "model.ckpt.data-00000-of-00001"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4"


@pytest.fixture
def case(cases):
  return cases("layers_fused_literal")


@pytest.fixture
def phased(cases, tmp_path):
  """A case whose phase is a placeholder, and its copy."""
  case = cases("layers_fused_phase")
  folder = tmp_path / "phased"
  folder.mkdir()
  return case, copy_of(case, folder)


def read_graph(path):
  return read_proto(str(path), tf1.GraphDef, "the graph")


def assert_right(path, case):
  """Asserts that a written graph answers the truth, to the case's tolerance."""
  runner = ImportedGraph(read_graph(path), [case.output])
  assert_close(runner.run({case.input: case.x})[0], case.y, case.tol)
  runner.close()


def assert_writes(capsys, path, case, *arguments):
  """Asserts that the arguments give a right graph at `path`."""
  result = run(capsys, *arguments)
  assert result.status == 0, result.err
  assert_right(path, case)
  folder = os.path.dirname(str(path))
  assert not [name for name in os.listdir(folder) if ".part-" in name]
  return result


def test_the_only_output_is_taken_and_said(capsys, case, prefix):
  result = run(capsys, "--checkpoint=" + prefix, "--validate=false")
  assert result.status == 0, result.err
  assert f"bnexport: takes output '{case.output}'" in result.err
  assert_right(prefix + ".frozen.pb", case)


def test_likely_outputs_are_a_command_to_paste(capsys, cases, tmp_path):
  two = cases("answer_argmax")
  shutil.copytree(two.folder, str(tmp_path / "a run"))
  given = f"--checkpoint={tmp_path / 'a run' / 'model.ckpt'}"
  result = run(capsys, given, "--novalidate")
  assert_refused(result, "no output is named; run python -m bnexport.freeze ")
  command, others = re.search(
    "run (python .*), or with (.*)$", result.err.strip()
  ).groups()
  words = shlex.split(command)
  assert words[:3] == ["python", "-m", "bnexport.freeze"]
  assert set(words[3:]) == {
    given,
    "--novalidate",
    "--output_node=logits/BiasAdd",
  }
  assert others == "--output_node=label"
  result = run(capsys, *words[3:])
  assert result.status == 0, result.err


def test_code_is_not_run_to_ask_for_outputs(capsys, prefix):
  result = run(capsys, "--checkpoint=" + prefix, "--model=nowhere.py:build")
  assert_refused(result, "pass --output_node=NAME")


def test_what_can_not_be_read_is_said_first(capsys, prefix):
  result = run(capsys, "--checkpoint=" + prefix + ".lost")
  assert_refused(result, f"there is no '{prefix}.lost.index'")


def test_keys_below_another_scope(capsys, case, prefix):
  """The error says which map is right, and with it the answer is."""
  moved = prefix + "-moved"
  reader = tf1.train.NewCheckpointReader(prefix)
  keys = sorted(reader.get_variable_to_shape_map())
  graph = tf1.Graph()
  with graph.as_default():
    save = tf1.raw_ops.SaveV2(
      prefix=moved,
      tensor_names=["tower/" + key for key in keys],
      shape_and_slices=[""] * len(keys),
      tensors=[tf1.constant(reader.get_tensor(key)) for key in keys],
    )
  with session(graph) as run_session:
    run_session.run(save)
  flags_ = [
    "--meta_graph=" + prefix + ".meta",
    "--checkpoint=" + moved,
    "--output_node=" + case.output,
  ]
  assert_refused(
    run(capsys, *flags_), "and holds 'tower/", "pass --scope_map==tower/"
  )
  path = moved + ".frozen.pb"
  assert_writes(capsys, path, case, *flags_, "--scope_map==tower/")
  assert_writes(
    capsys, path, case, *flags_, "--scope_map=tower/=", "--overwrite"
  )
  assert_refused(
    run(capsys, *flags_, "--scope_map=tower", "--overwrite"),
    "read --scope_map item 'tower'",
  )


# What it writes.


def test_default_output_stands_beside_the_checkpoint(capsys, case, prefix):
  result = assert_writes(
    capsys,
    prefix + ".frozen.pb",
    case,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
  )
  assert "wrote %s.frozen.pb" % prefix in result.out
  assert "preact/FusedBatchNormV3" in result.out
  assert re.search("uses '[*]/moving_mean' for its batch mean", result.out)
  assert "batch norms: 3" in result.out
  assert result.out.startswith("PROVEN: ")
  assert result.err.startswith("bnexport: ")
  assert "warning" not in result.err


def test_written_graph_needs_only_the_input(capsys, case, prefix, tmp_path):
  path = str(tmp_path / "frozen.pb")
  run(
    capsys,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
    "--output_graph=" + path,
  )
  graph_def = read_graph(path)
  used = {node.op for node in graph_def.node}
  assert not used & {
    "VariableV2",
    "VarHandleOp",
    "Assign",
    "AssignSub",
    "AssignSubVariableOp",
    "RandomUniform",
  }
  placeholders = [n.name for n in graph_def.node if n.op == "Placeholder"]
  assert placeholders == [case.input]
  assert {node.device for node in graph_def.node} == {""}


@pytest.mark.parametrize(
  "end", [".meta", ".index", DATA_FILE[len("model.ckpt") :]]
)
def test_checkpoint_may_be_any_of_its_files(capsys, case, prefix, end):
  assert_writes(
    capsys,
    prefix + ".frozen.pb",
    case,
    "--checkpoint=" + prefix + end,
    "--output_node=" + case.output,
  )


@pytest.mark.parametrize("end", ["", "/", "/checkpoint"])
def test_checkpoint_may_be_a_directory(capsys, case, prefix, end):
  folder = os.path.dirname(prefix)
  with open(os.path.join(folder, "checkpoint"), "w") as f:
    f.write('model_checkpoint_path: "model.ckpt"\n')
  assert_writes(
    capsys,
    prefix + ".frozen.pb",
    case,
    "--checkpoint=" + folder + end,
    "--output_node=" + case.output,
  )


def test_relative_paths(capsys, case, prefix, monkeypatch):
  monkeypatch.chdir(os.path.dirname(prefix))
  result = run(
    capsys,
    "--checkpoint=model.ckpt",
    "--output_node=" + case.output,
    "--output_graph=out.pb",
  )
  assert result.status == 0, result.err
  assert_right("out.pb", case)


def test_output_name_with_index(capsys, case, prefix):
  assert_writes(
    capsys,
    prefix + ".frozen.pb",
    case,
    "--checkpoint=" + prefix,
    "--output_node=%s:0" % case.output,
    "--input_node=%s:0" % case.input,
  )


def test_several_outputs(capsys, case, prefix):
  result = run(
    capsys,
    "--checkpoint=" + prefix,
    "--output_node=%s,mid/FusedBatchNormV3:0" % case.output,
  )
  assert result.status == 0, result.err
  names = {n.name for n in read_graph(prefix + ".frozen.pb").node}
  assert {case.output, "mid/FusedBatchNormV3"} <= names
  assert "mid/FusedBatchNormV3: largest difference" in result.out


def test_json_report(capsys, case, prefix, tmp_path):
  path = str(tmp_path / "report.json")
  assert_writes(
    capsys,
    prefix + ".frozen.pb",
    case,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
    "--report=" + path,
  )
  with open(path) as f:
    report = json.load(f)
  assert report["proof"]["holds"] is True
  assert report["proof"]["one_row_answers_alone"] is True
  assert report["file"] == prefix + ".frozen.pb"
  assert report["outputs"] == [case.output]
  assert [end["name"] for end in report["inputs"]] == [case.input]
  assert len(report["batch_norms"]) == 3
  assert {n["statistics"] for n in report["batch_norms"]} == {"stored"}
  assert report["nodes"] == len(read_graph(report["file"]).node)


def test_markdown_report(capsys, case, prefix, tmp_path):
  path = tmp_path / "report.md"
  assert_writes(
    capsys,
    prefix + ".frozen.pb",
    case,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
    "--report=%s" % path,
  )
  text = path.read_text()
  assert text.startswith("# model.ckpt.frozen.pb\n")
  assert "| preact/FusedBatchNormV3 | fused | stored |" in text


def test_report_of_a_phase_says_what_was_decided(capsys, phased):
  case, prefix = phased
  result = assert_writes(
    capsys,
    prefix + ".frozen.pb",
    case,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
  )
  assert "'%s'" % case.switch in result.out


def test_setting_a_phase_by_hand(capsys, phased):
  case, prefix = phased
  assert_writes(
    capsys,
    prefix + ".frozen.pb",
    case,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
    "--set=%s:0=false" % case.switch,
  )


def test_as_text(capsys, case, prefix):
  assert_writes(
    capsys,
    prefix + ".frozen.pbtxt",
    case,
    "--as_text",
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
  )
  with open(prefix + ".frozen.pbtxt") as f:
    assert f.read(6) == "node {"


def test_overwrite(capsys, case, prefix, tmp_path):
  path = tmp_path / "frozen.pb"
  path.write_bytes(b"old")
  assert_writes(
    capsys,
    path,
    case,
    "--overwrite",
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
    "--output_graph=%s" % path,
  )


def test_same_bytes_each_time(capsys, case, prefix, tmp_path):
  paths = [tmp_path / name for name in ("a.pb", "b.pb")]
  for path in paths:
    run(
      capsys,
      "--checkpoint=" + prefix,
      "--output_node=" + case.output,
      "--output_graph=%s" % path,
    )
  assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
  "flags, said",
  [
    (["--proof=none"], "not looked for"),
    (["--proof=quick"], "--proof=full looks for it"),
    (["--proof=full"], "averages settled"),
    (["--validate"], "averages settled"),
    ([], "averages settled"),
  ],
)
def test_how_much_is_proven(capsys, prefix, flags, said):
  result = run(capsys, "--checkpoint=" + prefix, "--output_node=prob", *flags)
  assert result.status == 0
  assert said in result.out


def test_two_words_about_the_proof_have_to_agree(capsys, prefix):
  result = run(
    capsys,
    "--checkpoint=" + prefix,
    "--output_node=prob",
    "--proof=full",
    "--validate=false",
  )
  assert_refused(result, "--proof=full", "--validate=false")


def test_novalidate(capsys, case, prefix, monkeypatch):
  monkeypatch.setattr(comparison, "prove", None)
  result = assert_writes(
    capsys,
    prefix + ".frozen.pb",
    case,
    "--novalidate",
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
  )
  assert "--novalidate" in result.out
  assert "PROVEN" not in result.out


@pytest.mark.parametrize("key", ["images", "images:0"])
def test_feeds(capsys, case, prefix, tmp_path, key):
  path = str(tmp_path / "feeds.npz")
  np.savez(path, **{key: case.x[:3]})
  result = assert_writes(
    capsys,
    prefix + ".frozen.pb",
    case,
    "--feeds=" + path,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
  )
  assert "[3, 6, 6, 3]" in result.out.replace("(", "[").replace(")", "]")
  assert "compared with the training graph" in result.out


def test_flags_of_freeze_graph(capsys, case, prefix, tmp_path):
  path = str(tmp_path / "frozen.pb")
  assert_writes(
    capsys,
    path,
    case,
    "--input_meta_graph=" + prefix + ".meta",
    "--input_checkpoint=" + prefix,
    "--output_node_names=" + case.output,
    "--output_graph=" + path,
    "--input_binary=true",
    "--clear_devices",
    "--restore_op_name=save/restore_all",
    "--input_saver=",
    "--filename_tensor_name=save/Const:0",
    "--checkpoint_version=2",
  )


@pytest.mark.parametrize("text", [False, True])
def test_graph_def(capsys, case, prefix, tmp_path, text):
  meta = read_proto(prefix + ".meta", tf1.MetaGraphDef, "the meta graph")
  source = tmp_path / "graph"
  source.write_bytes(
    str(meta.graph_def).encode() if text else meta.graph_def.SerializeToString()
  )
  assert_writes(
    capsys,
    prefix + ".frozen.pb",
    case,
    "--input_graph=%s" % source,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
  )


def test_checkpoint_of_another_step(capsys, case, prefix, tmp_path):
  for end in (".index", DATA_FILE[len("model.ckpt") :]):
    shutil.copy(prefix + end, str(tmp_path / ("other-7" + end)))
  other = str(tmp_path / "other-7")
  assert_writes(
    capsys,
    other + ".frozen.pb",
    case,
    "--checkpoint=" + other,
    "--meta_graph=" + prefix + ".meta",
    "--output_node=" + case.output,
  )


@pytest.mark.parametrize(
  "flag, frozen, stays",
  [
    ("denylist=post/gamma", "mid/gamma", "post/gamma"),
    ("blacklist=post/gamma", "mid/gamma", "post/gamma"),
    ("allowlist=mid/gamma,mid/beta", "mid/gamma", "post/gamma"),
    ("whitelist=mid/gamma", "mid/gamma", "mid/beta"),
  ],
)
def test_variables_that_are_to_stay(capsys, case, prefix, flag, frozen, stays):
  result = run(
    capsys,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
    "--nofold_batch_norms",
    "--variable_names_" + flag,
  )
  assert result.status == 0, result.err
  ops = {n.name: n.op for n in read_graph(prefix + ".frozen.pb").node}
  assert ops[stays] in ("VariableV2", "VarHandleOp")
  assert ops[frozen] == "Const"


def test_cut_at_an_inner_tensor(capsys, case, prefix):
  result = run(
    capsys,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
    "--input_node=add:0",
  )
  assert result.status == 0, result.err
  ops = {n.name: n.op for n in read_graph(prefix + ".frozen.pb").node}
  assert ops["add"].startswith("Placeholder")
  assert case.input not in ops
  assert "compared with the training graph" in result.out


def test_cut_that_is_not_enough(capsys, case, prefix):
  """A shortcut goes around the middle norm."""
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    [
      "--checkpoint=" + prefix,
      "--output_node=" + case.output,
      "--input_node=mid/FusedBatchNormV3",
    ],
    "'images'",
    "--input_node",
  )


# Lookup tables.


@pytest.fixture(scope="module")
def words(tmp_path_factory):
  """A model with a lookup table: prefix, input, and the stored answers."""
  folder = tmp_path_factory.mktemp("words")
  random = np.random.RandomState(3)
  mean, embedding = random.randn(4), random.randn(3, 4)
  with tf1.Graph().as_default() as graph:
    tf1.disable_resource_variables()
    text = tf1.placeholder(tf1.string, [None], name="words")
    initializer = tf1.lookup.KeyValueTensorInitializer(
      tf1.constant(["red", "green"]), tf1.constant([1, 2], tf1.int64)
    )
    table = tf1.lookup.StaticHashTable(initializer, 0)
    shape = {"dtype": tf1.float32}
    rows = tf1.get_variable(
      "rows", initializer=embedding.astype(np.float32), **shape
    )
    moving_mean = tf1.get_variable(
      "moving_mean",
      initializer=mean.astype(np.float32),
      trainable=False,
      **shape,
    )
    x = tf1.gather(rows, table.lookup(text))
    tf1.subtract(x, moving_mean, name="logits")
    prefix = str(folder / "model.ckpt")
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      running.run(tf1.tables_initializer())
      tf1.train.Saver().save(running, prefix)
  fed = np.array([b"green", b"blue", b"red"], dtype=object)
  return prefix, fed, (embedding[[2, 0, 1]] - mean).astype(np.float32)


def assert_words(path, words, initializers):
  _, fed, truth = words
  runner = ImportedGraph(read_graph(path), ["logits"], initializers)
  # One rounding of float32 on values of about 1.
  assert_close(runner.run({"words": fed})[0], truth, 1e-6)
  runner.close()


def test_table_keeps_what_fills_it(capsys, words, tmp_path):
  path = str(tmp_path / "words.pb")
  result = run(
    capsys,
    "--checkpoint=" + words[0],
    "--output_node=logits",
    "--output_graph=" + path,
  )
  assert result.status == 0, result.err
  fill = [
    node.name
    for node in read_graph(path).node
    if node.op in ("InitializeTableV2", "LookupTableImportV2")
  ]
  assert len(fill) == 1
  assert "run '%s' once" % fill[0] in result.err
  assert result.out.startswith("PROVEN: ")
  assert "not run" not in result.out
  assert_words(path, words, fill)


def test_named_initializer_stays(capsys, words, tmp_path):
  path = str(tmp_path / "words.pb")
  result = run(
    capsys,
    "--checkpoint=" + words[0],
    "--output_node=logits",
    "--initializer_nodes=init_all_tables",
    "--output_graph=" + path,
  )
  assert result.status == 0, result.err
  assert_words(path, words, ["init_all_tables"])


def test_unknown_initializer(capsys, words, tmp_path):
  assert_refused(
    run(
      capsys,
      "--checkpoint=" + words[0],
      "--output_node=logits",
      "--initializer_nodes=init_all_table",
      "--output_graph=%s" % (tmp_path / "x.pb"),
    ),
    "'init_all_table'",
    "did you mean 'init_all_tables'",
  )
  assert contents(tmp_path) == {}


# What it refuses: one line, status 3, no file, nothing changed.


def assert_nothing_done(capsys, folder, arguments, *words):
  before = contents(folder)
  assert_refused(run(capsys, *arguments), *words)
  assert contents(folder) == before


@pytest.mark.parametrize(
  "arguments, words",
  [
    ([], ["--checkpoint"]),
    (["--output_node=prob"], ["--checkpoint"]),
    (["--output_node=prob", "--checkpoint=@x"], ["'@x'"]),
    (["--output_node=nowhere_at_all", "--checkpoint=@"], ["'nowhere_at_all'"]),
    (["--output_node=prop", "--checkpoint=@"], ["'prop'", "'prob'"]),
    (["--output_node=prob:7", "--checkpoint=@"], ["prob:7"]),
    (["--output_node=^prob", "--checkpoint=@"], ["prob"]),
    (
      ["--output_node=prob", "--checkpoint=@", "--input_node=image"],
      ["--input_node 'image'", "'images'"],
    ),
    (["--output_node=prob", "--checkpoint=@", "--set=mode"], ["'mode'"]),
    (["--output_node=prob", "--checkpoint=@", "--set=mode=1"], ["'mode'"]),
    (
      [
        "--output_node=prob",
        "--checkpoint=@",
        "--keep_batch_statistics=nosuch",
      ],
      ["'nosuch'"],
    ),
    (
      ["--output_node=prob", "--checkpoint=@", "--keep_random=nosuch"],
      ["'nosuch'", "draws"],
    ),
    (
      [
        "--output_node=prob",
        "--checkpoint=@",
        "--variable_names_denylist=post/gama",
      ],
      ["'post/gama'", "'post/gamma'"],
    ),
    (
      [
        "--output_node=prob",
        "--checkpoint=@",
        "--variable_names_whitelist=post/gama",
      ],
      ["--variable_names_allowlist 'post/gama'", "'post/gamma'"],
    ),
    (
      [
        "--output_node=prob",
        "--checkpoint=@",
        "--model=a.py:f",
        "--meta_graph=@.meta",
      ],
      ["--model", "--meta_graph"],
    ),
    (
      [
        "--output_node=prob",
        "--checkpoint=@",
        "--meta_graph=@.meta",
        "--graph_def=@.meta",
      ],
      ["--meta_graph", "--graph_def"],
    ),
    (["--output_node=prob", "--checkpoint=@", "extra"], ["'extra'"]),
    (
      ["--output_node=prob", "--checkpoint=@", "--report=x.pdf"],
      ["x.pdf", ".json"],
    ),
    (
      ["--output_node=prob", "--checkpoint=@", "--report=%/no/r.json"],
      ["no/r.json"],
    ),
    (["--output_node=prob", "--checkpoint=@", "--report=%"], []),
    (
      ["--output_node=prob", "--checkpoint=@", "--output_graph=%/no/x.pb"],
      ["no/x.pb", "directory"],
    ),
    (
      ["--output_node=prob", "--checkpoint=@", "--output_graph=%"],
      ["directory"],
    ),
    (
      ["--output_node=prob", "--checkpoint=@", "--meta_graph=%"],
      ["it is ", "python -m bnexport.freeze --checkpoint=@ "],
    ),
    (
      [
        "--output_node=prob",
        "--checkpoint=@",
        "--meta_graph=%/modle.ckpt.meta",
      ],
      ["no such file", "'model.ckpt.meta'"],
    ),
    (["--output_node=prob", "--checkpoint=@", "--graph_def=@.meta"], []),
    (["--output_node=prob", "--checkpoint=@", "--meta_graph=@.index"], []),
    (
      ["--output_node=prob", "--checkpoint=@", "--graph_def=/dev/null"],
      ["device"],
    ),
    (["--output_node=prob", "--checkpoint="], []),
    (["--output_node=prob", "--checkpoint=@", "--feeds=%/no.npz"], ["no.npz"]),
    (
      ["--output_node=prob", "--checkpoint=@", "--feeds=@.meta"],
      ["feeds", "numpy.savez"],
    ),
  ],
)
def test_refused(capsys, prefix, monkeypatch, arguments, words):
  folder = os.path.dirname(prefix)
  monkeypatch.chdir(folder)
  arguments = [a.replace("@", prefix).replace("%", folder) for a in arguments]
  words = [word.replace("@", prefix) for word in words]
  assert_nothing_done(capsys, folder, arguments, *words)


def test_existing_target_is_not_touched(capsys, prefix):
  with open(prefix + ".frozen.pb", "wb") as f:
    f.write(b"precious")
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob"],
    "exists",
    "--overwrite",
  )


def test_existing_report_is_not_touched(capsys, prefix, tmp_path):
  path = tmp_path / "report.json"
  path.write_bytes(b"precious")
  assert_nothing_done(
    capsys,
    tmp_path,
    ["--checkpoint=" + prefix, "--output_node=prob", "--report=%s" % path],
    "exists",
    "--overwrite",
  )


def test_target_is_not_the_training_graph(capsys, prefix):
  """--overwrite replaces an old result, never what the model is made of."""
  for end in (".meta", ".index", DATA_FILE[len("model.ckpt") :]):
    assert_nothing_done(
      capsys,
      os.path.dirname(prefix),
      [
        "--checkpoint=" + prefix,
        "--output_node=prob",
        "--overwrite",
        "--output_graph=" + prefix + end,
      ],
      end,
    )


def test_nearest_checkpoint_is_offered(capsys, prefix):
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    [
      "--checkpoint=" + prefix.replace("model.ckpt", "modl.ckpt"),
      "--output_node=prob",
    ],
    "modl.ckpt",
    "did you mean",
    "model.ckpt'",
  )


def test_missing_meta(capsys, prefix):
  os.remove(prefix + ".meta")
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob"],
    ".meta",
    "no such file",
  )


def test_missing_data(capsys, prefix):
  os.remove(prefix + DATA_FILE[len("model.ckpt") :])
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob"],
    "model.ckpt",
  )


@pytest.mark.parametrize(
  "end", [".meta", ".index", DATA_FILE[len("model.ckpt") :]]
)
@pytest.mark.parametrize("left", [0.0, 0.1, 0.5, 0.95])
def test_truncated_file(capsys, prefix, end, left):
  with open(prefix + end, "rb") as f:
    data = f.read()
  with open(prefix + end, "wb") as f:
    f.write(data[: int(left * len(data))])
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob"],
    "model.ckpt",
  )


@pytest.mark.parametrize("large", [1, 1 << 20])
def test_damaged_values(capsys, prefix, large, monkeypatch):
  """Large values are read by another way, which has to see it too."""
  monkeypatch.setattr(checkpoint, "_LARGE", large)
  path = prefix + DATA_FILE[len("model.ckpt") :]
  with open(path, "rb") as f:
    data = bytearray(f.read())
  for i in range(0, len(data), 8):
    data[i] ^= 0x40
  with open(path, "wb") as f:
    f.write(data)
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob"],
    "model.ckpt",
  )


@pytest.mark.parametrize(
  "data",
  [
    PNG,
    b"hello, world\n",
    b"",
    b"\0" * 64,
    b"node { name: 'a' op: 'NoOp'",
    "na\u00efve text\n".encode("latin-1"),
    b"version https://git-lfs.github.com",
  ],
  ids=["png", "text", "empty", "zeros", "cut_text", "latin", "pointer"],
)
@pytest.mark.parametrize("flag", ["graph_def", "meta_graph"])
def test_no_graph_at_all(capsys, prefix, data, flag):
  path = os.path.join(os.path.dirname(prefix), "graph.pb")
  with open(path, "wb") as f:
    f.write(data)
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob", "--%s=%s" % (flag, path)],
    "graph.pb",
  )


@pytest.mark.parametrize(
  "data", [PNG, b"", b"hello\n"], ids=["png", "empty", "text"]
)
def test_checkpoint_that_is_none(capsys, prefix, tmp_path, data):
  path = tmp_path / "other"
  path.write_bytes(data)
  assert_nothing_done(
    capsys,
    tmp_path,
    [
      "--checkpoint=%s" % path,
      "--meta_graph=" + prefix + ".meta",
      "--output_node=prob",
    ],
    "other",
  )


def test_checkpoint_of_another_model(capsys, cases, tmp_path):
  case = cases("refuse_other_model")
  prefix = copy_of(case, tmp_path)
  assert_nothing_done(
    capsys,
    tmp_path,
    ["--checkpoint=" + prefix, "--output_node=" + case.output],
    "model.ckpt",
  )


def test_every_refused_case(capsys, cases, tmp_path):
  import zoo

  for name in zoo.names():
    if name.startswith("refuse_"):
      folder = tmp_path / name
      folder.mkdir()
      case = cases(name)
      prefix = copy_of(case, folder)
      assert_nothing_done(
        capsys,
        folder,
        ["--checkpoint=" + prefix, "--output_node=" + case.output]
        + ["--set=%s=%s" % item for item in case.set.items()],
      )


@pytest.mark.parametrize("value", ["banana", "2.5", ""])
def test_setting_of_the_wrong_type(capsys, phased, value):
  case, prefix = phased
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    [
      "--checkpoint=" + prefix,
      "--output_node=" + case.output,
      "--set=%s=%s" % (case.switch, value),
    ],
    "'%s'" % case.switch,
  )


def _feeds_files(x):
  """Yields names and bytes of files that --feeds can't be."""
  whole = io.BytesIO()
  np.savez(whole, images=x)
  yield "cut", whole.getvalue()[: len(whole.getvalue()) // 2]
  array = io.BytesIO()
  np.save(array, x)
  yield "npy", array.getvalue()
  yield "empty", b""
  yield "text", b"1, 2, 3\n"
  unknown = io.BytesIO()
  np.savez(unknown, image=x)
  yield "unknown_name", unknown.getvalue()
  none = io.BytesIO()
  np.savez(none)
  yield "no_arrays", none.getvalue()


@pytest.mark.parametrize(
  "name", [name for name, _ in _feeds_files(np.zeros((2, 3, 3, 3)))]
)
def test_feeds_that_are_none(capsys, case, prefix, name):
  path = os.path.join(os.path.dirname(prefix), "feeds.npz")
  with open(path, "wb") as f:
    f.write(dict(_feeds_files(case.x))[name])
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob", "--feeds=" + path],
    "feeds",
  )


def test_feeds_that_do_not_fit(capsys, case, prefix, tmp_path):
  path = str(tmp_path / "feeds.npz")
  np.savez(path, images=case.x[..., 0])
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob", "--feeds=" + path],
    "images",
  )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_directory_that_can_not_be_written(capsys, prefix, tmp_path):
  folder = tmp_path / "closed"
  folder.mkdir()
  folder.chmod(0o500)
  try:
    assert_nothing_done(
      capsys,
      folder,
      [
        "--checkpoint=" + prefix,
        "--output_node=prob",
        "--output_graph=%s/x.pb" % folder,
      ],
      "x.pb",
    )
  finally:
    folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_graph_that_can_not_be_read(capsys, prefix):
  os.chmod(prefix + ".meta", 0)
  assert_refused(
    run(capsys, "--checkpoint=" + prefix, "--output_node=prob"),
    ".meta",
    "permission",
  )


# Writing that does not end well.


@pytest.mark.parametrize("exists", [False, True])
def test_full_disk(prefix, exists):
  """No file may grow beyond 512 bytes: a write fails as on a full disk."""
  if exists:
    with open(prefix + ".frozen.pb", "wb") as f:
      f.write(b"old")
  before = contents(os.path.dirname(prefix))
  result = run_forked(
    "-m",
    "bnexport.freeze",
    "--checkpoint=" + prefix,
    "--output_node=prob",
    "--overwrite",
    largest_file=512,
  )
  assert result.status == 3, result.err
  assert "bnexport: cannot write '%s.frozen.pb': " % prefix in result.err
  assert "Traceback" not in result.err
  assert contents(os.path.dirname(prefix)) == before


@pytest.mark.parametrize("exists", [False, True])
def test_failing_write(capsys, prefix, exists, monkeypatch):
  @contextlib.contextmanager
  def full(part):
    with open("/dev/full", "wb", buffering=0) as f:
      yield f

  if exists:
    with open(prefix + ".frozen.pb", "wb") as f:
      f.write(b"old")
  monkeypatch.setattr(writing, "_new_file", full)
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob", "--overwrite"],
    "cannot write",
    "No space left",
  )


def test_what_is_not_proven_has_no_faults_that_can_be_seen(
  capsys, tmp_path, prefix
):
  """A graph that was frozen before, with what read a variable left as it was."""
  graph = text.loads(
    """
    x = Placeholder() {shape=[?,3]}
    v = Const() {value=<float [3] 1 2 3>}
    i = Const() {value=<int32 0>}
    z = ResourceGather(v, i) {dtype=float, Tindices=int32}
    w = Add(x, z)
    """
  )
  folder = tmp_path / "frozen"
  folder.mkdir()
  path = folder / "frozen.pb"
  path.write_bytes(graph.SerializeToString())
  assert_nothing_done(
    capsys,
    folder,
    [
      f"--graph_def={path}",
      f"--checkpoint={prefix}",
      "--output_node=w",
      f"--output_graph={folder}/made.pb",
      "--novalidate",
    ],
    "'z' takes a variable's handle",
    "bnexport.repair",
  )


def test_interrupted_while_proving(capsys, prefix, monkeypatch):
  def prove(*args, **kwargs):
    raise KeyboardInterrupt

  monkeypatch.setattr(comparison, "prove", prove)
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob"],
    "interrupted",
  )


def test_interrupted_while_writing(capsys, prefix, monkeypatch):
  new_file = writing._new_file

  @contextlib.contextmanager
  def half(part):
    with new_file(part) as f:

      class Half:
        def write(self, data):
          f.write(data[: len(data) // 2])
          raise KeyboardInterrupt

      yield Half()

  monkeypatch.setattr(writing, "_new_file", half)
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob"],
    "interrupted",
  )


def test_exported_graph_that_does_not_import(capsys, prefix, monkeypatch):
  def prove(*args, **kwargs):
    raise errors.ComparisonError("import the graph", "no", "try")

  monkeypatch.setattr(comparison, "prove", prove)
  assert_nothing_done(
    capsys,
    os.path.dirname(prefix),
    ["--checkpoint=" + prefix, "--output_node=prob"],
    "cannot import",
  )


def test_answers_that_differ(capsys, case, prefix, monkeypatch, tmp_path):
  """Status 2, and the graph and the report are there to look at."""
  from bnexport.proof.training_graph import TrainingGraph

  answers = TrainingGraph.run
  monkeypatch.setattr(
    TrainingGraph,
    "run",
    lambda self, feeds: [a + 0.01 for a in answers(self, feeds)],
  )
  path = str(tmp_path / "report.json")
  result = run(
    capsys, "--checkpoint=" + prefix, "--output_node=prob", "--report=" + path
  )
  assert result.status == 2
  assert "DIFFERS" in result.out
  assert "warning: the exported graph does not answer" in result.err
  assert_right(prefix + ".frozen.pb", case)
  with open(path) as f:
    assert json.load(f)["proof"]["holds"] is False


# As a process.


def test_process_end_to_end(case, prefix):
  result = run_process(
    "-m",
    "bnexport.freeze",
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
  )
  assert result.status == 0, result.err
  assert result.out.startswith("PROVEN: ")
  assert_right(prefix + ".frozen.pb", case)


def test_process_refuses(prefix):
  result = run_forked(
    "-m", "bnexport.freeze", "--checkpoint=" + prefix, "--output_node=prop"
  )
  assert result.status == 3
  lines = [
    line
    for line in result.err.splitlines()
    if line.startswith("bnexport: cannot ")
  ]
  assert len(lines) == 1 and "did you mean 'prob'" in lines[0]
  assert "Traceback" not in result.err
  assert not os.path.exists(prefix + ".frozen.pb")


def test_process_with_a_wrong_flag():
  result = run_process("-m", "bnexport.freeze", "--no_such_flag=1")
  assert result.status == 1
  assert "no_such_flag" in result.err
  assert "Traceback" not in result.err


def test_help_imports_no_tensorflow():
  result = run_process(
    "-X", "importtime", "-m", "bnexport.freeze", "--helpshort"
  )
  assert "--output_node" in result.out
  modules = {
    line.split("|")[-1].strip()
    for line in result.err.splitlines()
    if line.startswith("import time:")
  }
  assert "bnexport.cli" in modules
  assert "tensorflow" not in modules


_KILLED = """
import os, signal, time
from bnexport import freeze
from bnexport.cli import process
from bnexport.proof import comparison

def prove(*args, **kwargs):
  os.kill(os.getpid(), signal.NUMBER)
  time.sleep(60)

comparison.prove = prove
process.run(freeze.main)
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_killed_while_proving(prefix, number):
  before = contents(os.path.dirname(prefix))
  script = _KILLED.replace("NUMBER", number)
  result = run_forked(
    "-c", script, "--checkpoint=" + prefix, "--output_node=prob"
  )
  assert result.status == 3
  assert "Traceback" not in result.err
  assert contents(os.path.dirname(prefix)) == before
