# SPDX-License-Identifier: Apache-2.0
"""The five verbs of the package: what they take, what they leave alone."""

import os

import numpy as np
import pytest
from judges import documented
from judges.commands import run_process
from judges.examples import write

import bnexport
from bnexport import checks, text
from bnexport.graph import TensorRef
from bnexport.tf1 import session, tf1
from bnexport.transforms.tidying.remove_nodes import RemoveNodes

NET = """
  x = Placeholder() {shape=[?,2]}   i = Identity(x)
  s = Const() {value=<float [2] 2 3>}   y = Mul(i, s)
"""


def net(statements=NET):
  return text.loads(statements)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The current directory, with net.pb in it."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "net.pb").write_bytes(net().SerializeToString())
  return tmp_path


@pytest.fixture
def trained(tmp_path):
  """A variable of value 3, in its session, and its checkpoint's prefix."""
  graph = tf1.Graph()
  with graph.as_default():
    x = tf1.placeholder(tf1.float32, [None], name="x")
    v = tf1.get_variable("v", initializer=3.0, use_resource=False)
    r = tf1.get_variable("r", initializer=5.0, use_resource=True)
    tf1.get_variable("never", initializer=1.0, use_resource=False)
    tf1.identity(x * v + r, name="y")
    with session(graph) as running:
      running.run([v.initializer, r.initializer])
      prefix = tf1.train.Saver([v, r]).save(
        running, str(tmp_path / "run" / "model.ckpt")
      )
      yield graph, running, prefix


def answer(model, x):
  made = bnexport.apply(
    model, "strip_unused_nodes read_variables freeze_variables"
  )
  graph = made.graph.to_tf_graph()
  with session(graph) as running:
    return running.run("y:0", {"x:0": x})


# The docstrings.


@pytest.mark.parametrize(
  "name", [None, "load", "check", "apply", "save", "compare"]
)
def test_examples_of_docstrings(name, folder):
  verb = bnexport if name is None else getattr(bnexport, name)
  model = bnexport.load("net.pb", outputs=["y"], inputs=["x"])
  known = {
    "bnexport": bnexport,
    "model": model,
    "small": bnexport.apply(model, "remove_nodes(op=Identity)"),
  }
  if name == "check":
    (folder / "broken").mkdir()
    named = write(checks.BY_CODE["BN101"].bad, folder / "broken")
    known["trained"] = bnexport.load(
      named.get("graph_def") or named["checkpoint"],
      named.get("checkpoint"),
      outputs=named["outputs"],
    )
  failed, ran = documented.failures(verb.__doc__, known)
  assert not failed and ran


def test_names():
  for name in bnexport.__all__:
    assert getattr(bnexport, name) is not None
    assert name in dir(bnexport)
  assert bnexport.TensorRef is TensorRef
  assert issubclass(bnexport.GraphError, bnexport.Error)
  with pytest.raises(AttributeError):
    bnexport.nothing  # noqa: B018


def test_import_is_cheap_and_a_noun_is_not():
  code = (
    "import sys, bnexport\n"
    "assert 'numpy' not in sys.modules and 'absl' not in sys.modules\n"
    "bnexport.Error\n"
    "assert 'tensorflow' not in sys.modules\n"
    "sys.modules['tensorflow'] = None\n"
    "try:\n"
    "  bnexport.text.loads('y = NoOp()')\n"
    "except ImportError:\n"
    "  sys.exit(5)\n"
  )
  assert run_process("-c", code).status == 5


# What load takes.


def test_load_file_and_proto_give_the_same(folder):
  graph_def = net()
  before = graph_def.SerializeToString(deterministic=True)
  meta = tf1.MetaGraphDef(graph_def=graph_def)
  text_file = folder / "net.pbtxt"
  text_file.write_text(str(graph_def))
  models = [
    bnexport.load(source, outputs=["y:0"])
    for source in ("net.pb", folder / "net.pb", str(text_file), graph_def, meta)
  ]
  for model in models:
    assert model.outputs == (TensorRef("y"),)
    assert model.graph.to_graph_def() == models[0].graph.to_graph_def()
  for model in models:
    model.graph.node("y").op = "Add"
  assert graph_def.SerializeToString(deterministic=True) == before


def test_load_checkpoint(trained):
  graph, _, prefix = trained
  directory = os.path.dirname(prefix)
  for source, checkpoint in (
    (prefix, None),
    (prefix + ".meta", None),
    (prefix + ".meta", prefix),
    (directory, None),
    (prefix + ".meta", directory),
    (graph.as_graph_def(), prefix),
    (graph, prefix),
  ):
    model = bnexport.load(source, checkpoint, outputs=["y"])
    np.testing.assert_allclose(answer(model, [2.0]), [11.0])


def test_load_tf_graph_with_its_session(trained):
  graph, running, _ = trained
  before = graph.as_graph_def()
  model = bnexport.load(graph, outputs=["y"], session=running)
  np.testing.assert_allclose(answer(model, [2.0]), [11.0])
  assert "never" not in model.values and "v" in model.values
  assert graph.as_graph_def() == before


def test_load_saved_model(trained, tmp_path):
  graph, running, _ = trained
  path = str(tmp_path / "saved")
  with graph.as_default():
    running.run(tf1.global_variables_initializer())
    tf1.saved_model.simple_save(
      running,
      path,
      {"in": graph.get_tensor_by_name("x:0")},
      {"out": graph.get_tensor_by_name("y:0")},
    )
  for source in (path, os.path.join(path, "saved_model.pb")):
    model = bnexport.load(source)
    assert model.outputs == (TensorRef("y"),)
    np.testing.assert_allclose(answer(model, [2.0]), [11.0])


@pytest.mark.parametrize(
  "source, word",
  [
    ("nothing.pb", "no such file"),
    (3, "holds no graph"),
    (".", "saved_model"),
  ],
)
def test_load_refuses(folder, source, word):
  with pytest.raises(bnexport.SourceError) as raised:
    bnexport.load(source, outputs=["y"])
  assert str(raised.value).startswith("cannot ")
  assert word in str(raised.value)


def test_load_offers_the_nearest_name():
  with pytest.raises(bnexport.SourceError) as raised:
    bnexport.load(net("x = Placeholder() logits = Relu(x)"), outputs=["logit"])
  assert "did you mean 'logits'?" in str(raised.value)


# apply, save, check, compare.


def test_apply_leaves_the_model_alone(trained):
  graph, running, prefix = trained
  model = bnexport.load(prefix, outputs=["y"])
  before = model.graph.to_graph_def()
  made = bnexport.apply(
    model, "read_variables", "freeze_variables strip_unused_nodes"
  )
  assert model.graph.to_graph_def() == before
  assert model.history == [] and made.history
  assert made.graph.op("v") == "Const" and model.graph.op("v") == "VariableV2"


def test_apply_takes_transforms_and_texts(folder):
  model = bnexport.load("net.pb", outputs=["y"])
  texts = bnexport.apply(model, "remove_nodes(op=Identity)")
  objects = bnexport.apply(model, RemoveNodes(op=("Identity",)))
  assert texts.graph.to_graph_def() == objects.graph.to_graph_def()
  assert "i" not in texts.graph and "i" in model.graph


def test_apply_needs_outputs(folder):
  with pytest.raises(bnexport.SourceError) as raised:
    bnexport.apply(bnexport.load("net.pb"), "strip_unused_nodes")
  assert "pass outputs=" in str(raised.value)
  with pytest.raises(bnexport.TransformError):
    bnexport.apply(bnexport.load("net.pb", outputs=["y"]), "strip_unusd_nodes")


def test_save(folder):
  model = bnexport.load("net.pb", outputs=["y"])
  bnexport.save(model, "a.pb")
  bnexport.save(model, folder / "a.pbtxt", as_text=True)
  for name in ("a.pb", "a.pbtxt"):
    again = bnexport.load(name, outputs=["y"])
    assert again.graph.to_graph_def() == model.graph.to_graph_def()
  assert sorted(os.listdir(str(folder))) == ["a.pb", "a.pbtxt", "net.pb"]


def test_save_refuses_to_lose_files(folder):
  model = bnexport.load("net.pb", outputs=["y"])
  (folder / "a.pb").write_bytes(b"mine")
  for path, overwrite in (("a.pb", False), ("net.pb", True), (".", True)):
    with pytest.raises(bnexport.SourceError):
      bnexport.save(model, path, overwrite=overwrite)
  assert (folder / "a.pb").read_bytes() == b"mine"
  bnexport.save(model, "a.pb", overwrite=True)
  assert (folder / "a.pb").read_bytes() != b"mine"


def test_check_names_the_files_and_leaves_the_model_alone(tmp_path):
  named = write(checks.BY_CODE["BN101"].bad, tmp_path)
  model = bnexport.load(
    named.get("graph_def") or named["checkpoint"],
    named.get("checkpoint"),
    outputs=named["outputs"],
  )
  before = model.graph.to_graph_def()
  found = bnexport.check(model)
  assert [finding.code for finding in found] == ["BN101"]
  assert str(tmp_path) in found[0].fix.command()
  assert model.graph.to_graph_def() == before
  proto = bnexport.load(before, outputs=named["outputs"])
  assert "--graph_def=GRAPH.pb" in bnexport.check(proto)[0].fix.command()


def test_check_of_the_good_example_finds_nothing(tmp_path):
  named = write(checks.BY_CODE["BN101"].good, tmp_path)
  model = bnexport.load(
    named.get("graph_def") or named["checkpoint"],
    named.get("checkpoint"),
    outputs=named["outputs"],
  )
  assert bnexport.check(model) == []


def test_compare_tells_the_difference(folder):
  model = bnexport.load("net.pb", outputs=["y"])
  other = bnexport.load(net(NET.replace("2 3", "2 4")), outputs=["y"])
  feeds = {"x": np.float32([[1, 1], [5, 7]])}
  assert bnexport.compare(model, model, feeds).holds
  found = bnexport.compare(model, other, feeds)
  assert not found.holds
  assert [(d.output, d.largest) for d in found.differences] == [("y", 7.0)]


def test_compare_runs_models_with_variables(trained):
  graph, running, prefix = trained
  model = bnexport.load(prefix, outputs=["y"])
  frozen = bnexport.apply(
    model, "strip_unused_nodes read_variables freeze_variables"
  )
  assert bnexport.compare(frozen, model).holds
  in_session = bnexport.load(graph, outputs=["y"], session=running)
  assert bnexport.compare(in_session, frozen).holds


@pytest.mark.parametrize(
  "other, outputs",
  [
    ("z = Placeholder() {shape=[?,2]}   y = Neg(z)", ["y"]),
    (NET, ["y", "i"]),
    (
      "x = Placeholder() {shape=[?,2]}   n = Shape(x)"
      "   r = RandomUniform(n)   y = Add(x, r)",
      ["y"],
    ),
  ],
)
def test_compare_never_holds_where_nothing_was_compared(folder, other, outputs):
  model = bnexport.load("net.pb", outputs=["y"])
  other = bnexport.load(net(other), outputs=outputs)
  for pair in ((model, other), (other, model)):
    try:
      found = bnexport.compare(*pair)
    except bnexport.ComparisonError as error:
      assert str(error).startswith("cannot ")
    else:
      assert not found.holds


_STRIPPED = """
import gc, sys
import bnexport
from bnexport.transforms import table

def pages():
  gc.collect()
  with open("/proc/self/statm") as f:
    return int(f.read().split()[1])

model = bnexport.load(sys.argv[1], outputs=["y"])
before = pages()
table.apply_specs(model, "strip_unused_nodes")
assert "w" not in model.graph and "y" in model.graph
sys.exit(0 if before - pages() > (48 << 20) // 4096 else 1)
"""


@pytest.mark.skipif(
  not os.path.exists("/proc/self/statm"), reason="no way to see memory"
)
def test_stripped_weights_leave_memory(tmp_path):
  graph_def = net()
  w = graph_def.node.add(name="w", op="Const")
  w.attr["dtype"].type = w.attr["value"].tensor.dtype = (
    tf1.uint8.as_datatype_enum
  )
  w.attr["value"].tensor.tensor_shape.dim.add().size = 64 << 20
  w.attr["value"].tensor.tensor_content = b"w" * (64 << 20)
  (tmp_path / "net.pb").write_bytes(graph_def.SerializeToString())
  result = run_process("-c", _STRIPPED, str(tmp_path / "net.pb"))
  assert result.status == 0, result.err
