# SPDX-License-Identifier: Apache-2.0
"""Statistics computed anew from data, against NumPy's."""

import os
import zipfile

import numpy as np
import pytest
from judges import opening
from judges.exporting import assert_close, export

from bnexport.batchnorm.forms import find
from bnexport.batchnorm.norm import BATCH, STORED
from bnexport.calibration.calibration import ALL, BROKEN, recalibrate
from bnexport.calibration.data import Input, read_data
from bnexport.calibration.moments import Moments
from bnexport.errors import SourceError, TransformError
from bnexport.exporting.export import Options
from bnexport.exporting.export import export as export_model
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures, constant_value, tensor_attr
from bnexport.model import Model
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import session, tf1

EPSILON = 1e-3
CHANNELS = 5
RANDOM = np.random.RandomState(3)
KERNEL = RANDOM.randn(CHANNELS, CHANNELS)
X = RANDOM.randn(50, 4, 3, CHANNELS) * [1, 3, 0.2, 2, 1] + [0, 4, -1, 9, 2]
GAMMA = np.linspace(0.5, 1.5, CHANNELS)
BETA = np.linspace(-1.0, 1.0, CHANNELS)


# Graphs with norms, as they are after an export.


def stored(name, dtype, mean=0.0, variance=1.0, shape=(CHANNELS,)):
  return [
    tf1.constant(np.full(shape, v), dtype, name="%s/moving_%s" % (name, which))
    for v, which in ((mean, "mean"), (variance, "variance"))
  ]


def parameters(dtype, shape=(CHANNELS,)):
  return [tf1.constant(v.reshape(shape), dtype) for v in (GAMMA, BETA)]


def fused(x, name, statistics=None, data_format="NHWC"):
  mean, variance = statistics or stored(name, tf1.float32)
  gamma, beta = parameters(tf1.float32)
  return tf1.nn.fused_batch_norm(
    x, gamma, beta, mean, variance, EPSILON, data_format, False, name + "/norm"
  )[0]


def formula(x, name, statistics=None, shape=(CHANNELS,)):
  mean, variance = statistics or stored(name, x.dtype, shape=shape)
  gamma, beta = parameters(x.dtype, shape)
  return tf1.nn.batch_normalization(
    x, mean, variance, beta, gamma, EPSILON, name + "/norm"
  )


def kept_dimensions(x, name):
  return formula(x, name, shape=(1, 1, 1, CHANNELS))


def reshaped(x, name):
  """Channels first, from statistics with one axis."""
  x = tf1.transpose(x, [0, 3, 1, 2])
  statistics = stored(name, x.dtype)
  with tf1.name_scope(name + "/"):
    mean, variance = (
      tf1.reshape(tf1.identity(s), [1, -1, 1, 1]) for s in statistics
    )
    gamma, beta = parameters(x.dtype, (1, CHANNELS, 1, 1))
    y = (x - mean) * gamma / tf1.sqrt(variance + EPSILON) + beta
  return tf1.transpose(y, [0, 2, 3, 1])


def scaled_and_shifted(x, name):
  """The scale is brought to its shape after it was computed."""
  x = tf1.transpose(x, [0, 3, 1, 2])
  mean, variance = stored(name, x.dtype)
  gamma, beta = parameters(x.dtype)
  with tf1.name_scope(name + "/"):
    scale = gamma * tf1.rsqrt(variance + EPSILON)
    shift = beta - mean * scale
    scale, shift = (tf1.reshape(t, [1, -1, 1, 1]) for t in (scale, shift))
    y = x * scale + shift
  return tf1.transpose(y, [0, 2, 3, 1])


def one_for_all(x, name):
  """One mean and variance for all channels, gamma for each."""
  return formula(x, name, stored(name, x.dtype, shape=()))


def mix(h):
  """What stands between two norms; mixes channels, keeps the dtype."""
  flat = tf1.reshape(h, [-1, CHANNELS])
  mixed = tf1.matmul(flat, tf1.constant(KERNEL, h.dtype))
  return tf1.nn.relu(tf1.reshape(mixed, tf1.shape(h)))


def mix_np(h):
  return np.maximum(h @ KERNEL, 0)


def build(net, dtype=tf1.float32, shape=(None, 4, 3, CHANNELS)):
  """A Model of `net(x)`, without variables."""
  with tf1.Graph().as_default() as graph:
    tf1.identity(net(tf1.placeholder(dtype, shape, name="x")), name="y")
  return model_of(graph.as_graph_def())


def model_of(graph_def, outputs=("y",)):
  refs = tuple(TensorRef.parse(name) for name in outputs)
  return Model(Graph(graph_def), None, (), refs, "test", Signatures())


def norms_of(model):
  return find(model.graph, model.outputs)


def statistics(model, scope):
  """The constants of a scope's norm, as one axis of float64."""
  (norm,) = [n for n in norms_of(model) if n.name.startswith(scope + "/")]
  assert norm.statistics == STORED
  return [
    constant_value(model.graph, TensorRef(name)).astype(np.float64).reshape(-1)
    for name in (norm.moving_mean, norm.moving_variance)
  ]


def answers(model, feeds):
  runner = ImportedGraph(model.graph.to_graph_def(), model.outputs)
  try:
    return runner.run(feeds)
  finally:
    runner.close()


def normalised(x, axes=(0, 1, 2)):
  """What a norm answers with the statistics of x, and these."""
  x = np.asarray(x, np.float64)
  mean, variance = x.mean(axes), x.var(axes)
  return (x - mean) / np.sqrt(variance + EPSILON) * GAMMA + BETA, mean, variance


@pytest.fixture
def data(tmp_path):
  """Writes arrays and opens them as calibration data."""

  def write(rows=8, **arrays):
    path = str(tmp_path / "data.npz")
    np.savez(path, **arrays)
    return read_data(path, rows)

  return write


def assert_statistics(model, scope, mean, variance, tolerance=1e-5):
  found = statistics(model, scope)
  np.testing.assert_allclose(found[0], mean, tolerance, tolerance)
  np.testing.assert_allclose(found[1], variance, tolerance, tolerance)


# What statistics are of.


@pytest.mark.parametrize(
  "norm", [fused, formula, kept_dimensions, reshaped, scaled_and_shifted]
)
def test_norms_in_a_row(data, norm):
  """The second sees what the first answers with its new statistics."""
  model = build(lambda x: norm(mix(norm(x, "first")), "second"))
  first, second = recalibrate(model, norms_of(model), data(x=X))
  h, *expected = normalised(X)
  assert_statistics(model, "first", *expected)
  y, *expected = normalised(mix_np(h))
  assert_statistics(model, "second", *expected)
  assert_close(answers(model, {"x": X})[0], y.astype(np.float32), 1e-4)
  assert first.samples == second.samples == 50 * 4 * 3
  assert first.old.mean == (0, 0) and first.old.variance == (1, 1)
  assert first.new.mean == pytest.approx(
    (X.mean((0, 1, 2)).min(), X.mean((0, 1, 2)).max())
  )
  assert str(second) in model.history
  assert "600 samples" in str(second)


def test_one_mean_for_all_channels(data):
  model = build(lambda x: one_for_all(x, "n"))
  recalibrate(model, norms_of(model), data(x=X))
  assert_statistics(model, "n", X.mean(), X.var())


def test_channels_first(data):
  """A first norm's input is there where no CPU runs the norm."""
  model = build(
    lambda x: fused(x, "n", data_format="NCHW"), shape=(None, CHANNELS, 4, 3)
  )
  recalibrate(model, norms_of(model), data(x=X.transpose(0, 3, 1, 2)))
  _, *expected = normalised(X)
  assert_statistics(model, "n", *expected)


def test_dense(data):
  model = build(lambda x: formula(mix(x), "n"), shape=(None, CHANNELS))
  recalibrate(model, norms_of(model), data(x=X[:, 0, 0]))
  _, *expected = normalised(mix_np(X[:, 0, 0]), (0,))
  assert_statistics(model, "n", *expected)


def test_float16(data):
  model = build(lambda x: formula(mix(formula(x, "a")), "b"), tf1.float16)
  recalibrate(model, norms_of(model), data(x=X.astype(np.float32)))
  h, *expected = normalised(X)
  assert_statistics(model, "a", *expected, tolerance=5e-3)
  assert_statistics(model, "b", *normalised(mix_np(h))[1:], tolerance=1e-2)
  assert {
    model.dtype(TensorRef(n.moving_variance)) for n in norms_of(model)
  } == {tf1.float16}


def test_bfloat16(data):
  def net(x):
    kept = stored("n", tf1.bfloat16)
    cast = [tf1.cast(s, tf1.float32) for s in kept]
    return fused(tf1.cast(x, tf1.float32), "n", cast)

  model = build(net, tf1.bfloat16)
  recalibrate(model, norms_of(model), data(x=X.astype(np.float32)))
  (norm,) = norms_of(model)
  assert model.dtype(TensorRef(norm.moving_mean)) == tf1.bfloat16
  assert_statistics(model, "n", *normalised(X)[1:], tolerance=2e-2)


def test_too_large_for_its_dtype(data):
  model = build(lambda x: formula(x, "n"), tf1.float16)
  with pytest.raises(TransformError, match="'n/norm.* too large for float16"):
    recalibrate(model, norms_of(model), data(x=X * 1000))


def test_batches_do_not_matter(data):
  """Streaming gives what one batch gives."""
  found = []
  for rows in (1, 7, 50):
    model = build(lambda x: formula(mix(formula(x, "a")), "b"), tf1.float64)
    recalibrate(model, norms_of(model), data(rows, x=X))
    found.append(statistics(model, "a") + statistics(model, "b"))
  np.testing.assert_allclose(found[0], found[2], 1e-12)
  np.testing.assert_allclose(found[1], found[2], 1e-12)


def test_large_mean(data):
  """A mean of squares would have no digit of the variance left."""
  x = X * 0.001 + 1e6
  model = build(lambda x: formula(x, "n"), tf1.float64)
  recalibrate(model, norms_of(model), data(x=x))
  exact = (x - 1e6).var((0, 1, 2))
  np.testing.assert_allclose(statistics(model, "n")[1], exact, 1e-9)


def test_moments_in_parts(monkeypatch):
  """A batch too large to be copied whole is taken in parts."""
  monkeypatch.setattr("bnexport.calibration.moments._MOST_ELEMENTS", 100)
  moments = Moments()
  for part in (X[:1], X[1:40], X[40:40], X[40:]):
    moments.add(part.astype(np.float32), (3,))
  x = X.astype(np.float32).astype(np.float64)
  assert moments.samples == 600
  np.testing.assert_allclose(moments.mean, x.mean((0, 1, 2)), 1e-13)
  np.testing.assert_allclose(moments.variance, x.var((0, 1, 2)), 1e-13)


# Statistics that are shared.


def test_towers_share(data):
  """Both uses together, as one population."""
  shared = []

  def net(x):
    shared[:] = stored("shared", x.dtype)
    return fused(x, "a", shared) + fused(3 * x, "b", shared)

  model = build(net)
  done = recalibrate(model, norms_of(model), data(x=X), ("a",))
  assert [d.name for d in done] == ["a/norm", "b/norm"]
  assert {d.samples for d in done} == {1200}
  both = np.concatenate([X, 3 * X])
  _, *expected = normalised(both)
  assert_statistics(model, "a", *expected)
  assert {n.moving_mean for n in norms_of(model)} == {"shared/moving_mean"}


def test_called_on_its_own_answer(data):
  """The statistics are those of what they lead to."""

  def net(x):
    shared = stored("shared", x.dtype, np.nan, np.nan)
    h = fused(x, "a", shared)
    h = formula(mix(h), "between")
    return fused(mix(h), "b", shared)

  model = build(net)
  recalibrate(model, norms_of(model), data(x=X))
  mean, variance = statistics(model, "a")
  h = (X - mean) / np.sqrt(variance + EPSILON) * GAMMA + BETA
  h, *between = normalised(mix_np(h))
  _, *expected = normalised(np.concatenate([X, mix_np(h)]))
  assert_statistics(model, "between", *between, tolerance=1e-3)
  assert_statistics(model, "a", *expected, tolerance=1e-3)


def test_what_others_read_stays(data):
  def net(x):
    mean, variance = stored("n", x.dtype)
    return fused(x, "n", (mean, variance)) + tf1.identity(mean)

  model = build(net)
  recalibrate(model, norms_of(model), data(x=X))
  _, *expected = normalised(X)
  assert_statistics(model, "n", *expected)
  assert not constant_value(model.graph, TensorRef("n/moving_mean")).any()
  (norm,) = norms_of(model)
  assert norm.moving_variance == "n/moving_variance"
  assert_close(
    answers(model, {"x": X})[0], normalised(X)[0].astype(np.float32), 1e-4
  )


def test_output_is_another_reader(data):
  graph_def = build(lambda x: fused(x, "n")).graph.to_graph_def()
  model = model_of(graph_def, ("y", "n/moving_mean"))
  recalibrate(model, norms_of(model), data(x=X))
  assert not answers(model, {"x": X})[1].any()


# Norms that used the batch's statistics.


def batch_fused(x, name):
  gamma, beta = parameters(tf1.float32)
  return tf1.nn.fused_batch_norm(
    x, gamma, beta, epsilon=EPSILON, name=name + "/norm"
  )[0]


def batch_formula(x, name):
  mean, variance = tf1.nn.moments(x, [0, 1, 2], name=name + "/moments")
  return formula(x, name, (mean, variance))


@pytest.mark.parametrize("norm", [batch_fused, batch_formula])
def test_lost_averages(norm, data, tmp_path):
  """A training graph without averages, exported, answers as in training."""
  prefix = str(tmp_path / "model.ckpt")
  with tf1.Graph().as_default() as graph:
    x = tf1.placeholder(tf1.float32, [None, 4, 3, CHANNELS], name="x")
    weights = tf1.get_variable("w", [CHANNELS], use_resource=False)
    y = tf1.identity(norm(x * weights, "n") * weights, name="y")
    tf1.train.GradientDescentOptimizer(0.1).minimize(
      tf1.reduce_mean(tf1.square(y - 1.0)), name="train"
    )
    with session(graph) as run:
      run.run(tf1.global_variables_initializer())
      for _ in range(5):
        run.run("train", {"x:0": X})
      tf1.train.Saver().save(run, prefix)
      expected = run.run("y:0", {"x:0": X})
  model = opening.trained(prefix, ["y"])
  exported = export_model(model, Options(fold_batch_norms=False))
  assert [n.statistics for n in exported.norms] == [BATCH]
  assert any("keeps computing" in line for line in model.warnings)
  (done,) = recalibrate(model, exported.norms, data(x=X), (BROKEN,))
  assert done.old is None and "batch's" in str(done)
  (now,) = norms_of(model)
  assert now.statistics == STORED
  assert now.moving_mean.endswith("/moving_mean")
  assert now.moving_variance.endswith("/moving_variance")
  assert not any("keeps computing" in line for line in model.warnings)
  model.graph.lint()
  assert not any("moments" in name for name in model.graph.names())
  assert_close(answers(model, {"x": X})[0], expected, 1e-4)
  part = answers(model, {"x": X[:1]})[0]
  assert_close(part, expected[:1], 1e-4)


def test_other_statistics_than_its_own(data):
  """Those of a part of the batch have no population in the data."""

  def net(x):
    mean, variance = tf1.nn.moments(x[:3], [0, 1, 2])
    return formula(x, "n", (mean, variance))

  model = build(net)
  with pytest.raises(TransformError, match="other statistics"):
    recalibrate(model, norms_of(model), data(x=X))


# Which norms.


def sound(name):
  return stored(name, tf1.float32, 0.5, 2.0)


def test_broken(data):
  model = build(
    lambda x: fused(
      fused(fused(x, "a", sound("a")), "b", stored("b", x.dtype, np.nan)), "c"
    )
  )
  done = recalibrate(model, norms_of(model), data(x=X), (BROKEN,))
  assert [d.name for d in done] == ["b/norm", "c/norm"]
  assert_statistics(model, "a", 0.5, 2.0)
  h = (X - 0.5) / np.sqrt(2 + EPSILON) * GAMMA + BETA
  h, *expected = normalised(h)
  assert_statistics(model, "b", *expected)
  _, *expected = normalised(h)
  assert_statistics(model, "c", *expected)
  before = list(model.history)
  assert recalibrate(model, norms_of(model), data(x=X), (BROKEN,)) == []
  assert len(model.history) == len(before) + 1


def test_names_and_scopes_to_keep(data):
  model = build(lambda x: fused(fused(fused(x, "a"), "s/b"), "s/c"))
  done = recalibrate(
    model, norms_of(model), data(x=X), ("s", "s/c/norm"), keep=("s/b",)
  )
  assert [d.name for d in done] == ["s/c/norm"]
  done = recalibrate(model, norms_of(model), data(x=X), keep=("a", "s/b"))
  assert [d.name for d in done] == ["s/c/norm"]
  assert_statistics(model, "a", 0, 1)


def test_names_that_are_none(data):
  model = build(lambda x: fused(x, "block/first"))
  with pytest.raises(SourceError, match="mean 'block/first'"):
    recalibrate(model, norms_of(model), data(x=X), ("block/frist",))
  with pytest.raises(TransformError, match="keep_batch_statistics"):
    recalibrate(model, norms_of(model), data(x=X), ("block",), keep=("block",))


def test_rows_with_norms_of_their_own(cases, data):
  case = cases("keep_layer_fused")
  exported = export(case, folds=False)
  model = exported.model
  assert recalibrate(model, exported.norms, data(**{case.input: case.x})) == []
  assert_answers_stay(case, model)


def assert_answers_stay(case, model):
  assert_close(answers(model, {case.input: case.x})[0], case.y, case.tol)


@pytest.mark.parametrize(
  "name, said",
  [
    ("loop_while_literal", "while loop"),
    ("flow_data_cond_norm", "conditional"),
  ],
)
def test_norms_that_can_not_be_looked_into(cases, data, name, said):
  case = cases(name)
  exported = export(case, folds=False)
  given = data(**{case.input: case.x})
  with pytest.raises(TransformError, match="norm '.*" + said):
    recalibrate(exported.model, exported.norms, given)
  assert_answers_stay(case, exported.model)


# Whole models.


@pytest.mark.parametrize(
  "name",
  [
    "contrib_fused_phase",
    "contrib_neither_unfused_phase",
    "formula_global_legacy_op",
    "formula_kept_dimensions",
    "formula_per_position",
    "layers_axis_1_3",
    "layers_float16_literal",
    "layers_nchw_inner",
    "layers_shared_twice",
    "layers_volume_literal",
    "net_residual_v2",
    "towers_second",
    "warn_never_updated",
  ],
)
@pytest.mark.parametrize("how", ["reset", "nan", "rolled"])
@pytest.mark.part(2, 0)
def test_destroyed(cases, data, name, how):
  """Statistics once computed are found again; they are their inputs'."""
  case = cases(name)
  given = data(rows=4, **{case.input: case.x})
  whole = export(case, folds=False)
  recalibrate(whole.model, whole.norms, given)
  expected = answers(whole.model, {case.input: case.x})[0]
  broken = export(case, folds=False)
  destroy(broken.model.graph, broken.norms, how)
  # Nothing tells that statistics are another channel's.
  which = (ALL if how == "rolled" else BROKEN,)
  done = recalibrate(broken.model, broken.norms, given, which)
  assert len(done) == len(broken.norms)
  found = answers(broken.model, {case.input: case.x})[0]
  assert_close(found, expected, max(case.tol, 1e-3))
  assert_consistent(case, broken.model)
  with pytest.raises(AssertionError):
    assert_close(case.y, expected, max(case.tol, 1e-3))


def destroy(graph, norms, how):
  names = {norm.moving_mean: 0 for norm in norms}
  names.update((norm.moving_variance, 1) for norm in norms)
  for name, value in names.items():
    attr = graph.node(name).attr["value"]
    array = constant_value(graph, TensorRef(name))
    if how == "rolled":
      array = np.roll(array, 1)
    else:
      array = np.full_like(array, np.nan if how == "nan" else value)
    attr.CopyFrom(tensor_attr(array, attr.tensor.dtype))


def assert_consistent(case, model):
  """Norms that are one op have their inputs' mean and variance."""
  norms = [n for n in norms_of(model) if n.form.name != "arithmetic"]
  means = [n.moving_mean for n in norms]
  norms = [n for n in norms if means.count(n.moving_mean) == 1]
  runner = ImportedGraph(model.graph.to_graph_def(), [n.x for n in norms])
  for norm, x in zip(norms, runner.run({case.input: case.x})):
    assert b"NC" not in model.graph.node(norm.name).attr["data_format"].s
    x = x.astype(np.float64)
    axes = tuple(range(x.ndim - 1))
    for name, expected in (
      (norm.moving_mean, x.mean(axes)),
      (norm.moving_variance, x.var(axes)),
    ):
      found = constant_value(model.graph, TensorRef(name))
      np.testing.assert_allclose(found, expected, 10 * case.tol, 1e-3)
  runner.close()


# The data.


def test_shards(tmp_path):
  """Files of a directory are one population; other files are left alone."""
  for i, rows in enumerate((X[:3], X[3:40], X[40:])):
    np.savez(str(tmp_path / ("%d.npz" % i)), **{"x:0": rows})
  (tmp_path / "README").write_text("not data")
  given = read_data(str(tmp_path), rows=16)
  feeds = given.feeds({"x": Input(tf1.float32, (-1, 4, 3, CHANNELS))})
  assert [len(f["x"]) for f in feeds] == [3, 16, 16, 5, 10]
  again = np.concatenate([f["x"] for f in feeds])
  np.testing.assert_array_equal(again, X.astype(np.float32))
  model = build(lambda x: fused(x, "n"))
  (done,) = recalibrate(model, norms_of(model), given)
  _, *expected = normalised(X)
  assert_statistics(model, "n", *expected)
  assert done.samples == 600


def test_input_of_a_fixed_number_of_rows(tmp_path):
  """Batches go across files; a rest that can't be fed is told."""
  for i, rows in enumerate((X[:2], X[2:5], X[5:6], X[6:])):
    np.savez(str(tmp_path / ("%d.npz" % i)), x=rows)
  given = read_data(str(tmp_path))
  feeds = given.feeds({"x": Input(tf1.float32, (8, 4, 3, CHANNELS))})
  assert [len(f["x"]) for f in feeds] == [8] * 6
  fed = np.concatenate([f["x"] for f in feeds])
  np.testing.assert_array_equal(fed, X[:48].astype(np.float32))
  model = build(lambda x: fused(x, "n"), shape=(8, 4, 3, CHANNELS))
  recalibrate(model, norms_of(model), given)
  assert any("last 2 of 50 rows" in line for line in model.warnings)
  _, *expected = normalised(X[:48])
  assert_statistics(model, "n", *expected)


def test_inputs_without_rows(data):
  def net(x):
    rate = tf1.placeholder(tf1.float32, [], name="rate")
    other = tf1.placeholder(tf1.float32, [None, 1, 1, CHANNELS], name="other")
    h = fused(x * rate + other, "n")
    late = tf1.placeholder_with_default(np.float32(1), [], name="late")
    return h * late * tf1.placeholder(tf1.float32, [], name="later")

  model = build(net)
  given = data(x=X, rate=np.float64(2), other=X[:, :1, :1])
  recalibrate(model, norms_of(model), given)
  _, *expected = normalised(X * 2 + X[:, :1, :1])
  assert_statistics(model, "n", *expected)
  with pytest.raises(SourceError, match="'n/norm'.*'other' is not in"):
    recalibrate(model, norms_of(model), data(x=X, rate=np.float64(2)))


def _unfit():
  yield "name", {"z": X}, "'z' is no input.*'x'"
  yield "shape", {"x": X[..., :2]}, r"\[50, 4, 3, 2\].*\[\?, 4, 3, 5\]"
  yield "rank", {"x": X[:, 0]}, "shape"
  yield "dtype", {"x": X.astype(str)}, "float32"
  yield "complex", {"x": X.astype(complex)}, "float32"
  yield "infinite", {"x": np.where(X == X.max(), np.inf, X)}, "not finite"
  yield "too_large", {"x": X * 1e300}, "too large"
  yield "no_rows", {"x": X[:0]}, "0 rows"


@pytest.mark.parametrize(
  "arrays, said",
  [pytest.param(arrays, said, id=name) for name, arrays, said in _unfit()],
)
def test_arrays_that_do_not_fit(data, arrays, said):
  model = build(lambda x: fused(x, "n"))
  with pytest.raises(SourceError, match="^cannot .*" + said) as refused:
    recalibrate(model, norms_of(model), data(**arrays))
  assert "\n" not in str(refused.value)
  assert_statistics(model, "n", 0, 1)


def test_uneven_rows(data):
  given = data(x=X, z=X[:49])
  with pytest.raises(SourceError, match="'z' has 49 rows for the 50"):
    given.feeds({n: Input(tf1.float32, None) for n in "xz"})


def test_integers(data):
  wanted = {"x": Input(tf1.int32, (-1,))}
  (fed,) = data(x=np.arange(4)).feeds(wanted)
  assert fed["x"].dtype == np.int32
  with pytest.raises(SourceError, match="too large for int32"):
    list(data(x=np.array([1 << 40])).feeds(wanted))
  with pytest.raises(SourceError, match="convert"):
    data(x=np.zeros(3)).feeds(wanted)


def test_values_that_are_not_finite_inside(data):
  model = build(lambda x: fused(tf1.log(tf1.nn.relu(x)), "n"))
  with pytest.raises(TransformError, match="'n/norm'.*not finite"):
    recalibrate(model, norms_of(model), data(x=X))


def test_graph_that_does_not_run(data):
  model = build(lambda x: fused(tf1.reshape(x, [7, 4, 3, CHANNELS]), "n"))
  with pytest.raises(TransformError, match="data.npz.*rows") as refused:
    recalibrate(model, norms_of(model), data(x=X))
  assert "\n" not in str(refused.value)


def _files(path):
  """Yields names and contents of what can't be calibration data."""
  np.savez(path, x=X)
  with open(path, "rb") as f:
    whole = f.read()
  yield "cut", whole[:-100]
  yield "empty", b""
  yield "text", b"1, 2, 3\n"
  yield "broken", whole[:5000] + b"\0" * 1000 + whole[6000:]
  np.savez(path)
  with open(path, "rb") as f:
    yield "no_arrays", f.read()
  np.savez(path, x=np.array([None, "a"]))
  with open(path, "rb") as f:
    yield "objects", f.read()
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("notes.txt", "hello")
  with open(path, "rb") as f:
    yield "other_zip", f.read()


def test_files_that_are_no_data(tmp_path):
  path = str(tmp_path / "made.npz")
  other = str(tmp_path / "data.npz")
  for name, content in _files(path):
    with open(other, "wb") as f:
      f.write(content)
    with pytest.raises(SourceError) as refused:
      list(read_data(other).feeds({"x": Input(tf1.float32, None)}))
    said = str(refused.value)
    assert said.startswith("cannot ") and "data.npz" in said, name
    assert "\n" not in said


def test_directories_that_are_no_data(tmp_path):
  with pytest.raises(SourceError, match="no such file|No such file"):
    read_data(str(tmp_path / "missing"))
  with pytest.raises(SourceError, match="no .npz file in the directory"):
    read_data(str(tmp_path))
  np.savez(str(tmp_path / "a.npz"), x=X)
  np.savez(str(tmp_path / "b.npz"), x=X, z=X)
  with pytest.raises(SourceError, match="holds 'z' and the other"):
    read_data(str(tmp_path))


def test_file_that_changes(tmp_path):
  path = str(tmp_path / "a.npz")
  np.savez(path, x=X)
  feeds = read_data(path).feeds({"x": Input(tf1.float32, None)})
  np.savez(path, x=X[:3])
  with pytest.raises(SourceError, match="changed"):
    list(feeds)
  os.remove(path)
  with pytest.raises(SourceError, match="a.npz"):
    list(feeds)
