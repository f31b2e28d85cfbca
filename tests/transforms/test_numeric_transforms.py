# SPDX-License-Identifier: Apache-2.0
"""Weights in fewer values, fewer bits, fewer rows; ranges from a log."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from judges.graph_transform_tool import by_name, old_tool
from judges.transforming import (
  answers,
  checkpoint,
  model_of,
  nodes,
  transformed,
)

from bnexport import text
from bnexport.errors import Error, TransformError
from bnexport.graph import TensorRef
from bnexport.graph.nodes import DEFERRED, constant_value, deferred_attrs
from bnexport.model.checkpoint import Checkpoint, Values
from bnexport.tf1 import session, tf1
from bnexport.transforms import table

RANDOM = np.random.RandomState(5)
WEIGHTS = {
  "mixed": RANDOM.normal(0.1, 1, 3000),
  "positive": RANDOM.uniform(1, 2, 3000),
  "negative": -RANDOM.uniform(5, 6, 3000),
  "wide": RANDOM.normal(0, 1, 3000) * 1e30,
  "tiny": RANDOM.normal(0, 1, 3000) * 1e-30,
  "ends at 0": RANDOM.uniform(0, 1, 3000) * RANDOM.randint(0, 2, 3000),
  "one": [3.0] * 3000,
  "one below 0": [-3.0] * 3000,
  "zeros": [0.0] * 3000,
}
WEIGHTS = {name: np.float32(values) for name, values in WEIGHTS.items()}
MANY = [name for name in WEIGHTS if len(set(WEIGHTS[name].tolist())) > 1]


def graph_of(values, dtype=None):
  """The GraphDef y = Identity(w), w a constant."""
  graph = tf1.Graph()
  with graph.as_default():
    tf1.identity(tf1.constant(values, dtype, name="w"), name="y")
  return graph.as_graph_def()


def value_of(model, name="w"):
  return constant_value(model.graph, TensorRef(name), largest=1 << 20)


# round_weights.


@pytest.mark.parametrize("steps", [1, 2, 5, 256])
@pytest.mark.parametrize("name", WEIGHTS)
def test_rounding_is_within_half_a_bucket(name, steps):
  before = WEIGHTS[name]
  model = transformed(graph_of(before), "round_weights(num_steps=%d)" % steps)
  after = value_of(model)
  width = np.float64(before.max() - before.min()) / steps
  scale = np.abs(before).max()
  assert np.abs(after - before.astype("d")).max() <= width / 2 + 2e-7 * scale
  assert len(np.unique(after)) <= steps
  once = nodes(model)
  table.apply_specs(model, "round_weights(num_steps=%d)" % steps)
  assert nodes(model) == once


def rounded(before, steps):
  """What becomes of weights here, and what became of them."""
  spec = "round_weights(num_steps=%d)" % steps
  after = value_of(transformed(graph_of(before), spec))
  return after, tf1.make_ndarray(by_node(old_tool(graph_of(before), spec), "w"))


@pytest.mark.parametrize("steps", [2, 5, 256])
@pytest.mark.parametrize(
  "name", [name for name in MANY if WEIGHTS[name].max() > 0]
)
def test_rounding_is_the_old_one(name, steps):
  before = WEIGHTS[name]
  after, old = rounded(before, steps)
  # The largest value got a bucket of its own, one more than there are.
  is_last = before == before.max()
  assert (after == old)[~is_last].all()
  assert (after < old)[is_last].all()


@pytest.mark.parametrize("steps", [2, 5, 256])
@pytest.mark.parametrize(
  "name", [name for name in MANY if WEIGHTS[name].max() <= 0]
)
def test_rounding_below_0_is_closer_than_the_old_one(name, steps):
  """The old tool takes 1.2e-38 for the largest value then."""
  before = WEIGHTS[name]
  after, old = rounded(before, steps)
  assert np.abs(old - before).max() > np.abs(after - before).max()


def by_node(graph_def, name):
  (node,) = [node for node in graph_def.node if node.name == name]
  return node.attr["value"].tensor


@pytest.mark.parametrize("name", ["one", "one below 0", "zeros"])
def test_few_values_stay_where_the_old_tool_moved_them(name):
  before = WEIGHTS[name]
  model = transformed(graph_of(before), "round_weights")
  assert (value_of(model) == before).all()
  old = old_tool(graph_of(before), "round_weights")
  assert (tf1.make_ndarray(by_node(old, "w")) != before).all()


@pytest.mark.parametrize(
  "values, dtype",
  [
    (np.arange(15), tf1.float32),
    (np.arange(300), tf1.float64),
    (np.arange(300), tf1.int32),
    (np.zeros((0, 20)), tf1.float32),
  ],
)
@pytest.mark.parametrize(
  "spec", ["round_weights(num_steps=2)", "quantize_weights(minimum_size=16)"]
)
def test_other_constants_stay(values, dtype, spec):
  model = transformed(graph_of(values, dtype), spec)
  assert nodes(model) == nodes(model_of(graph_of(values, dtype)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -3e38])
@pytest.mark.parametrize("spec", ["round_weights", "quantize_weights"])
def test_constants_without_a_range_are_left_and_named(bad, spec):
  values = np.float32([3e38] + [1] * 2000 + [bad])
  model = transformed(graph_of(values), spec)
  assert nodes(model) == nodes(model_of(graph_of(values)))
  assert "left constant 'w' as it is" in model.history[0]


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps(steps):
  spec = "round_weights(num_steps=%d)" % steps
  with pytest.raises(TransformError, match="cannot round weights"):
    transformed(graph_of(WEIGHTS["mixed"]), spec)


@pytest.mark.parametrize("spec", ["round_weights", "quantize_weights"])
def test_deferred_constants(spec):
  values = WEIGHTS["mixed"]
  model = model_of(graph_of(values))
  attrs = deferred_attrs(values.shape, tf1.float32, "key")
  model.graph.become("w", "Const", [], attrs)
  model = dataclasses.replace(model, deferred={"key": lambda: values})
  table.apply_specs(model, spec)
  assert not any(DEFERRED in node.attr for node in model.graph)
  (found,) = answers(model)
  assert (found == answers(transformed(graph_of(values), spec))[0]).all()


# quantize_weights.


@pytest.mark.parametrize("name", WEIGHTS)
def test_quantized_weights_are_within_a_step(name):
  before = WEIGHTS[name]
  model = transformed(graph_of(before), "quantize_weights")
  assert model.graph.op("w") == "Dequantize"
  (after,) = answers(model)
  step = (max(before.max(), 0) - min(before.min(), 0)) / 255.0
  assert after.dtype == before.dtype
  assert np.abs(after - before).max() <= step * 1.001
  assert np.median(np.abs(after - before)) <= step * 0.501
  assert (after[before == 0] == 0).all()
  once = nodes(model)
  table.apply_specs(model, "quantize_weights(minimum_size=1)")
  assert nodes(model) == once


@pytest.mark.parametrize("name", WEIGHTS)
def test_quantized_weights_are_the_old_ones(name):
  before = WEIGHTS[name]
  model = transformed(graph_of(before), "quantize_weights")
  old = old_tool(graph_of(before), "quantize_weights")
  ours, theirs = by_name(model.graph.to_graph_def()), by_name(old)
  if before.max() <= 0:
    # The old tool's largest value begins at the smallest positive float.
    end = "w_quantized_max"
    assert theirs.pop(end)[2]["value"] == pytest.approx(1.2e-38, rel=0.1)
    assert ours.pop(end)[2]["value"] == (1 if name == "zeros" else 0)
  assert ours == theirs
  theirs = answers(model_of(old))[0]
  if name == "zeros":  # a range of 1.2e-38 is none: the old weights are NaN
    assert np.isnan(theirs).all()
  else:
    assert (answers(model)[0] == theirs).all()


@pytest.mark.parametrize("size, is_quantized", [(4, True), (5, False)])
def test_minimum_size(size, is_quantized):
  model = transformed(
    graph_of(np.float32([[1, 2], [3, 4]])),
    "quantize_weights(minimum_size=%d)" % size,
  )
  assert (model.graph.op("w") == "Dequantize") == is_quantized
  assert model.history == [
    "quantize_weights: "
    + ("quantized 1 constants to 8 bits" if is_quantized else "changed nothing")
  ]


def test_weights_in_a_loop_stay_in_its_frame():
  graph = tf1.Graph()
  with graph.as_default():
    x = tf1.placeholder(tf1.float32, [40], name="x")

    def body(i, x):
      return i + 1, x * tf1.constant(np.linspace(0.5, 1.5, 40, dtype="f"))

    tf1.disable_control_flow_v2()
    _, y = tf1.while_loop(lambda i, _: i < 3, body, [tf1.constant(0), x])
    tf1.identity(y, name="y")
  feeds = {"x": np.linspace(-1, 1, 40, dtype="f")}
  expected = answers(model_of(graph.as_graph_def()), feeds)[0]
  model = transformed(graph.as_graph_def(), "quantize_weights(minimum_size=40)")
  assert any(node.op == "Dequantize" for node in model.graph)
  assert np.abs(answers(model, feeds)[0] - expected).max() < 0.05


def test_a_weight_may_be_an_output():
  model = transformed(
    graph_of(WEIGHTS["mixed"]), "quantize_weights", outputs=("w", "y")
  )
  found, same = answers(model)
  assert (found == same).all()


# freeze_requantization_ranges.

REQUANTIZE = """
  x = Placeholder() {shape=[4,4]}   w = Const() {value=<float [4,4] 0.5>}
  y = MatMul(x, w)
"""
RANGE = "y/eightbit/requant_range"


def log(*pairs, name=RANGE):
  """A log as insert_logging leaves it, among other lines."""
  lines = ["I logging_ops.cc:79] unrelated [1][2]", ";q__print__;other:[1][2]"]
  lines += [
    "I logging_ops.cc:79] ;%s__print__;__requant_min_max:[%s][%s]"
    % ((name,) + pair)
    for pair in pairs
  ]
  return "\n".join(
    lines
    + [
      ";%s__print__;__requant_min_max:[1" % name,
      ";%s__print__;__requant_min_max:[nan][2]" % name,
      ";%s__print__;__requant_min_max:[one][2]" % name,
    ]
  )


def quantized():
  return transformed(REQUANTIZE, "quantize_nodes").graph.to_graph_def()


def write(tmp_path, content):
  path = tmp_path / "ranges.log"
  path.write_text(content)
  return 'freeze_requantization_ranges(min_max_log_file="%s"' % path


ENDS = (
  "",
  ", min_percentile=0, max_percentile=0",
  ", min_percentile=100, max_percentile=30",
)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("count", [1, 7, 28])
def test_frozen_ranges_are_what_was_asked_for(tmp_path, count, ends):
  pairs = logged_ranges(count)
  model = transformed(quantized(), write(tmp_path, log(*pairs)) + ends + ")")
  low, high = (
    float(value_of(model, RANGE + "/frozen_" + end)) for end in ("min", "max")
  )
  assert (low, high) == expected_range(pairs, ends)
  assert "RequantizationRange" not in [node.op for node in model.graph]
  answers(model, {"x": np.ones((4, 4), "f")})


# With min_percentile=100 the old tool reads past the end of its list.
@pytest.mark.parametrize("ends", ENDS[:2])
@pytest.mark.parametrize("count", [1, 7, 28])
def test_frozen_ranges_are_the_old_ones(tmp_path, count, ends):
  pairs = logged_ranges(count)
  text_without_nan = log(*pairs).replace("[nan]", "[none]")
  spec = write(tmp_path, text_without_nan) + ends + ")"
  old = by_name(old_tool(quantized(), spec))
  for end, value in zip(("min", "max"), expected_range(pairs, ends)):
    assert old[RANGE + "/frozen_" + end][2]["value"] == value


def logged_ranges(count):
  return [(-1 - i * 0.5, 2 + i * 0.25) for i in range(count)]


def expected_range(pairs, ends):
  """Computed another way: by counting what is cut off."""
  low, high = {
    "": (0.05, 0.95),
    ", min_percentile=0, max_percentile=0": (0, 1),
    ", min_percentile=100, max_percentile=30": (1, 0.7),
  }[ends]
  count = len(pairs)
  lows, highs = (sorted(column) for column in zip(*pairs))
  return (
    lows[min(int(count * low + 0.5), count - 1)],
    highs[min(int(count * high + 0.5), count - 1)],
  )


def test_freezing_ranges_twice_changes_nothing(tmp_path):
  spec = write(tmp_path, log((-1, 2))) + ")"
  model = transformed(quantized(), spec)
  once = nodes(model)
  table.apply_specs(model, spec)
  assert nodes(model) == once


def test_from_logging_to_frozen_ranges(tmp_path, capfd):
  feeds = {"x": np.linspace(-1, 1, 16, dtype="f").reshape(4, 4)}
  logged = transformed(
    quantized(),
    "insert_logging(op=RequantizationRange, show_name=true,"
    ' message="__requant_min_max:")',
  )
  expected = answers(logged, feeds)[0]
  spec = write(tmp_path, capfd.readouterr().err) + ")"
  frozen = transformed(quantized(), spec)
  assert "froze range" in frozen.history[0]
  assert np.abs(answers(frozen, feeds)[0] - expected).max() < 0.02


@pytest.mark.parametrize(
  "content, said",
  [
    ("nothing", "has no line"),
    (log((1, 2), name="z"), "the graph has no such node"),
    (log((1, 2), name="w"), "it is Const, not RequantizationRange"),
  ],
)
def test_logs_of_another_graph_are_refused(tmp_path, content, said):
  with pytest.raises(TransformError, match=said):
    transformed(quantized(), write(tmp_path, content) + ")")


def test_missing_log(tmp_path):
  with pytest.raises(TransformError, match="cannot read min_max_log_file"):
    transformed(quantized(), write(tmp_path, "")[:-1] + 'x")')


def test_a_range_that_is_an_output_stays(tmp_path):
  model = transformed(
    quantized(), write(tmp_path, log((1, 2))) + ")", outputs=("y", RANGE)
  )
  assert model.graph.op(RANGE) == "RequantizationRange"
  assert "it is an output" in model.history[0]


# sparsify_gather.

# 1e-5 as a float is less than 1e-5: it goes.
TABLE = np.float32([0, 2, 0, -3, 9e-6, 1e-5, 0, 4]).reshape(8, 1)
IDS = {"ids": np.array([[1, 0, 7], [3, 4, 5]])}


def gather(value=TABLE, op="GatherV2", ids="int64", read=True, more=""):
  """The GraphDef of a Gather of a constant."""
  graph = text.loads(
    """
    w = Const() {value=<float [1,1] 0>}   %s
    ids = Placeholder() {dtype=%s, shape=[?,3]}
    axis = Const() {value=<int32 0>}
    g = %s(%s, ids%s) {Tindices=%s}
    y = Neg(g)  %s
  """
    % (
      "r = Identity(w)" if read else "",
      ids,
      op,
      "r" if read else "w",
      ", axis" if op == "GatherV2" else "",
      ids,
      more,
    )
  )
  by_node(graph, "w").CopyFrom(tf1.make_tensor_proto(value))
  return graph


@pytest.mark.parametrize("ids", ["int32", "int64"])
@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("op", ["Gather", "GatherV2"])
def test_gathered_rows_come_from_a_table(op, ids, read):
  graph = gather(op=op, ids=ids, read=read)
  feeds = {"ids": IDS["ids"].astype(ids)}
  model = transformed(graph, "sparsify_gather")
  assert "w" not in model.graph
  assert model.initializers == ("group_deps",)
  assert "run 'group_deps' once" in model.warnings[0]
  expected, found = answers(model_of(graph), feeds)[0], answers(model, feeds)[0]
  assert found.shape == expected.shape
  assert np.abs(found - expected).max() < 1.1e-5
  once = nodes(model)
  table.apply_specs(model, "sparsify_gather")
  assert nodes(model) == once


@pytest.mark.parametrize("op", ["Gather", "GatherV2"])
@pytest.mark.parametrize("value", [TABLE, np.zeros((5, 1), "f")])
def test_the_table_is_the_old_one(op, value):
  graph = gather(value, op)
  spec = "sparsify_gather(group_init_node=init)"
  old = by_name(old_tool(graph, spec))
  ours = by_name(transformed(graph, spec).graph.to_graph_def())
  assert {n: ours[n][0] for n in ours} == {n: old[n][0] for n in old}
  for name in ("w/indices", "w/values"):
    assert ours[name][2]["value"] == old[name][2]["value"]
  for name in old:
    assert ours[name][1] == old[name][1]


def test_gathers_share_a_table():
  graph = gather(more="h = GatherV2(r, ids, axis) {Tindices=int64}  z = Abs(h)")
  model = transformed(graph, "sparsify_gather", outputs=("y", "z"))
  assert [node.op for node in model.graph].count("HashTable") == 1
  found, expected = (
    answers(m, IDS) for m in (model, model_of(graph, ("y", "z")))
  )
  assert all(np.abs(a - b).max() < 1.1e-5 for a, b in zip(found, expected))


def test_other_readers_keep_the_weights():
  graph = gather(more="z = Abs(r)")
  model = transformed(graph, "sparsify_gather", outputs=("y", "z"))
  assert (answers(model, IDS)[1] == np.abs(TABLE)).all()


def test_nothing_to_gather_leaves_the_graph_as_it_is():
  graph = text.loads("x = Placeholder() {shape=[3]}  y = Neg(x)")
  assert nodes(transformed(graph, "sparsify_gather")) == nodes(model_of(graph))
  assert "group_deps" in by_name(old_tool(graph, "sparsify_gather"))


@pytest.mark.parametrize(
  "graph, said",
  [
    (gather(np.ones((4, 2), "f")), "'w' has shape [4, 2], not [N, 1]"),
    (gather(more="b = Const() {value=<int32 1>}"), None),
    (gather(np.ones((2, 4, 1), "f")), "'w' has shape [2, 4, 1], not [N, 1]"),
    (gather(np.ones((4,), "f")), "'w' has shape [4], not [N, 1]"),
  ],
)
def test_weights_that_do_not_fit_are_left(graph, said):
  if said is None:
    axis = by_node(graph, "axis")
    axis.CopyFrom(tf1.make_tensor_proto(1))
    said = "does not gather along the first axis"
  model = transformed(graph, "sparsify_gather")
  assert nodes(model) == nodes(model_of(graph))
  assert said in model.history[0]


def test_the_initializer_may_be_there():
  graph = gather(more="a = NoOp()  init = NoOp(^a)")
  model = transformed(graph, "sparsify_gather(group_init_node=init)")
  assert list(model.graph.node("init").input) == ["^a", "^w/InitializeTable"]
  with pytest.raises(TransformError, match="it is Neg; give another"):
    transformed(graph, "sparsify_gather(group_init_node=y)")


RESTORED = """
  w = VariableV2() {shape=[4,1]}   ids = Placeholder() {dtype=int64}
  y = Gather(w, ids) {Tindices=int64}
  file = Const() {value=<string "model.ckpt">}
  keys = Const() {value=<string [1] "emb">}
  slices = Const() {value=<string [1] "8 1 2,4:0,1">}
  r = RestoreV2(file, keys, slices) {dtypes=(float,)}   restore = Assign(w, r)
"""


def test_weights_that_are_fed_stay(tmp_path):
  model = transformed(gather(), "sparsify_gather", inputs=["ids", "w"])
  assert nodes(model) == nodes(model_of(gather()))
  saved = checkpoint(tmp_path, {"emb": TABLE})
  spec = f'sparsify_gather(input_checkpoint="{saved.prefix}")'
  model = transformed(RESTORED, spec, inputs=["ids", "w"])
  assert nodes(model) == nodes(model_of(RESTORED))
  assert "'w' is an input" in model.history[0]


def test_restoring_tells_keys_and_slices(tmp_path):
  """The old tool, too, asks the RestoreV2 that a variable is assigned from."""
  saved = checkpoint(tmp_path, {"emb": TABLE})
  spec = f'sparsify_gather(input_checkpoint="{saved.prefix}")'
  model = transformed(RESTORED, spec)
  ids = np.arange(4)
  found = answers(model, {"ids": ids})[0]
  assert np.abs(found - TABLE[2:6]).max() < 1.1e-5


def test_missing_values_are_told_by_where_they_are_missing(tmp_path):
  model = transformed(RESTORED, "sparsify_gather")
  assert "'w' has no value; give input_checkpoint" in model.history[0]
  saved = checkpoint(tmp_path, {"other": TABLE})
  spec = f'sparsify_gather(input_checkpoint="{saved.prefix}")'
  (said,) = transformed(RESTORED, spec).history
  assert f"'w' has no value in checkpoint '{saved.prefix}'" in said


def test_variables_come_from_a_checkpoint(tmp_path):
  graph, prefix = tf1.Graph(), str(tmp_path / "model.ckpt")
  with graph.as_default():
    with tf1.variable_scope("", use_resource=False):
      w = tf1.get_variable(
        "emb", [8, 1], partitioner=tf1.fixed_size_partitioner(2)
      )
    ids = tf1.placeholder(tf1.int64, [None, 3], name="ids")
    parts = [tf1.gather(tf1.identity(part), ids % 4) for part in w]
    tf1.add_n(parts, name="y")
    saver = tf1.train.Saver()
    with session(graph) as run:
      run.run(tf1.global_variables_initializer())
      for part, value in zip(w, (TABLE[:4], TABLE[4:])):
        part.load(value, run)
      expected = run.run("y:0", {"ids:0": IDS["ids"]})
      saver.save(run, prefix)
  with pytest.raises(Error):
    answers(transformed(graph.as_graph_def(), "sparsify_gather"), IDS)
  model = transformed(
    graph.as_graph_def(), 'sparsify_gather(input_checkpoint="%s")' % prefix
  )
  assert np.abs(answers(model, IDS)[0] - expected).max() < 1.1e-5
  own = model_of(graph.as_graph_def())
  own.values = Values(Checkpoint(prefix), own.graph)
  table.apply_specs(own, "sparsify_gather")
  assert nodes(own) == nodes(model)
