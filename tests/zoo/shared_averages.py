# SPDX-License-Identifier: Apache-2.0
"""Averages that share a variable, that lean on each other, or are matrices."""

import numpy as np
import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.script import recipe

EPSILON = 1e-3


def _table(name, shape, value=0.0, **options):
  return tf.get_variable(
    name,
    shape,
    trainable=False,
    initializer=tf.constant_initializer(value),
    **options,
  )


def _norm(h, mean, variance):
  beta = tf.get_variable("beta", h.shape[-1:])
  return (h - mean) * tf.rsqrt(variance + EPSILON) + beta


def _net(layer):
  """A dense network of norms `layer(script, h)`."""

  def model(script):
    def norm(h, name):
      with tf.variable_scope(name):
        return layer(script, h)

    return backbones.dense_net(script.input([None, 5]), norm)

  return model


def stacked(shape, join, parts, resource=False):
  """Mean and variance in one variable.

  Args:
    shape: of the variable, of the number of channels.
    join: function of the two, gives what is averaged.
    parts: function of the variable, gives the two.
    resource: whether it is a resource variable.
  """

  def layer(script, h):
    stored = _table("both", shape(int(h.shape[-1])), 1, use_resource=resource)
    if not script.training:
      return _norm(h, *parts(stored))
    moments = tf.nn.moments(h, [0])
    script.updates.append(
      tf.assign(stored, 0.9 * stored + 0.1 * join(*moments))
    )
    return _norm(h, *moments)

  return _net(layer)


def _rows(stored):
  return stored[0], stored[1]


def _halves(stored):
  return tf.split(stored, 2)


def blended_rows(script, h):
  """Each row is blended by itself, then the rows are stacked."""
  stored = _table("both", [2, int(h.shape[-1])], 1)
  if not script.training:
    return _norm(h, stored[0], stored[1])
  mean, variance = tf.nn.moments(h, [0])
  rows = [0.9 * stored[0] + 0.1 * mean, stored[1] * 0.8 + variance * 0.2]
  script.updates.append(tf.assign(stored, tf.stack(rows)))
  return _norm(h, mean, variance)


def blended_unstacked(script, h):
  """The same, where what is stored is unstacked."""
  stored = _table("both", [2, int(h.shape[-1])], 1)
  rows = tf.unstack(stored)
  if not script.training:
    return _norm(h, *rows)
  moments = tf.nn.moments(h, [0])
  blends = [row - 0.1 * (row - new) for row, new in zip(rows, moments)]
  script.updates.append(tf.assign(stored, tf.stack(blends)))
  return _norm(h, *moments)


def about_stored(tracked):
  """The variance is of what is left once the stored mean is taken away.

  Args:
    tracked: function of h, the stored mean and its update; gives the variance.
  """

  def layer(script, h):
    size = h.shape[-1:]
    stored = _table("mean", size), _table("variance", size, 1)
    if not script.training:
      return _norm(h, *stored)
    mean, variance = tf.nn.moments(h, [0])
    before = tf.identity(stored[0])
    with tf.control_dependencies([before]):
      after = tf.assign_sub(stored[0], 0.1 * (before - mean))
    about = tracked(h, before, after)
    blend = 0.9 * stored[1] + 0.1 * about
    script.updates.append(tf.assign(stored[1], blend))
    return _norm(h, mean, variance)

  return _net(layer)


def _of_old(h, before, _):
  return tf.reduce_mean(tf.square(h - before), 0)


def _of_new(h, _, after):
  return tf.reduce_mean(tf.squared_difference(h, after), 0)


def _of_both(h, before, after):
  return tf.reduce_mean((h - before) * (h - after), 0)


def clipped(low, high):
  """The new average is kept between bounds.

  Args:
    low: the least mean and variance.
    high: the largest.
  """

  def layer(script, h):
    size = h.shape[-1:]
    stored = _table("mean", size), _table("variance", size, 1)
    if not script.training:
      return _norm(h, *stored)
    moments = tf.nn.moments(h, [0])
    for old, new, least, most in zip(stored, moments, low, high):
      blend = tf.clip_by_value(0.9 * old + 0.1 * new, least, most)
      script.updates.append(tf.assign(old, blend))
    return _norm(h, *moments)

  return _net(layer)


def decayed_sums(script, h):
  """A sum and a count, of which a tenth is forgotten in each step."""
  size = h.shape[-1:]
  stored = _table("total", size), _table("spread", size, 9)
  count = _table("count", [], 3)
  if not script.training:
    return _norm(h, *(total / count for total in stored))
  moments = tuple(tf.nn.moments(h, [0]))
  for old, new in zip(stored + (count,), moments + (1.0,)):
    script.updates.append(tf.assign(old, 0.9 * old + new))
  return _norm(h, *moments)


def _steps(script, update):
  """A recurrent net whose steps have rows of two tables.

  Args:
    script: a Script.
    update: function of the two tables and the moments of all steps, gives
      the updates.
  """
  x = script.input([None, 5])
  tables = _table("means", [3, 6]), _table("variances", [3, 6], 1)
  state, moments = tf.zeros([tf.shape(x)[0], 6]), []
  for step in range(3):
    with tf.variable_scope("cell", reuse=tf.AUTO_REUSE):
      h = tf.layers.dense(x * (step + 1.0), 6, name="in")
      own = tf.layers.dense(state, 6, name="state")
      used = tuple(table[step] for table in tables)
      if script.training:
        used = tf.nn.moments(h, [0])
        moments.append(used)
      state = tf.tanh(_norm(h, *used) + own)
  if script.training:
    script.updates += update(tables, moments)
  return tf.layers.dense(state, 4, name="scores")


def steps_stacked(script):
  """One update stacks what all steps have."""
  return _steps(
    script,
    lambda tables, moments: [
      tf.assign(table, 0.9 * table + 0.1 * tf.stack(rows))
      for table, rows in zip(tables, zip(*moments))
    ],
  )


def _masked(tables, moments):
  updates = []
  for step, row in enumerate(moments):
    mask = tf.expand_dims(tf.one_hot(step, 3), 1)
    for table, value in zip(tables, row):
      updates.append(tf.assign_add(table, mask * (0.1 * (value - table))))
  return updates


def steps_masked(script):
  """An update a step, which a mask keeps to its row."""
  return _steps(script, _masked)


def steps_masked_in_turn(script):
  """The same, where each waits for the one before."""

  def update(tables, moments):
    updates = []
    for step, row in enumerate(moments):
      mask = tf.expand_dims(tf.one_hot(step, 3), 1)
      with tf.control_dependencies(updates[-2:]):
        for table, value in zip(tables, row):
          old = table + 0.0
          updates.append(tf.assign(table, old + mask * (0.1 * (value - old))))
    return updates[-2:]

  return _steps(script, update)


def classes_of_rows(script):
  """Statistics of each class of rows, chosen by a product with a one-hot."""
  x = script.input([None, 5])
  chosen = tf.one_hot(tf.cast(x[:, 0] > 0, tf.int32), 2)

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      used = _table("mean", [2, size]), _table("variance", [2, size], 1)
      if script.training:
        count = tf.expand_dims(tf.reduce_sum(chosen, 0), 1) + 1e-6
        mean = tf.matmul(chosen, h, transpose_a=True) / count
        squares = tf.matmul(chosen, h * h, transpose_a=True) / count
        moments = mean, squares - mean * mean
        for old, new in zip(used, moments):
          script.updates.append(tf.assign(old, 0.9 * old + 0.1 * new))
        used = moments
      return _norm(h, *(tf.matmul(chosen, rows) for rows in used))

  return backbones.dense_net(x, norm)


def whitened(tracked, undone, other_axis=False):
  """A norm by the covariance of the channels.

  Args:
    tracked: function of the covariance, gives the matrix that is averaged.
    undone: function of that matrix and of rows, gives what is whitened.
    other_axis: whether the rows are the second axis of the product.
  """

  def layer(script, h):
    size = int(h.shape[-1])
    stored = (
      _table("mean", [size]),
      tf.get_variable(
        "w",
        [size, size],
        trainable=False,
        initializer=tf.constant_initializer(1.5 * np.eye(size) + 0.3),
      ),
    )
    used = stored
    if script.training:
      mean = tf.reduce_mean(h, 0)
      rows = h - mean
      products = (
        tf.matmul(tf.transpose(rows), rows)
        if other_axis
        else tf.matmul(rows, rows, transpose_a=True)
      )
      count = tf.cast(tf.shape(h)[0], tf.float32)
      used = mean, tracked(products / count + 0.05 * tf.eye(size))
      for old, new in zip(stored, used):
        script.updates.append(tf.assign(old, 0.9 * old + 0.1 * new))
    beta = tf.get_variable("beta", [size])
    return undone(used[1], h - used[0]) + beta

  return _net(layer)


def _itself(matrix):
  return matrix


def _newton(matrix):
  """Newton's iteration for the inverse root, as IterNorm has it."""
  size = int(matrix.shape[0])
  trace = tf.trace(matrix)
  root = tf.eye(size)
  for _ in range(4):
    cube = tf.matmul(tf.matmul(root, root), root)
    root = 1.5 * root - 0.5 * tf.matmul(cube, matrix / trace)
  return root / tf.sqrt(trace)


def _by_cholesky(matrix, rows):
  lower = tf.cholesky(matrix)
  columns = tf.matrix_triangular_solve(lower, tf.transpose(rows))
  return tf.transpose(columns)


def _by_product(matrix, rows):
  return tf.matmul(rows, matrix)


def whitened_groups(script, h):
  """Groups of two channels, whose covariance takes rows on its last axis."""
  groups = int(h.shape[-1]) // 2
  used = (
    _table("mean", [2 * groups]),
    tf.get_variable(
      "w",
      [groups, 2, 2],
      trainable=False,
      initializer=tf.constant_initializer(np.stack([np.eye(2)] * groups)),
    ),
  )
  stored = used
  if script.training:
    mean = tf.reduce_mean(h, 0)
    columns = _columns(h - mean, groups)
    count = tf.cast(tf.shape(h)[0], tf.float32)
    matrix = tf.matmul(columns, columns, transpose_b=True) / count
    lower = tf.cholesky(matrix + 0.05 * tf.eye(2))
    used = mean, tf.linalg.inv(lower)
    for old, new in zip(stored, used):
      script.updates.append(tf.assign(old, 0.9 * old + 0.1 * new))
  white = tf.matmul(used[1], _columns(h - used[0], groups))
  return tf.reshape(tf.transpose(white, [2, 0, 1]), [-1, 2 * groups])


def _columns(rows, groups):
  """Rows of groups of two channels, as groups of two rows."""
  return tf.transpose(tf.reshape(rows, [-1, groups, 2]), [1, 2, 0])


def whitened_groups_net(script):
  h = tf.layers.dense(script.input([None, 5]), 6, name="in")
  with tf.variable_scope("norm"):
    h = tf.nn.relu(whitened_groups(script, h))
  return tf.layers.dense(h, 4, name="scores")


def element(script, h):
  """One row of a table with two indices."""
  size = int(h.shape[-1])
  tables = _table("means", [2, 3, size]), _table("variances", [2, 3, size], 1)
  used = tuple(table[1, 2] for table in tables)
  if not script.training:
    return _norm(h, *used)
  moments = tf.nn.moments(h, [0])
  for table, old, new in zip(tables, used, moments):
    blend = tf.expand_dims(0.9 * old + 0.1 * new, 0)
    script.updates.append(tf.scatter_nd_update(table, [[1, 2]], blend))
  return _norm(h, *moments)


def squared_deviation(script, h):
  """The square of a deviation, to which an epsilon was added."""
  size = h.shape[-1:]
  stored = _table("mean", size), _table("variance", size, 1)
  used = stored[0], tf.sqrt(stored[1])
  if script.training:
    mean, variance = tf.nn.moments(h, [0])
    used = mean, tf.sqrt(variance) + EPSILON
    tracked = mean, used[1] * used[1]
    for old, new in zip(stored, tracked):
      script.updates.append(tf.assign(old, 0.9 * old + 0.1 * new))
  return (h - used[0]) / used[1] + tf.get_variable("beta", size)


def rate_of_phase(script):
  """A phase of 0 and 1 that updates and rates are computed by."""
  x = script.input([None, 5])
  phase = script.phase("train", 1.0, 0.0, tf.float32)

  def norm(h, name):
    with tf.variable_scope(name):
      size = h.shape[-1:]
      stored = _table("mean", size), _table("variance", size, 1)
      moments = tf.nn.moments(h, [0])
      for old, new in zip(stored, moments):
        blend = phase * (0.9 * old + 0.1 * new) + (1.0 - phase) * old
        script.updates.append(tf.assign(old, blend))
      used = tf.cond(
        phase > 0.5,
        lambda: tuple(moments),
        lambda: tuple(tf.identity(old) for old in stored),
      )
      h = _norm(h, *used)
      return tf.nn.dropout(h, keep_prob=1.0 - 0.3 * phase)

  return backbones.dense_net(x, norm)


def averages_of_last(script, h):
  """Variables that hold the last batch's moments, and averages of those."""
  size = h.shape[-1:]
  last = _table("mean", size), _table("variance", size, 1)
  average = tf.train.ExponentialMovingAverage(0.9)
  if not script.training:
    average.apply(last)
    return _norm(h, *map(average.average, last))
  moments = tf.nn.moments(h, [0])
  written = [tf.assign(old, new) for old, new in zip(last, moments)]
  script.updates.append(average.apply(last))
  with tf.control_dependencies(written):
    return _norm(h, *(moment + 0.0 for moment in moments))


def _two(size):
  return [2, size]


def ring(script, h):
  """The last batches' statistics, which only a rebuilt graph averages."""
  size = int(h.shape[-1])
  rings = _table("means", [4, size]), _table("variances", [4, size], 1)
  if not script.training:
    return _norm(h, *(tf.reduce_mean(rows, 0) for rows in rings))
  moments = tf.nn.moments(h, [0])
  for rows, new in zip(rings, moments):
    shifted = tf.concat([rows[1:], tf.expand_dims(new, 0)], 0)
    script.updates.append(tf.assign(rows, shifted))
  return _norm(h, *moments)


_BOTH = {"roles": {"both": "variance"}}
# A matrix that has a root; what is drawn has none.
_MATRIX = {"values": {"/w": None}}

RECIPES = (
  recipe(
    "shared_stacked", stacked(_two, lambda *two: tf.stack(two), _rows), **_BOTH
  ),
  recipe(
    "shared_stacked_resource",
    stacked(_two, lambda *two: tf.stack(two), tf.unstack, resource=True),
    **_BOTH,
  ),
  recipe(
    "shared_stacked_last_axis",
    stacked(
      lambda size: [size, 2],
      lambda *two: tf.stack(two, -1),
      lambda stored: tf.unstack(stored, axis=-1),
    ),
    **_BOTH,
  ),
  recipe(
    "shared_joined",
    stacked(lambda size: [2 * size], lambda *two: tf.concat(two, 0), _halves),
    **_BOTH,
  ),
  recipe("shared_blended_rows", _net(blended_rows), **_BOTH),
  recipe("shared_blended_unstacked", _net(blended_unstacked), **_BOTH),
  recipe("shared_variance_about_old_mean", about_stored(_of_old)),
  recipe("shared_variance_about_new_mean", about_stored(_of_new)),
  recipe("shared_variance_about_both_means", about_stored(_of_both)),
  recipe("shared_clipped", clipped((-50.0, 1e-4), (50.0, 50.0))),
  recipe("shared_clipped_narrow", clipped((-1.0, 0.1), (1.0, 2.0))),
  # Norms that run together have counted alike.
  recipe(
    "shared_decayed_sums",
    _net(decayed_sums),
    values={"count": 7.0},
    roles={"total": "mean", "spread": "variance"},
  ),
  recipe("shared_steps_stacked", steps_stacked),
  recipe("shared_steps_masked", steps_masked),
  recipe("shared_steps_masked_in_turn", steps_masked_in_turn),
  recipe("shared_classes_of_rows", classes_of_rows),
  recipe(
    "shared_whitened_cholesky", whitened(_itself, _by_cholesky), **_MATRIX
  ),
  recipe("shared_whitened_newton", whitened(_newton, _by_product)),
  recipe(
    "shared_whitened_other_axis",
    whitened(_newton, _by_product, other_axis=True),
  ),
  recipe("shared_whitened_groups", whitened_groups_net, **_MATRIX),
  recipe("shared_element", _net(element)),
  recipe("shared_squared_deviation", _net(squared_deviation)),
  recipe("shared_rate_of_phase", rate_of_phase),
  recipe("shared_averages_of_last", _net(averages_of_last)),
  recipe("refuse_ring_of_batches", _net(ring), expect="refuse"),
)
