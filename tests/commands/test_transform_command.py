# SPDX-License-Identifier: Apache-2.0
"""python -m bnexport.transform, with the flags of the old binary."""

from __future__ import annotations

import os

import numpy as np
import pytest
from google.protobuf import text_format
from judges.commands import assert_refused, contents, run, run_forked

from bnexport import text
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import tf1

GRAPH = """
  graph {complete=true, producer=134}
  x = Placeholder() {dtype=float, shape=[?,2]}
  a = Const() {dtype=float, value=<float 2>} @"/device:CPU:0"
  b = Neg(a) {T=float}
  m = Mul(x, b) {T=float} @"/device:CPU:0"
  i = Identity(m) {T=float, _class=("loc:@m")}
  y = Relu(i) {T=float}
  z = MyOwn(x)
  function f(x float) -> (z float = x) {}
"""


@pytest.fixture
def graph(tmp_path):
  path = tmp_path / "in.pb"
  path.write_bytes(text.loads(GRAPH).SerializeToString())
  return str(path)


def transform(capsys, graph, transforms, *more):
  """Runs the command; returns its result and the path it writes to."""
  out = os.path.join(os.path.dirname(graph), "out.pb")
  return run(
    capsys,
    "--in_graph=" + graph,
    "--out_graph=" + out,
    "--inputs=x:0",
    "--outputs=y:0",
    "--transforms=" + transforms,
    *more,
    command="transform",
  ), out


def loaded(path):
  proto = tf1.GraphDef()
  with open(path, "rb") as f:
    proto.ParseFromString(f.read())
  return proto


def test_the_old_tools_command_line(capsys, graph):
  result, out = transform(
    capsys,
    graph,
    '\\\nstrip_unused_nodes(type=float, shape="1,224,224,3") \\\n'
    "remove_nodes(op=Identity, op=CheckNumerics) \\\n"
    "fold_constants(ignore_errors=true) \\\n",
  )
  assert result.status == 0, result
  made = loaded(out)
  assert [node.name for node in made.node] == ["x", "b", "m", "y"]
  assert "strip_unused_nodes: cut 1 nodes" in result.out
  assert "fold_constants: folded 1 nodes" in result.out
  assert "4 nodes, there were 7" in result.out
  runner = ImportedGraph(made, ["y"])
  (y,) = runner.run({"x": np.float32([[1, -2]])})
  assert (y == np.float32([[0, 4]])).all()


def test_what_is_not_asked_for_stays(capsys, graph):
  result, out = transform(capsys, graph, "remove_attribute(attribute_name=q)")
  made, before = loaded(out), loaded(graph)
  assert result.status == 2  # nobody knows MyOwn
  assert made.versions == before.versions
  assert made.library == before.library
  assert {n.name: n for n in made.node} == {n.name: n for n in before.node}
  assert "remove_attribute: changed nothing" in result.out


def test_a_graph_that_tensorflow_does_not_import_is_said(capsys, graph):
  result, out = transform(capsys, graph, "remove_device")
  assert result.status == 2
  assert "MyOwn" in result.err and os.path.exists(out)
  result, _ = transform(
    capsys, graph, "remove_device", "--overwrite", "--novalidate"
  )
  assert result.status == 0


def test_text_in_and_out(capsys, graph, tmp_path):
  source = str(tmp_path / "in.pbtxt")
  with open(source, "w") as f:
    f.write(text_format.MessageToString(loaded(graph)))
  result, out = transform(
    capsys, source, "strip_unused_nodes", "--output_as_text"
  )
  assert result.status == 0
  with open(out) as f:
    made = text_format.Parse(f.read(), tf1.GraphDef())
  assert len(made.node) == 6


def test_placement_with_a_removed_node_is_not_written(capsys, graph):
  result, out = transform(
    capsys, graph, "remove_nodes(op=Mul, max_inputs=2) strip_unused_nodes"
  )
  assert result.status == 0, result
  (i,) = [node for node in loaded(out).node if node.name == "i"]
  assert "_class" not in i.attr


def test_help(capsys):
  result = run(capsys, "--transforms=help", command="transform")
  assert result.status == 0
  for name in ("strip_unused_nodes", "decide", "optimize_for_inference"):
    assert "\n  %s  " % name in result.out
  result = run(capsys, "--transforms=help(rename_op)", command="transform")
  assert result.status == 0
  assert result.out.startswith("rename_op(old_op_name=..., new_op_name=...)")
  assert "Before:" in result.out and "Refuses" in result.out
  result = run(capsys, "--transforms=help(renam_op)", command="transform")
  assert_refused(result, "'renam_op'", "did you mean 'rename_op'")


@pytest.mark.parametrize(
  "transforms, words",
  [
    ("", ["no transform is named", "--transforms=help"]),
    ("fold_constnts", ["column 1", "did you mean 'fold_constants'"]),
    ("remove_device set_device(device=a", ["column 25", "not closed"]),
    ("set_device(devise=a)", ["column 12", "'devise'", "'device'"]),
    ("rename_op(old_op_name=Relu, new_op_name=Add)", ["'y'", "2 inputs"]),
    ("remove_device rename_node(old_node_name=y, new_node_name=x)", ["taken"]),
  ],
)
def test_refusals_write_nothing(capsys, graph, transforms, words):
  before = contents(os.path.dirname(graph))
  result, _ = transform(capsys, graph, transforms)
  assert result.status == 3
  errors = [line for line in result.err.splitlines() if "cannot" in line]
  assert len(errors) == 1
  for word in words:
    assert word in errors[0]
  assert contents(os.path.dirname(graph)) == before


def test_files_are_not_lost(capsys, graph):
  out = os.path.join(os.path.dirname(graph), "out.pb")
  with open(out, "wb") as f:
    f.write(b"mine")
  before = contents(os.path.dirname(graph))
  result, _ = transform(capsys, graph, "remove_device")
  assert_refused(result, "exists", "--overwrite")
  result = run(
    capsys,
    "--in_graph=" + graph,
    "--out_graph=" + graph,
    "--outputs=y",
    "--transforms=remove_device",
    "--overwrite",
    command="transform",
  )
  assert_refused(result, "read from it")
  assert contents(os.path.dirname(graph)) == before


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--in_graph=%(in)s", "--outputs=y"], ["--out_graph"]),
    (["--out_graph=%(out)s", "--outputs=y"], ["--in_graph"]),
    (["--in_graph=%(in)s", "--out_graph=%(out)s"], ["no output is named"]),
    (
      ["--in_graph=%(in)s", "--out_graph=%(out)s", "--outputs=yy"],
      ["--outputs 'yy'"],
    ),
    (
      [
        "--in_graph=%(in)s",
        "--out_graph=%(out)s",
        "--outputs=y",
        "--inputs=xx",
      ],
      ["--inputs 'xx'"],
    ),
    (
      ["--in_graph=%(in)s.no", "--out_graph=%(out)s", "--outputs=y"],
      ["no such file"],
    ),
  ],
)
def test_missing_flags(capsys, graph, tmp_path, flags, words):
  paths = {"in": graph, "out": str(tmp_path / "out.pb")}
  result = run(
    capsys,
    "--transforms=remove_device",
    *[flag % paths for flag in flags],
    command="transform",
  )
  assert_refused(result, *words)


def test_variables_are_read_from_a_checkpoint(capsys, cases, tmp_path):
  case = cases("layers_fused_literal")
  meta = tf1.MetaGraphDef()
  with open(case.prefix + ".meta", "rb") as f:
    meta.ParseFromString(f.read())
  path = str(tmp_path / "in.pb")
  with open(path, "wb") as f:
    f.write(meta.graph_def.SerializeToString())
  out = str(tmp_path / "out.pb")
  result = run(
    capsys,
    "--in_graph=" + path,
    "--out_graph=" + out,
    "--checkpoint=" + case.prefix,
    "--outputs=" + case.output,
    "--transforms=decide use_stored_statistics remove_side_effects "
    "read_variables freeze_variables strip_unused_nodes fold_constants",
    command="transform",
  )
  assert result.status == 0, result
  runner = ImportedGraph(loaded(out), [case.output])
  (y,) = runner.run({case.input: case.x})
  assert np.abs(y - case.y).max() <= case.tol * max(1, np.abs(case.y).max())


def test_as_a_process(graph, tmp_path):
  out = str(tmp_path / "out.pb")
  result = run_forked(
    "-m",
    "bnexport.transform",
    "--in_graph=" + graph,
    "--out_graph=" + out,
    "--inputs=x",
    "--outputs=y",
    "--transforms=strip_unused_nodes",
  )
  assert result.status == 0, result
  assert len(loaded(out).node) == 6


def test_a_graph_that_transforms_broke_is_not_written(capsys, tmp_path):
  path = tmp_path / "in.pb"
  graph = text.loads("x = Placeholder() {shape=[?,2]}\ny = Relu(x)")
  path.write_bytes(graph.SerializeToString())
  spec = "rename_attribute(old_attribute_name=T, new_attribute_name=U)"
  result, out = transform(capsys, str(path), spec)
  assert result.status == 3 and not os.path.exists(out), result
  assert "does not import what the transforms made" in result.err
  result, out = transform(capsys, str(path), spec, "--novalidate")
  assert result.status == 0 and os.path.exists(out)


def test_a_graph_that_came_in_broken_is_tidied_and_said(capsys, tmp_path):
  path = tmp_path / "in.pb"
  graph = text.loads("x = Placeholder() {shape=[?,2]}\ny = Relu(x)")
  del graph.node[1].attr["T"]
  path.write_bytes(graph.SerializeToString())
  result, out = transform(capsys, str(path), "remove_device")
  assert result.status == 2 and os.path.exists(out), result
  assert "does not import the graph" in result.err
  os.remove(out)
  result, out = transform(capsys, str(path), "fold_constants")
  assert_refused(result, "node 'y' lacks attribute 'T'", "strip_unused_nodes")
