# SPDX-License-Identifier: Apache-2.0
"""What inspect says of a graph: ends, norms, counts, text."""

import json

import numpy as np
import pytest

from bnexport.batchnorm import norms
from bnexport.batchnorm.health import NEVER_UPDATED, NOT_FINITE, OK
from bnexport.graph import Graph
from bnexport.graph.nodes import Signatures
from bnexport.model.checkpoint import Checkpoint, Values
from bnexport.model.request import Request
from bnexport.report import examination, terminal
from bnexport.report.overview import kind_of, overview
from bnexport.sources import files
from bnexport.sources.files import read_proto
from bnexport.tf1 import session, tf1

# Norm layers of the models' code, each tower's and each call's counted, and
# where their statistics come from.
_NORMS = {
  "contrib_batch_weights": (2, {"batch"}),
  "contrib_fused_literal": (2, {"batch"}),
  "contrib_neither_unfused_phase": (3, {"switched"}),
  "contrib_renorm_phase": (3, {"switched"}),
  "contrib_zero_debias_phase": (3, {"switched"}),
  "dropout_in_rnn": (1, {"switched"}),
  "ema_cond_pointnet": (2, {"switched"}),
  "flow_case": (2, {"switched"}),
  "flow_data_cond_norm": (2, {"batch"}),
  "flow_function_phase": (2, {"switched"}),
  "flow_if_fused": (2, {"switched"}),
  "flow_network_cond": (2, {"switched"}),
  "flow_network_cond_v2": (2, {"switched"}),
  "flow_switch_case": (2, {"switched"}),
  "formula_global_legacy_op": (2, {"batch"}),
  "formula_power": (3, {"batch"}),
  "formula_sums": (2, {"batch"}),
  "hand_arithmetic": (2, {"switched"}),
  "hand_assign_sub": (3, {"batch"}),
  "hand_where_select": (2, {"switched"}),
  "keras_placeholder": (2, {"switched"}),
  "keras_training_true": (2, {"batch"}),
  "layers_fused_phase": (3, {"switched"}),
  "layers_partitioned_phase": (1, {"switched"}),
  "layers_renorm_literal": (3, {"batch"}),
  "layers_shared_twice": (2, {"switched"}),
  "layers_unfused_literal": (3, {"batch"}),
  "layers_virtual_batch": (2, {"batch"}),
  "loop_while_phase": (2, {"switched"}),
  "loop_while_v2_literal": (2, {"batch"}),
  "net_triplet": (6, {"switched"}),
  "phase_float_less": (2, {"switched"}),
  "towers_second_phase": (4, {"switched"}),
}
# Layer, instance and group norms, and what else has no averages to lose.
_NO_NORMS = (
  "keep_group_contrib",
  "keep_group_hand",
  "keep_instance_contrib",
  "keep_instance_fused",
  "keep_instance_hand",
  "keep_layer_contrib",
  "keep_layer_fused",
  "keep_layer_hand",
  "keep_layer_keras",
)


def look(case, **more):
  """The overview of a case's training graph with its checkpoint."""
  meta = read_proto(case.prefix + ".meta", tf1.MetaGraphDef, "the graph")
  graph = Graph(meta.graph_def)
  return overview(
    graph,
    values=Values(Checkpoint(case.prefix), graph),
    signatures=Signatures(meta.meta_info_def.stripped_op_list.op),
    **more,
  )


def look_frozen(case):
  return overview(Graph(read_proto(case.naive, tf1.GraphDef, "it")))


def names(entries):
  return [entry["name"] for entry in entries]


@pytest.mark.parametrize("name", sorted(_NORMS))
def test_norms_of_training_graphs(cases, name):
  count, statistics = _NORMS[name]
  said = look(cases(name))
  norms = said["batch_norms"]
  assert len(norms) == count, names(norms)
  assert {norm["statistics"] for norm in norms} == statistics
  for norm in norms:
    assert norm["health"] == OK
    assert norm["channels"] > 0
    assert 0 < norm["epsilon"] < 0.1
    assert norm["moving_mean"] != norm["moving_variance"]
    assert norm["moving_mean"] in names(said["variables"])


@pytest.mark.parametrize("name", sorted(_NORMS))
def test_ends_of_training_graphs(cases, name):
  case = cases(name)
  said = look(case)
  assert case.output in names(said["outputs"])[:3]
  assert case.input in names(said["inputs"])[:2]
  assert len(said["outputs"]) <= 10
  roles = {entry["name"]: entry["role"] for entry in said["inputs"]}
  assert "objective/labels" not in roles
  if case.switch and case.kind == "placeholder":
    assert roles[case.switch] == "setting"


@pytest.mark.parametrize("name", _NO_NORMS)
def test_norms_of_rows_are_no_batch_norms(cases, name):
  assert look(cases(name))["batch_norms"] == []
  assert look_frozen(cases(name))["batch_norms"] == []


def test_frozen_graph(cases):
  case = cases("layers_fused_phase")
  said = look_frozen(case)
  assert said["kind"] == "frozen graph"
  assert said["variables"] == []
  assert names(said["outputs"])[0] == case.output
  assert {n["statistics"] for n in said["batch_norms"]} == {"switched"}
  assert [n["health"] for n in said["batch_norms"]] == [OK] * 3


def test_health_of_what_is_stored(cases):
  found = look(cases("warn_never_updated"))["batch_norms"]
  assert NEVER_UPDATED in [norm["health"] for norm in found]
  found = look(cases("refuse_nan_mean_phase"))["batch_norms"]
  assert NOT_FINITE in [norm["health"] for norm in found]


@pytest.mark.parametrize(
  "name, first",
  [
    ("input_batch_queue", "batch"),
    ("input_one_shot_iterator", "IteratorGetNext"),
    ("input_staging_area", "StagingArea_get"),
  ],
)
def test_pipelines_are_inputs(cases, name, first):
  assert names(look(cases(name))["inputs"])[0] == first


def test_prepared_data_can_be_fed(cases):
  case = cases("input_iterator_and_scaling")
  assert names(look(case)["inputs"]) == ["IteratorGetNext", case.input]


def test_generator_is_an_end(cases):
  """A GAN's sample is read on: by the discriminator, in place of data."""
  case = cases("net_gan_sampler")
  assert case.output in names(look(case)["outputs"])


def training_graph():
  """A small network with all that training hangs onto it."""
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 8, 8, 3], "images")
    labels = tf1.placeholder(tf1.int32, [None], "labels")
    rate = tf1.placeholder(tf1.float32, [], "learning_rate")
    keep = tf1.placeholder(tf1.float32, name="keep_prob")
    step = tf1.train.get_or_create_global_step()
    h = x
    for i in range(3):
      with tf1.variable_scope("layer%d" % i):
        kernel = tf1.get_variable("kernel", [3, 3, int(h.shape[-1]), 4])
        h = tf1.nn.relu(tf1.nn.conv2d(h, kernel, [1, 1, 1, 1], "SAME"))
        kept = tf1.floor(tf1.random_uniform(tf1.shape(h)) + keep)
        h = tf1.ensure_shape(h / keep * kept, [None, 8, 8, 4])
        tf1.summary.histogram("activations", h)
    h = tf1.reduce_mean(h, [1, 2])
    weights = tf1.get_variable("weights", [4, 5])
    logits = tf1.matmul(h, weights, name="logits")
    tf1.nn.softmax(logits, name="probabilities")
    hits = tf1.equal(tf1.cast(tf1.argmax(logits, 1), tf1.int32), labels)
    accuracy = tf1.reduce_mean(tf1.cast(hits, tf1.float32), name="accuracy")
    loss = tf1.reduce_mean(
      tf1.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits
      )
    ) + 1e-4 * tf1.nn.l2_loss(weights)
    shadow = tf1.train.ExponentialMovingAverage(0.9)
    with tf1.control_dependencies([shadow.apply([loss])]):
      tf1.train.AdamOptimizer(rate).minimize(loss, step)
    tf1.summary.scalar("loss", loss)
    tf1.summary.scalar("accuracy", accuracy)
    tf1.summary.image("images", x)
    tf1.summary.merge_all()
    tf1.train.Saver()
    tf1.global_variables_initializer()
  return Graph(graph.as_graph_def(add_shapes=True))


def test_training_graph_gives_a_short_list():
  said = overview(training_graph())
  assert said["kind"] == "training graph"
  assert sorted(names(said["outputs"])[:2]) == ["logits", "probabilities"]
  assert len(said["outputs"]) <= 4
  assert [(e["name"], e["role"]) for e in said["inputs"]] == [
    ("images", "data"),
    ("keep_prob", "setting"),
  ]
  assert said["batch_norms"] == []
  assert {v["name"] for v in said["variables"] if v["needed"]} == {
    "layer0/kernel",
    "layer1/kernel",
    "layer2/kernel",
    "weights",
  }


def instance_norm(x, data_format="NCHW"):
  """An instance norm by the fused op, for a batch whose size is fixed."""
  batch, channels, height, width = [int(size) for size in x.shape]
  rows = tf1.reshape(x, [1, batch * channels, height, width])
  ones, zeros = tf1.ones([batch * channels]), tf1.zeros([batch * channels])
  empty = tf1.constant([], tf1.float32)
  y = tf1.raw_ops.FusedBatchNorm(
    x=rows,
    scale=ones,
    offset=zeros,
    mean=empty,
    variance=empty,
    data_format=data_format,
    is_training=True,
  )[0]
  return tf1.reshape(y, x.shape, name="y")


def test_instance_norm_of_a_fixed_batch():
  with tf1.Graph().as_default() as graph:
    instance_norm(tf1.placeholder(tf1.float32, [4, 3, 5, 5], "x"))
  said = overview(Graph(graph.as_graph_def(add_shapes=True)))
  assert said["batch_norms"] == []


def test_batch_norm_of_a_reshaped_tensor_is_one():
  """The channels stay the channels: rows and columns may be folded."""
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 6, 3], "x")
    rows = tf1.reshape(x, [1, -1, 6, 3])
    empty = tf1.constant([], tf1.float32)
    tf1.raw_ops.FusedBatchNorm(
      x=rows,
      scale=tf1.ones([3]),
      offset=tf1.zeros([3]),
      mean=empty,
      variance=empty,
      is_training=True,
    )
  norms = overview(Graph(graph.as_graph_def(add_shapes=True)))["batch_norms"]
  assert [norm["statistics"] for norm in norms] == ["batch"]


def test_norms_in_a_row_are_told_apart():
  """x of the second is a difference: the end of the first, not a centring."""
  rng = np.random.RandomState(3)
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 4], "x")
    for i in range(2):
      with tf1.name_scope("norm%d" % i):
        mean, variance, gamma = (
          tf1.constant(rng.uniform(0.5, 1.5, 4).astype(np.float32), name=name)
          for name in ("mean", "variance", "gamma")
        )
        scale = tf1.rsqrt(variance + 1e-3) * gamma
        x = x * scale - mean * scale
  norms = overview(Graph(graph.as_graph_def()))["batch_norms"]
  assert [(n["moving_mean"], n["moving_variance"]) for n in norms] == [
    ("norm0/mean", "norm0/variance"),
    ("norm1/mean", "norm1/variance"),
  ]


def test_huge_constant_is_not_made():
  graph_def = tf1.GraphDef()
  node = graph_def.node.add()
  node.name, node.op = "huge", "Const"
  node.attr["dtype"].type = tf1.float32.as_datatype_enum
  tensor = node.attr["value"].tensor
  tensor.dtype = node.attr["dtype"].type
  tensor.float_val.append(1.0)
  for size in (1 << 20, 1 << 20):
    tensor.tensor_shape.dim.add().size = size
  identity = graph_def.node.add()
  identity.name, identity.op = "y", "Identity"
  identity.input.append("huge")
  identity.attr["T"].type = node.attr["dtype"].type
  said = overview(Graph(graph_def))
  assert said["parameters"] == 1 << 40
  assert names(said["outputs"]) == ["y"]


def test_cycle_leaves_the_rest_to_say():
  graph_def = tf1.GraphDef()
  for name, of in (("a", "b"), ("b", "a"), ("y", "a")):
    node = graph_def.node.add()
    node.name, node.op = name, "Neg"
    node.attr["T"].type = tf1.float32.as_datatype_enum
    node.input.append(of)
  said = overview(Graph(graph_def))
  assert said["nodes"] == 3
  assert names(said["outputs"]) == ["y"]


def test_empty_graph():
  said = overview(Graph(tf1.GraphDef()))
  assert said["kind"] == "empty graph"
  assert "0 nodes" in terminal.overview(said)


def test_known_ends_are_taken(cases):
  said = look(
    cases("layers_fused_phase"), inputs=["training"], outputs=["images"]
  )
  assert names(said["inputs"]) == ["training"]
  assert names(said["outputs"]) == ["images"]


def test_overview_is_plain(cases):
  said = look(cases("loop_while_v2_phase"))
  said.update(file="model.ckpt", size=10)
  assert json.loads(json.dumps(said)) == said
  counts = list(said["ops"].values())
  assert counts == sorted(counts, reverse=True)
  assert said["ops"]["While"] == said["control_flow"]["While"]
  assert said["functions"] > 0


def test_kinds(cases):
  graph = Graph(tf1.GraphDef())
  graph.add("VariableV2", "v")
  assert kind_of(graph) == "graph with variables"


def test_text_is_whole_and_aligned(cases):
  said = look(cases("net_residual_v1"))
  said.update(file="net.meta", size=123456)
  lines = terminal.overview(said).splitlines()
  assert lines[0] == "net.meta: training graph, 123 KB"
  words = set(" ".join(lines).split())
  for part in ("inputs", "outputs", "batch_norms", "variables"):
    assert set(names(said[part])) <= words
  assert set(said["ops"]) <= words
  start = lines.index("batch norms: %d" % len(said["batch_norms"])) + 1
  rows = lines[start : start + len(said["batch_norms"])]
  assert len({row.index("epsilon") for row in rows}) == 1


def test_missing_variables_are_seen(cases):
  case = cases("refuse_trainable_saver")
  said = look(case)
  missing = [v["name"] for v in said["variables"] if not v["in_checkpoint"]]
  assert "bn2/moving_variance" in missing
  assert "NOT IN THE CHECKPOINT" in terminal.overview(said)


def test_files_are_read_in_pieces(cases, monkeypatch):
  path = cases("layers_fused_phase").naive
  with open(path, "rb") as f:
    whole = tf1.GraphDef.FromString(f.read())
  for piece in (1, 7, 1000):
    monkeypatch.setattr(files, "_PIECE", piece)
    assert read_proto(path, tf1.GraphDef, "it") == whole


def test_graph_takes_a_proto_over():
  graph_def = training_graph().to_graph_def()
  name = graph_def.node[0].name
  assert Graph(graph_def).node(name) is not graph_def.node[0]
  taken = Graph(graph_def, copy=False)
  taken.node(name).device = "/cpu:0"
  assert graph_def.node[0].device == "/cpu:0"


def test_session_agrees_that_the_example_runs():
  """The graph the ends were looked for in is one that TensorFlow takes."""
  with tf1.Graph().as_default() as graph:
    graph_def = training_graph().to_graph_def()
    tf1.import_graph_def(graph_def, name="")
    with session(graph) as running:
      running.run("init")
      feeds = {"images:0": np.ones([2, 8, 8, 3]), "keep_prob:0": 1.0}
      assert running.run("probabilities:0", feeds).shape == (2, 5)


def test_norms_are_found_once(cases, monkeypatch):
  """Rules and the overview ask for the same ones; finding them is dear."""
  case, found = cases("contrib_fused_phase"), []
  find_all = norms._Norms.all

  def counted(self):
    found.append(find_all(self))
    return found[-1]

  monkeypatch.setattr(norms._Norms, "all", counted)
  request = Request(
    "meta_graph", case.prefix + ".meta", case.prefix, (case.output,)
  )
  said = examination.look(request).facts()["batch_norms"]
  (once,) = found
  assert [norm["name"] for norm in said] == [norm.name for norm in once]
  assert once


def test_a_graph_that_does_not_open_is_looked_at(tmp_path):
  """Two nodes that differ have one name: no graph can hold both."""
  graph_def = tf1.GraphDef()
  for op in ("Placeholder", "NoOp"):
    graph_def.node.add(name="x", op=op)
  path = tmp_path / "twice.pb"
  path.write_bytes(graph_def.SerializeToString())
  looked = examination.look(Request("graph_def", str(path)))
  assert looked.facts()["kind"] == "broken graph"
  assert "BN304" in [finding.code for finding in looked.findings]
