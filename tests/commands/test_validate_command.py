# SPDX-License-Identifier: Apache-2.0
"""The validate command: what it proves, finds, says and refuses."""

import json
import os
import re

import numpy as np
import pytest
from judges.commands import assert_refused, contents, copy_of, on_one_line
from judges.commands import run as run_command
from judges.exporting import export

from bnexport import text
from bnexport.errors import ComparisonError
from bnexport.graph import graph, ops
from bnexport.proof import trust
from bnexport.sources.files import read_proto
from bnexport.tf1 import session, tf1

NET = """
x = Placeholder() {shape=[?,2,2,3]}
gamma = Const() {value=<float [3] 1.5 0.5 2>}
beta = Const() {value=<float [3] 0.1 0.2 0.3>}
mean = Const() {value=<float [3] 0.5 -0.25 0.125>}
variance = Const() {value=<float [3] 1.25 0.75 2>}
scale = Const() {value=<float [] 3>}
net/scaled = Mul(x, scale)
net/norm = FusedBatchNorm(net/scaled, gamma, beta, mean, variance)
           {is_training=false}
net/relu = Relu(net/norm)
axes = Const() {value=<int32 [2] 1 2>}
logits = Mean(net/relu, axes)
"""
CENTRED = """
x = Placeholder() {shape=[?,3]}
axis = Const() {value=<int32 [1] 0>}
mean = Mean(x, axis) {keep_dims=true}
y = Sub(x, mean)
"""
NOISY = """
x = Placeholder() {shape=[?,3]}
shape = Shape(x)
noise = RandomStandardNormal(shape) {dtype=float}
y = Add(x, noise)
"""


def run(capsys, *arguments):
  return run_command(capsys, *arguments, command="validate")


@pytest.fixture
def write(tmp_path):
  """Writes a graph's text; returns the path."""

  def to_file(source, name="graph.pb"):
    path = str(tmp_path / name)
    with open(path, "wb") as f:
      f.write(text.loads(source).SerializeToString())
    return path

  return to_file


@pytest.fixture
def net(write):
  return write(NET, "net.pb")


@pytest.fixture
def case(cases):
  return cases("layers_fused_literal")


@pytest.fixture
def frozen(case, tmp_path):
  """A right export of the case: the path of its file."""
  path = str(tmp_path / "frozen.pb")
  with open(path, "wb") as f:
    f.write(export(case).to_graph_def().SerializeToString())
  return path


def save(path, **arrays):
  np.savez(str(path), **arrays)
  return str(path)


def data(rows, mean=(0.5, -0.25, 0.125), variance=(1.25, 0.75, 2)):
  """Rows for NET whose scaled values have these statistics."""
  values = np.random.RandomState(3).randn(rows, 2, 2, 3)
  return ((values * np.sqrt(variance) + mean) / 3).astype(np.float32)


# Against a graph.


def test_same_graph_holds(capsys, net):
  result = run(capsys, "--graph=" + net, "--reference=" + net)
  assert result.status == 0, result
  assert result.out.startswith("PROVEN: ")
  assert "logits: largest difference 0" in result.out
  assert "one row alone answers as within its batch" in result.out
  assert "a second run answers the same" in result.out
  assert "batch norms: 1\n" in result.out
  assert "logits (an end of it; --output_node names others)" in result.out


def test_named_output_is_no_guess(capsys, net):
  result = run(capsys, "--graph=" + net, "--output_node=net/relu:0")
  assert result.status == 0, result
  assert "net/relu\n" in result.out
  assert "an end" not in result.out


def test_text_graph(capsys, net, tmp_path):
  path = str(tmp_path / "net.pbtxt")
  with open(path, "w") as f:
    f.write(str(read_proto(net, tf1.GraphDef, "the graph")))
  assert run(capsys, "--graph=" + net, "--reference=" + path).status == 0


def test_first_tensor_that_differs_is_named(capsys, net, write):
  other = write(NET.replace("[] 3>", "[] 3.5>"))
  result = run(capsys, "--graph=" + other, "--reference=" + net)
  assert result.status == 2
  assert "DIFFERS" in result.out
  assert "first tensor that differs is 'net/scaled' (Mul)" in result.out
  assert "it has float32 [4, 2, 2, 3] from -" in result.out
  assert "in the reference" in on_one_line(result.out)


def test_norm_that_differs_is_named(capsys, net, write):
  other = write(NET.replace("1.25 0.75 2>", "1.25 0.75 4>"))
  result = run(capsys, "--graph=" + other, "--reference=" + net)
  assert result.status == 2
  assert (
    "'net/norm' (FusedBatchNorm, norm 'net/norm' with stored statistics)"
    in on_one_line(result.out)
  )


def test_rounding_is_no_difference(capsys, net, write):
  other = write(NET.replace("[] 3>", "[] 3.000001>"))
  result = run(capsys, "--graph=" + other, "--reference=" + net)
  assert result.status == 0, result
  assert "largest difference 0," not in result.out
  assert "first tensor" not in result.out


def test_rounding_of_coarser_numbers_is_no_difference(capsys, write):
  one = write(
    """
  x = Placeholder() {shape=[?,3]}
  half = Cast(x) {DstT=half}
  y = Cast(half) {DstT=float}
  """,
    "one.pb",
  )
  exact = write("x = Placeholder() {shape=[?,3]}\ny = Identity(x)")
  arguments = ["--graph=" + one, "--output_node=y"]
  result = run(capsys, *arguments, "--reference=" + exact)
  assert result.status == 0, result


def test_other_shape_differs(capsys, write):
  one = write("x = Placeholder() {shape=[?,3]}\ny = Relu(x)", "one.pb")
  other = write(
    "x = Placeholder() {shape=[?,3]}\naxis = Const() {value=<int32 [] 1>}\n"
    "y = ExpandDims(x, axis)"
  )
  result = run(
    capsys, "--graph=" + one, "--reference=" + other, "--output_node=y"
  )
  assert result.status == 2
  assert "'y' (Relu), by inf" in result.out
  assert "float32 [4, 3] from" in result.out
  assert "float32 [4, 1, 3] from" in result.out
  result = run(
    capsys,
    "--graph=" + one,
    "--reference=" + other,
    "--output_node=y",
    "--format=json",
  )
  said = json.loads(result.out, parse_constant=pytest.fail)
  assert said["first_difference"]["largest_difference"] == "inf"


def test_difference_that_is_made_good_is_not_named(capsys, write):
  """As where a norm is folded into the layer before it."""
  source = """
  x = Placeholder() {shape=[?,3]}
  a = Const() {value=<float [] %s>}
  b = Const() {value=<float [] %s>}
  c = Const() {value=<float [] %s>}
  layer = Mul(x, a)
  norm = Mul(layer, b)
  y = Mul(norm, c)
  """
  one = write(source % (6, 1, 5), "one.pb")
  other = write(source % (3, 2, 4))
  result = run(capsys, "--graph=" + one, "--reference=" + other)
  assert result.status == 2
  assert "first tensor that differs is 'y' (Mul)" in result.out


def test_json(capsys, net, write):
  other = write(NET.replace("[] 3>", "[] 3.5>"))
  result = run(
    capsys, "--graph=" + other, "--reference=" + net, "--format=json"
  )
  said = json.loads(result.out)
  assert result.status == 2
  assert said["holds"] is False
  assert said["outputs"] == ["logits"] and said["outputs_are_guessed"]
  assert said["first_difference"]["name"] == "net/scaled"
  assert said["proof"]["one_row_answers_alone"] is True
  assert said["batch_norms"][0]["statistics"] == "stored"
  assert said["top_1"][0]["rows"] == 4
  assert said["statistics_of_data"] is None


def test_nothing_is_written(capsys, net, tmp_path):
  before = contents(tmp_path)
  run(capsys, "--graph=" + net, "--reference=" + net)
  assert contents(tmp_path) == before


# Against a checkpoint and model code.


def test_naive_graph_names_its_norm(capsys, case, prefix):
  result = run(
    capsys,
    "--graph=" + case.naive,
    "--reference=" + prefix,
    "--output_node=" + case.output,
  )
  assert result.status == 2
  assert "with batch statistics)" in result.out
  assert "compared with the training graph run by TensorFlow" in result.out
  assert "one row alone answers DIFFERENTLY" in result.out


def test_repaired_graph_holds(capsys, case, prefix, tmp_path):
  fixed = str(tmp_path / "fixed.pb")
  done = run_command(
    capsys,
    "--graph_def=" + case.naive,
    "--checkpoint=" + prefix,
    "--output_node=" + case.output,
    "--output_graph=" + fixed,
    command="repair",
  )
  assert done.status == 0, done
  result = run(
    capsys,
    "--graph=" + fixed,
    "--reference=" + prefix + ".meta",
    "--output_node=" + case.output,
  )
  assert result.status == 0, result
  assert result.out.startswith("PROVEN: ")


def test_checkpoint_of_a_directory(capsys, case, frozen, prefix):
  folder = os.path.dirname(prefix)
  with open(os.path.join(folder, "checkpoint"), "w") as f:
    f.write('model_checkpoint_path: "model.ckpt"\n')
  result = run(capsys, "--graph=" + frozen, "--reference=" + folder)
  assert result.status == 0, result


def test_other_checkpoint_does_not_hold(capsys, frozen, prefix, write):
  """The weights are not those of the checkpoint."""
  graph_def = read_proto(frozen, tf1.GraphDef, "the graph")
  for node in graph_def.node:
    if node.op != "Const":
      continue
    tensor = node.attr["value"].tensor
    if len(tensor.tensor_shape.dim) == 4:
      changed = tf1.make_ndarray(tensor) * np.float32(1.25)
      tensor.CopyFrom(tf1.make_tensor_proto(changed))
      layer = node.name.rpartition("/")[0]
      break
  with open(frozen, "wb") as f:
    f.write(graph_def.SerializeToString())
  result = run(capsys, "--graph=" + frozen, "--reference=" + prefix)
  assert result.status == 2
  assert "first tensor that differs is '%s/" % layer in result.out


def test_phase_that_is_left_open_is_fed(capsys, cases, tmp_path):
  case = cases("layers_fused_phase")
  prefix = copy_of(case, tmp_path)
  result = run(
    capsys,
    "--graph=" + case.naive,
    "--reference=" + prefix,
    "--output_node=" + case.output,
  )
  assert result.status == 0, result
  assert "'%s' was fed False; --set=" % case.switch in result.out


def test_cut_input(capsys, cases, tmp_path):
  """What was a queue's output is a placeholder in the graph."""
  import zoo

  name = next(n for n in zoo.names() if cases(n).cut_input)
  case = cases(name)
  path = str(tmp_path / "frozen.pb")
  with open(path, "wb") as f:
    f.write(export(case).to_graph_def().SerializeToString())
  result = run(
    capsys,
    "--graph=" + path,
    "--reference=" + case.prefix,
    "--output_node=" + case.output,
    *["--set=%s=%s" % item for item in case.set.items()],
  )
  assert result.status == 0, result
  assert "compared with the training graph" in result.out


MODEL = """
import tensorflow.compat.v1 as tf

def build(x, is_training, factor=2.0):
  tf.disable_resource_variables()
  w = tf.get_variable("w", [3, 2])
  return tf.matmul(x * factor, w, name="y")
"""


@pytest.fixture
def code(tmp_path):
  """Model code, its checkpoint and a graph of it; a function for flags."""
  (tmp_path / "net.py").write_text(MODEL)
  made = {}
  exec(MODEL, made)
  with tf1.Graph().as_default() as built:
    made["build"](tf1.placeholder(tf1.float32, [None, 3], "x"), False)
    with session(built) as running:
      running.run(tf1.global_variables_initializer())
      tf1.train.Saver().save(running, str(tmp_path / "model.ckpt"))
      frozen = tf1.graph_util.convert_variables_to_constants(
        running, built.as_graph_def(), ["y"]
      )
  (tmp_path / "frozen.pb").write_bytes(frozen.SerializeToString())
  return [
    "--graph=%s" % (tmp_path / "frozen.pb"),
    "--model=%s:build" % (tmp_path / "net.py"),
    "--checkpoint=%s" % (tmp_path / "model.ckpt"),
    "--input=x:float32:?,3",
  ]


def test_model_code(capsys, code):
  result = run(capsys, *code)
  assert result.status == 0, result
  assert "compared with the rebuilt model in its session" in result.out
  assert "top-1 of y: the same in 4 of 4 rows (100%)" in result.out


def test_other_arguments_of_the_model(capsys, code):
  result = run(capsys, '--model_kwargs={"factor": 2.5}', *code)
  assert result.status == 2
  assert "first tensor that differs is 'mul' (Mul)" in result.out


# SavedModels.


@pytest.fixture
def saved_model(tmp_path):
  path = str(tmp_path / "saved")
  builder = tf1.saved_model.builder.SavedModelBuilder(path)
  with tf1.Graph().as_default() as built:
    x = tf1.placeholder(tf1.float32, [None, 3], "x")
    w = tf1.get_variable("w", [3, 2], use_resource=True)
    y = tf1.matmul(x, w, name="y")
    with session(built) as running:
      running.run(tf1.global_variables_initializer())
      builder.add_meta_graph_and_variables(
        running,
        [tf1.saved_model.tag_constants.SERVING],
        {
          "serving_default": tf1.saved_model.predict_signature_def(
            {"image": x}, {"score": y}
          )
        },
      )
      frozen = tf1.graph_util.convert_variables_to_constants(
        running, built.as_graph_def(), ["y"]
      )
      builder.save()
  (tmp_path / "frozen.pb").write_bytes(frozen.SerializeToString())
  return path


@pytest.mark.parametrize("swapped", [False, True])
def test_saved_model(capsys, saved_model, tmp_path, swapped):
  """What saves and restores its variables is no part of what is run."""
  paths = [saved_model, str(tmp_path / "frozen.pb")]
  one, other = reversed(paths) if swapped else paths
  result = run(
    capsys, "--graph=" + one, "--reference=" + other, "--output_node=y"
  )
  assert result.status == 0, result
  assert "y: largest difference" in result.out


def test_signature_names_the_output(capsys, saved_model):
  result = run(capsys, "--graph=" + saved_model)
  assert result.status == 0, result
  assert "output  y\n" in result.out


# Without a reference.


def test_dependence_on_the_batch(capsys, write):
  result = run(capsys, "--graph=" + write(CENTRED))
  assert result.status == 2
  assert "one row alone answers DIFFERENTLY than within" in result.out
  assert "compared with nothing" in result.out


def test_dependence_that_the_reference_has_too(capsys, write):
  path = write(CENTRED)
  result = run(capsys, "--graph=" + path, "--reference=" + path)
  assert result.status == 0
  assert "in the model itself too" in result.out


def test_dependence_that_is_meant(capsys, write):
  result = run(
    capsys, "--graph=" + write(CENTRED), "--keep_batch_statistics=mean"
  )
  assert result.status == 0
  assert "norms keep their batch statistics" in result.out


def test_answers_that_change_from_run_to_run(capsys, write):
  result = run(capsys, "--graph=" + write(NOISY))
  assert result.status == 2
  assert "a second run answers DIFFERENTLY" in result.out


def test_graph_that_is_not_imported(capsys, write):
  source = "x = Placeholder() {shape=[?,3]}\ny = Relu(x)\nz = Relu(y)"
  path = write(source.replace("Relu(y)", "Softmax(y, y)"))
  result = run(capsys, "--graph=" + path, "--output_node=y")
  assert result.status == 2
  assert "DIFFERS" in result.out
  assert "TensorFlow does not import it: " in result.out
  said = json.loads(
    run(capsys, "--graph=" + path, "--format=json", "--output_node=y").out
  )
  assert said["not_imported"] and said["holds"] is False


def test_dangling_input(capsys, write):
  result = run(capsys, "--graph=" + write("y = Relu(x)"))
  assert result.status == 2
  assert "does not import it" in result.out


def test_samples(capsys, net):
  result = run(capsys, "--graph=" + net, "--samples=9")
  assert "fed: x [9, 2, 2, 3]" in result.out


# Classifiers.


def test_top_1(capsys, write, tmp_path):
  """The third class is pushed up: some rows change their mind."""
  source = (
    "x = Placeholder() {shape=[?,3]}\n"
    "b = Const() {value=<float [3] 0 0 0>}\ny = Add(x, b)"
  )
  one, other = write(source, "one.pb"), write(source.replace("0>", "1>"))
  x = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]] * [[2], [0.5], [1], [0.5]]
  feeds = save(tmp_path / "x.npz", x=x)
  result = run(
    capsys, "--graph=" + one, "--reference=" + other, "--feeds=" + feeds
  )
  assert result.status == 2
  assert "top-1 of y: the same in 2 of 4 rows (50%)" in result.out


def test_ties_agree(capsys, write, tmp_path):
  source = (
    "x = Placeholder() {shape=[?,2]}\n"
    "b = Const() {value=<float [2] 0 0>}\ny = Add(x, b)"
  )
  one, other = write(source, "one.pb"), write(source.replace("0>", "1e-6>"))
  feeds = save(tmp_path / "x.npz", x=np.ones([4, 2], np.float32))
  result = run(
    capsys, "--graph=" + one, "--reference=" + other, "--feeds=" + feeds
  )
  assert result.status == 0, result
  assert "the same in 4 of 4 rows" in result.out


def test_difference_in_the_last_rows_is_found(capsys, write, tmp_path):
  source = "x = Placeholder() {shape=[?,2]}\ny = Relu(x)"
  one, other = write(source, "one.pb"), write(source.replace("Relu", "Relu6"))
  x = np.ones([150, 2], np.float32)
  x[149] = 7
  feeds = save(tmp_path / "x.npz", x=x)
  result = run(
    capsys, "--graph=" + one, "--reference=" + other, "--feeds=" + feeds
  )
  assert result.status == 2
  (limit,) = re.findall("largest difference 1, limit (.*) <-", result.out)
  assert 1e-6 < float(limit) < 1e-4
  assert "'y' (Relu), by 1" in result.out
  assert "top-1 of y: the same in 150 of 150" in result.out


# Data.


def test_statistics_of_the_data(capsys, net, tmp_path):
  feeds = save(tmp_path / "x.npz", x=data(100))
  result = run(capsys, "--graph=" + net, "--feeds=" + feeds)
  assert result.status == 0, result
  assert "stored statistics of 1 norms are near the data's" in result.out
  assert "DOUBTFUL" not in result.out


@pytest.mark.parametrize(
  "other",
  [
    dict(mean=(2.5, 1.5, 3)),
    dict(variance=(12, 7, 20)),
    dict(variance=(0.1, 0.05, 0.1)),
    dict(mean=(0.5, -0.25, 20)),  # one channel
  ],
)
def test_statistics_of_other_data(capsys, net, tmp_path, other):
  feeds = save(tmp_path / "x.npz", x=data(100, **other))
  result = run(capsys, "--graph=" + net, "--feeds=" + feeds)
  assert result.status == 0, "a doubt is no failure"
  assert "DOUBTFUL: stored statistics of 1 of 1 norms" in result.out
  assert "norm 'net/norm': means" in result.out


def test_statistics_in_numbers(capsys, net, tmp_path):
  x = data(200, mean=(0.5, -0.25, 0.125 + np.sqrt(2) * 6))
  feeds = save(tmp_path / "x.npz", x=x)
  result = run(capsys, "--graph=" + net, "--feeds=" + feeds, "--format=json")
  said = json.loads(result.out)["statistics_of_data"][0]
  assert said["samples"] == 800
  assert said["largest_shift"] == pytest.approx(6, abs=0.1)
  assert said["shift"] < 0.2
  assert said["ratio"] == pytest.approx(1, abs=0.15)
  assert said["is_far"]


def test_few_rows_tell_nothing(capsys, net, tmp_path):
  feeds = save(tmp_path / "x.npz", x=data(8))
  result = run(capsys, "--graph=" + net, "--feeds=" + feeds)
  assert result.status == 0
  assert "8 rows are fewer than 32" in result.out


def test_no_norm_to_look_at(capsys, write, tmp_path):
  path = write("x = Placeholder() {shape=[?,2,2,3]}\ny = Relu(x)")
  feeds = save(tmp_path / "x.npz", x=data(100))
  result = run(capsys, "--graph=" + path, "--feeds=" + feeds)
  assert result.status == 0
  assert "no norm has stored ones" in result.out


def test_norms_that_are_spelled_out(capsys, cases, tmp_path):
  case = cases("layers_unfused_phase")
  path = str(tmp_path / "frozen.pb")
  exported = export(case, folds=False)
  with open(path, "wb") as f:
    f.write(exported.to_graph_def().SerializeToString())
  x = np.concatenate([case.x] * 8)
  result = run(
    capsys,
    "--graph=" + path,
    "--output_node=" + case.output,
    "--feeds=" + save(tmp_path / "x.npz", **{case.input: x}),
    "--format=json",
  )
  said = json.loads(result.out)["statistics_of_data"]
  # Those that are not folded.
  assert said and {one["norm"] for one in said} <= {
    norm.name for norm in exported.norms
  }
  assert all(np.isfinite(one["shift"]) for one in said)


# Ops that reach out of the graph.

REACHING = {
  "PyFunc": 'y = PyFunc(x) {token="pyfunc_0", Tin=(float), Tout=(float)}',
  "ReadFile": (
    'name = Const() {value=<string [] "/nowhere">}\n'
    "file = ReadFile(name)\ny = Relu(x, ^file)"
  ),
  "WriteFile": (
    'name = Const() {value=<string [] "%s">}\n'
    "file = WriteFile(name, name)\ny = Relu(x, ^file)"
  ),
}


def reaching(op, path="/nowhere"):
  line = REACHING[op]
  return "x = Placeholder() {shape=[?,3]}\n" + (
    line % path if "%s" in line else line
  )


@pytest.mark.parametrize("op", sorted(REACHING))
def test_unsafe_ops_are_not_run(capsys, write, tmp_path, op):
  written = str(tmp_path / "written")
  path = write(reaching(op, written))
  result = run(capsys, "--graph=" + path, "--output_node=y")
  node = "y" if op == "PyFunc" else "file"
  assert_refused(result, "'%s' is a %s" % (node, op), "--allow_unsafe_ops")
  assert not os.path.exists(written)


def test_unsafe_reference_is_not_run(capsys, write, tmp_path):
  one = write("x = Placeholder() {shape=[?,3]}\ny = Relu(x)", "one.pb")
  other = write(reaching("WriteFile", str(tmp_path / "written")))
  result = run(
    capsys, "--graph=" + one, "--reference=" + other, "--output_node=y"
  )
  assert_refused(result, "WriteFile", "--allow_unsafe_ops")
  assert not os.path.exists(str(tmp_path / "written"))


def test_unsafe_ops_that_are_allowed(capsys, write, tmp_path):
  written = str(tmp_path / "written")
  result = run(
    capsys,
    "--graph=" + write(reaching("WriteFile", written)),
    "--output_node=y",
    "--allow_unsafe_ops",
  )
  assert result.status == 0, result
  assert os.path.exists(written)


def test_unsafe_ops_that_no_output_needs(capsys, write, tmp_path):
  source = reaching("WriteFile", str(tmp_path / "written"))
  source += "\nz = Relu6(x)"
  result = run(capsys, "--graph=" + write(source), "--output_node=z")
  assert result.status == 0, result
  assert not os.path.exists(str(tmp_path / "written"))


def test_unsafe_ops_in_functions(capsys, write, tmp_path):
  source = """
  function inner(a float) -> (b float = file:contents:0) {
    name = Const() {value=<string [] "/nowhere">}
    file = ReadFile(name)
  }
  function outer(a float) -> (b float = call:output:0) {
    call = PartitionedCall(a) {Tin=(float), Tout=(float), f=inner{}}
  }
  x = Placeholder() {shape=[?,3]}
  y = PartitionedCall(x) {Tin=(float), Tout=(float), f=outer{}}
  """
  built = graph.Graph(text.loads(source))
  with pytest.raises(ComparisonError, match="'file' is a ReadFile"):
    trust.refuse_unsafe(built, ["y"])
  trust.refuse_unsafe(built, ["x"])
  trust.refuse_unsafe(built, ["y"], is_allowed=True)


@pytest.mark.parametrize(
  "op, what",
  [
    ("PyFunc", ops.PYTHON),
    ("EagerPyFunc", ops.PYTHON),
    ("PyFuncStateless", ops.PYTHON),
    ("ReadFile", ops.FILES),
    ("WriteFile", ops.FILES),
    ("MatchingFiles", ops.FILES),
    ("SaveV2", ops.FILES),
    ("RestoreV2", ops.FILES),
    ("Save", ops.FILES),
    ("MergeV2Checkpoints", ops.FILES),
    ("WholeFileReaderV2", ops.FILES),
    ("ReaderReadV2", ops.FILES),
    ("TFRecordDataset", ops.FILES),
    ("TextLineDataset", ops.FILES),
    ("CacheDatasetV2", ops.FILES),
    ("InitializeTableFromTextFileV2", ops.FILES),
    ("CreateSummaryFileWriter", ops.FILES),
    ("LMDBReader", ops.FILES),
    ("RpcCall", ops.NETWORK),
    ("_Recv", ops.NETWORK),
    ("DataServiceDatasetV2", ops.NETWORK),
    ("Relu", None),
    ("Identity", None),
    ("ResizeBilinear", None),
    ("SaveSlicesOfCake", None),
    ("PrintV2", None),
    ("StatefulPartitionedCall", None),
    ("TensorArrayReadV3", None),
    ("ReadVariableOp", None),
    ("BatchDataset", None),
  ],
)
def test_what_ops_reach(op, what):
  assert ops.reaches(tf1.NodeDef(name="n", op=op)) == what


def test_addresses_in_attributes():
  for value, what in [
    (b"stderr", None),
    (b"file:///tmp/x", ops.FILES),
    (b"grpc://h:1", ops.NETWORK),
  ]:
    node = tf1.NodeDef(name="n", op="PrintV2")
    node.attr["output_stream"].s = value
    assert ops.reaches(node) == what


# What is refused.


def test_refused_flags(capsys, net, tmp_path):
  assert_refused(run(capsys), "--graph")
  for words, arguments in [
    (["two references"], ["--reference=" + net, "--model=a:b"]),
    (["--model=a:b", "--checkpoint"], ["--model=a:b"]),
    (["--checkpoint", "--reference=c"], ["--checkpoint=c"]),
    (["--samples and --feeds"], ["--samples=3", "--feeds=x.npz"]),
  ]:
    assert_refused(run(capsys, "--graph=" + net, *arguments), *words)


def test_refused_files(capsys, net, tmp_path, prefix):
  nowhere = str(tmp_path / "nowhere.pb")
  garbage = tmp_path / "garbage.pb"
  garbage.write_bytes(b"\xff garbage")
  empty = tmp_path / "empty.pb"
  empty.write_bytes(b"")
  folder = tmp_path / "folder"
  folder.mkdir()
  for path in (nowhere, garbage, empty, folder):
    assert_refused(run(capsys, "--graph=%s" % path), str(path))
    result = run(capsys, "--graph=" + net, "--reference=%s" % path)
    assert_refused(result, str(path))
  assert_refused(run(capsys, "--graph=" + net, "--feeds=" + nowhere), "nowhere")
  for path in (prefix, prefix + ".meta"):
    assert_refused(run(capsys, "--graph=" + path), "training graph")


def test_refused_checkpoint(capsys, net, prefix):
  os.remove(prefix + ".meta")
  result = run(capsys, "--graph=" + net, "--reference=" + prefix)
  assert_refused(result, "model.ckpt.meta")


def test_unknown_outputs(capsys, net, write, prefix):
  result = run(capsys, "--graph=" + net, "--output_node=logit")
  assert_refused(result, "--graph 'logit'", "did you mean 'logits'?")
  other = write(NET.replace("logits", "scores"))
  result = run(capsys, "--graph=" + net, "--reference=" + other)
  assert_refused(result, "--reference 'logits'")
  assert_refused(
    run(capsys, "--graph=" + net, "--reference=" + prefix), "'logits'"
  )


def test_variables_without_values(capsys, write):
  path = write("w = VariableV2() {shape=[3]}\ny = Relu(w)")
  assert_refused(
    run(capsys, "--graph=" + path, "--output_node=y"), "'w'", "freeze"
  )


def test_feeds_that_do_not_fit(capsys, net, tmp_path):
  for arrays, word in [
    (dict(z=data(4)), "'z' is no input"),
    (dict(x=data(4)[:, :1]), "shape"),
    (dict(x=data(0)), "no rows"),
  ]:
    feeds = save(tmp_path / "x.npz", **arrays)
    result = run(capsys, "--graph=" + net, "--feeds=" + feeds)
    assert_refused(result, word)


def test_input_that_is_not_made_up(capsys, write):
  path = write("""
  x = Placeholder() {shape=[?,?]}
  shape = Const() {value=<int32 [2] 7 11>}
  y = Reshape(x, shape)
  """)
  assert_refused(
    run(capsys, "--graph=" + path, "--output_node=y"), "made-up", "--feeds"
  )


def test_reference_with_other_inputs(capsys, net, write):
  other = write(NET.replace("x", "image"))
  result = run(capsys, "--graph=" + net, "--reference=" + other)
  assert_refused(result, "cannot compare with", "image")


# Ends that nobody named.

HEADS = """
x = Placeholder() {shape=[?,3]}
w = Const() {value=<float [3,2] 1 2 3 4 5 6>}
v = Const() {value=<float [3,1] 1 2 %s>}
scores = MatMul(x, w)
label = Softmax(scores)
years = MatMul(x, v)
"""


def test_each_head_is_compared(capsys, write):
  right, wrong = write(HEADS % 3, "right.pb"), write(HEADS % 3.1, "wrong.pb")
  result = run(capsys, "--graph=" + right, "--reference=" + right)
  assert result.status == 0, result
  assert "label: largest difference 0" in result.out
  assert "years: largest difference 0" in result.out
  result = run(capsys, "--graph=" + wrong, "--reference=" + right)
  assert result.status == 2
  assert "first tensor that differs is 'years' (MatMul)" in result.out


def test_an_end_that_the_reference_lacks_is_not_proven(capsys, write):
  right = write(HEADS % 3, "right.pb")
  half = write(HEADS.replace("years =", "other =") % 3, "half.pb")
  result = run(capsys, "--graph=" + right, "--reference=" + half)
  assert result.status == 2
  assert result.out.startswith("NOT PROVEN: ")
  assert "does not have 'years'" in result.out
  result = run(
    capsys, "--graph=" + right, "--reference=" + half, "--output_node=label"
  )
  assert result.status == 0, result


def test_a_reference_with_no_such_end_is_refused(capsys, write):
  right = write(HEADS % 3, "right.pb")
  other = write("x = Placeholder() {shape=[?,3]}\ny = Relu(x)", "other.pb")
  result = run(capsys, "--graph=" + right, "--reference=" + other)
  assert_refused(result, "find output of --reference '")


def test_all_outputs_of_an_op_are_ends(capsys, write):
  source = (
    "x = Placeholder() {shape=[?,3]}\nk = Const() {value=<int32 %d>}\n"
    "best = TopKV2(x, k)"
  )
  one, other = write(source % 2, "one.pb"), write(source % 1, "other.pb")
  result = run(capsys, "--graph=" + one, "--reference=" + one)
  assert result.status == 0, result
  assert "best:1: largest difference 0" in result.out
  assert run(capsys, "--graph=" + one, "--reference=" + other).status == 2


def test_what_lies_behind_the_likely_output_is_compared(capsys, write):
  """A mean over time may look as if it were a statistic, not an answer."""
  source = HEADS % 3 + "\naxis = Const() {value=<int32 [1] 0>}\n"
  right = write(source + "last = Mean(years, axis)", "right.pb")
  wrong = write(source + "last = Sum(years, axis)", "wrong.pb")
  assert run(capsys, "--graph=" + wrong, "--reference=" + right).status == 2


def test_what_depends_on_no_input_is_no_end(capsys, write):
  source = HEADS % 3 + "\nversion = Const() {value=<float %d>}"
  one, other = write(source % 1, "one.pb"), write(source % 2, "other.pb")
  result = run(capsys, "--graph=" + one, "--reference=" + other)
  assert result.status == 0, result


def test_statistics_of_a_last_norm_are_no_ends(capsys, write):
  source = NET[: NET.index("net/relu")]
  path = write(source, "norm.pb")
  result = run(capsys, "--graph=" + path, "--reference=" + path)
  assert result.status == 0, result
  assert "net/norm: largest" in result.out and "net/norm:1" not in result.out


def test_a_graph_whose_nodes_lack_attributes(capsys, tmp_path):
  graph = text.loads("x = Placeholder() {shape=[?,3]}\ny = Relu(x)")
  del graph.node[0].attr["dtype"]
  path = tmp_path / "graph.pb"
  path.write_bytes(graph.SerializeToString())
  result = run(capsys, f"--graph={path}")
  assert result.status == 2, result
  assert "DIFFERS" in result.out and "lacks attribute 'dtype'" in result.out
