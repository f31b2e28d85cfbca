# SPDX-License-Identifier: Apache-2.0
"""Both engines freeze alike, and what is streamed is what would be written."""

import numpy as np
import pytest
import zoo
from judges import opening
from judges.commands import assert_refused, copy_of, on_one_line, run

from bnexport.errors import Error
from bnexport.exporting.export import Options
from bnexport.exporting.export import export as export_model
from bnexport.graph.nodes import DEFERRED
from bnexport.model import checkpoint, stream
from bnexport.sources.files import read_proto
from bnexport.tf1 import session, tf1
from bnexport.transforms.inference import freeze_variables

CASES = [n for n in zoo.names() if not n.startswith("refuse_")]


def export(case, engine):
  outputs = [case.output] + list(case.also)
  inputs = [case.input] if case.cut_input else []
  model = opening.trained(case.prefix, outputs, inputs)
  options = Options(
    settings={k: str(v) for k, v in case.set.items()},
    keep_batch_statistics=tuple(case.keep_scopes),
    moving_averages=case.ema,
    data_format="NHWC" if case.no_run_115 else None,
    engine=engine,
  )
  return export_model(model, options)


def nodes(graph_def):
  return {node.name: node for node in graph_def.node}


def streamed(model):
  data = b"".join(bytes(piece) for piece in stream.pieces(model))
  return tf1.GraphDef.FromString(data)


# Engines differ in how they read variables, and not in models.
@pytest.mark.part(15, 7, oldest=28)
@pytest.mark.parametrize("name", CASES)
def test_engines_give_the_same_nodes(cases, name, monkeypatch):
  """Kernels are deferred; there is no larger variable in the zoo."""
  monkeypatch.setattr(freeze_variables, "_MOST_ELEMENTS", 16)
  monkeypatch.setattr(checkpoint, "_LARGE", 32)
  monkeypatch.setattr(stream, "_MOST_WAITING", 100)
  case = cases(name)
  by_stream = export(case, "stream")
  written = streamed(by_stream.model)
  assert written == by_stream.to_graph_def()
  if not case.no_run_115:  # layouts are changed before the one, after the other
    in_session = export(case, "session").to_graph_def()
    assert nodes(written) == nodes(in_session)
  assert not any(DEFERRED in node.attr for node in written.node)


def test_kernels_are_deferred(cases, monkeypatch):
  """Else the test above would show nothing."""
  monkeypatch.setattr(freeze_variables, "_MOST_ELEMENTS", 16)
  model = export(cases("layers_fused_literal"), "stream").model
  held = [n.name for n in model.graph if DEFERRED in n.attr]
  assert "stem/kernel" in held or len(held) >= 2
  for name in held:
    assert not model.graph.node(name).attr["value"].tensor.tensor_content
    assert model.array(name).size > 16


def test_statistics_are_never_deferred(cases):
  model = export(cases("layers_fused_literal"), "stream").model
  assert not any(DEFERRED in node.attr for node in model.graph)


@pytest.mark.parametrize("shape", [(), (1,), (2,), (0,), (3, 1, 2), (70, 1000)])
@pytest.mark.parametrize(
  "dtype", [np.float32, np.float16, np.float64, np.int32, np.bool_]
)
def test_written_constant_has_its_value(shape, dtype):
  from bnexport.graph import Graph
  from bnexport.graph.nodes import Signatures, deferred_attrs
  from bnexport.model import Model

  value = (np.arange(np.prod(shape, dtype=int)) % 3).reshape(shape)
  value = value.astype(dtype)
  graph = Graph(tf1.GraphDef())
  graph.add("Const", "c", (), deferred_attrs(shape, dtype, "key"))
  model = Model(
    graph=graph,
    values=None,
    inputs=(),
    outputs=(),
    origin="",
    signatures=Signatures(),
    deferred={"key": lambda: value},
  )
  for graph_def in (streamed(model), stream.to_graph_def(model)):
    got = tf1.make_ndarray(graph_def.node[0].attr["value"].tensor)
    assert got.dtype == value.dtype
    assert got.shape == value.shape
    assert (got == value).all()


def test_too_large_is_refused_before_reading(monkeypatch, cases):
  monkeypatch.setattr(stream, "MOST_BYTES", 1000)
  model = export(cases("layers_fused_literal"), "stream").model
  model.deferred = dict.fromkeys(model.deferred, None)  # nobody may read
  with pytest.raises(Error, match="cannot write .* bytes into one file"):
    list(stream.pieces(model))


def test_too_large_by_command(monkeypatch, cases, capsys, tmp_path):
  monkeypatch.setattr(stream, "MOST_BYTES", 1000)
  case = cases("layers_fused_literal")
  out = tmp_path / "out.pb"
  result = run(
    capsys,
    "--checkpoint=" + case.prefix,
    "--output_node=" + case.output,
    "--output_graph=%s" % out,
  )
  assert_refused(result, "2 GB", "--saved_model_out")
  assert not out.exists()


def test_op_that_is_not_registered(capsys, cases, tmp_path):
  """Is frozen like any other; only the proof is left to who knows the op."""
  case = cases("layers_fused_literal")
  prefix = copy_of(case, tmp_path)
  run(
    capsys,
    "--checkpoint=" + prefix,
    "--output_node=prob",
    "--output_graph=" + str(tmp_path / "known.pb"),
  )
  with open(prefix + ".meta", "rb") as f:
    meta = tf1.MetaGraphDef.FromString(f.read())
  for node in meta.graph_def.node:
    node.op = {"Relu": "ReluOfOurs"}.get(node.op, node.op)
  with open(prefix + ".meta", "wb") as f:
    f.write(meta.SerializeToString())
  result = run(
    capsys,
    "--checkpoint=" + prefix,
    "--output_node=prob",
    "--output_graph=" + str(tmp_path / "other.pb"),
  )
  assert result.status == 2
  assert result.out.startswith("NOT PROVEN: ")
  said = on_one_line(result.out)
  assert "does not know op ReluOfOurs of 'Relu'; prove" in said
  known, other = (
    read_proto(str(tmp_path / name), tf1.GraphDef, "the graph")
    for name in ("known.pb", "other.pb")
  )
  changed = [n for n in other.node if n.op == "ReluOfOurs"]
  for node in changed:
    node.op = "Relu"
  assert changed and nodes(known) == nodes(other)
  result = run(
    capsys,
    "--checkpoint=" + prefix,
    "--output_node=prob",
    "--novalidate",
    "--overwrite",
  )
  assert result.status == 0
  result = run(
    capsys,
    "--checkpoint=" + prefix,
    "--output_node=prob",
    "--engine=session",
    "--overwrite",
  )
  assert_refused(result, "pass --engine=stream")


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
  "version", [tf1.train.SaverDef.V1, tf1.train.SaverDef.V2]
)
def test_formats_of_checkpoints(tmp_path, monkeypatch, version, sharded):
  """Whole tensors and slices, by each of the two ways to read them."""
  value = np.arange(12, dtype="f").reshape(6, 2)
  with tf1.Graph().as_default() as graph, session(graph) as running:
    tf1.Variable(value, name="whole", use_resource=False)
    parts = tf1.get_variable(
      "parts",
      [6, 2],
      use_resource=False,
      partitioner=tf1.fixed_size_partitioner(3),
    )
    running.run(tf1.global_variables_initializer())
    joined = running.run(tf1.identity(parts))
    saver = tf1.train.Saver(write_version=version, sharded=sharded)
    prefix = saver.save(running, str(tmp_path / "model.ckpt"))
  for large in (1, 1 << 20):
    monkeypatch.setattr(checkpoint, "_LARGE", large)
    there = checkpoint.Checkpoint(prefix)
    np.testing.assert_array_equal(there.read("whole"), value)
    np.testing.assert_array_equal(there.read("parts"), joined)
    np.testing.assert_array_equal(there.read("parts", "6 2 2,2:-"), joined[2:4])


@pytest.mark.skipif(
  tf1.__version__ < "2",
  reason="this TensorFlow has no file system of which nothing is on disk",
)
def test_remote_paths(cases, capsys, tmp_path):
  """All that is read and written goes through TensorFlow's file systems."""
  case = cases("layers_fused_literal")
  for end in (".meta", ".index", ".data-00000-of-00001"):
    tf1.gfile.Copy(case.prefix + end, "ram://run/model.ckpt" + end)
  result = run(
    capsys,
    "--checkpoint=ram://run/model.ckpt",
    "--output_node=prob",
    "--report=ram://run/report.md",
  )
  assert result.status == 0, result.err
  local = str(tmp_path / "local.pb")
  assert (
    run(
      capsys,
      "--checkpoint=" + case.prefix,
      "--output_node=prob",
      "--output_graph=" + local,
    ).status
    == 0
  )
  with tf1.gfile.GFile("ram://run/model.ckpt.frozen.pb", "rb") as remote:
    with open(local, "rb") as f:
      assert remote.read() == f.read()
  assert tf1.gfile.Exists("ram://run/report.md")


def test_engine_flag(cases, capsys, tmp_path):
  case = cases("layers_fused_literal")
  written = []
  for engine in ("session", "stream", "auto"):
    out = tmp_path / (engine + ".pb")
    result = run(
      capsys,
      "--checkpoint=" + case.prefix,
      "--output_node=" + case.output,
      "--output_graph=%s" % out,
      "--engine=" + engine,
    )
    assert result.status == 0, result
    assert result.out.startswith("PROVEN: ")
    assert ("in a session" in result.out) == (engine == "session")
    written.append(nodes(tf1.GraphDef.FromString(out.read_bytes())))
  assert written[0] == written[1] == written[2]
