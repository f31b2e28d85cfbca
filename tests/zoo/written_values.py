# SPDX-License-Identifier: Apache-2.0
"""Variables that are written in part, in a row or by sums, and read again."""

import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.script import BATCH, recipe

EPSILON = 1e-3
_STEPS = 4


def _table(name, shape, value, **options):
  return tf.get_variable(
    name,
    shape,
    trainable=False,
    initializer=tf.constant_initializer(value),
    **options,
  )


def _affine(h):
  size = h.shape[-1:]
  return (
    tf.get_variable("beta", size),
    tf.get_variable("gamma", size, initializer=tf.ones_initializer()),
  )


def _norm(h, mean, variance):
  beta, gamma = _affine(h)
  return tf.nn.batch_normalization(h, mean, variance, beta, gamma, EPSILON)


# Rows of time steps.


def _update_row(table, t, new):
  return tf.scatter_update(table, t, table[t] * 0.9 + new * 0.1)


def _sub_row(table, t, new):
  old = tf.gather(table, [t])
  return tf.scatter_sub(table, [t], (old - new) * 0.1)


def _add_row(table, t, new):
  return tf.scatter_add(table, [t], [0.1 * (new - table[t])])


def _update_nd_row(table, t, new):
  old = tf.gather_nd(table, [[t]])
  return tf.scatter_nd_update(table, [[t]], old + 0.1 * (new - old))


def _assign_slice(table, t, new):
  return tf.assign(table[t], table[t] * 0.9 + new * 0.1)


def _assign_wide_slice(table, t, new):
  old = table[t : t + 1, :]
  return tf.assign(
    table[t : t + 1, :], old * 0.9 + 0.1 * tf.expand_dims(new, 0)
  )


def _resource_sub_row(table, t, new):
  old = tf.gather(table, t)
  return table.scatter_sub(tf.IndexedSlices((old - new) * 0.1, t))


def unrolled(update, resource=False, clipped=None):
  """A recurrent net that is unrolled, with averages of its own each step."""

  def model(script):
    x = script.input([None, _STEPS, 3])
    kernel = tf.get_variable("kernel", [3, 5])
    recurrent = tf.get_variable("recurrent", [5, 5])
    rows = _STEPS if clipped is None else clipped
    stored = [
      _table(n, [rows, 5], v, use_resource=resource)
      for n, v in (("pop_mean", 0.0), ("pop_var", 1.0))
    ]
    beta = tf.get_variable("beta", [5])
    gamma = tf.get_variable("gamma", [5], initializer=tf.ones_initializer())
    h = tf.zeros([tf.shape(x)[0], 5])
    for t in range(_STEPS):
      a = tf.matmul(x[:, t], kernel)
      row = min(t, rows - 1)
      used = [table[row] for table in stored]
      if script.training:
        used = tf.nn.moments(a, [0])
        if t == row:
          script.updates += [
            update(table, row, new) for table, new in zip(stored, used)
          ]
      a = tf.nn.batch_normalization(a, *used, beta, gamma, EPSILON)
      h = tf.tanh(a + tf.matmul(h, recurrent))
    return tf.layers.dense(h, 4, name="scores")

  return model


def looped(script):
  """A while loop that updates the row of each step on the way."""
  x = script.input([None, _STEPS, 3])
  kernel = tf.get_variable("kernel", [3, 5])
  recurrent = tf.get_variable("recurrent", [5, 5])
  stored = [
    _table(n, [_STEPS, 5], v) for n, v in (("pop_mean", 0.0), ("pop_var", 1.0))
  ]
  beta = tf.get_variable("beta", [5])
  steps = tf.transpose(x, [1, 0, 2])

  def body(t, h):
    a = tf.matmul(tf.gather(steps, t), kernel)
    used = [tf.gather(table, t) for table in stored]
    if script.training:
      used = tf.nn.moments(a, [0])
      updates = [
        tf.scatter_update(table, t, 0.9 * tf.gather(table, t) + 0.1 * new)
        for table, new in zip(stored, used)
      ]
      with tf.control_dependencies(updates):
        used = [tf.identity(u) for u in used]
    a = tf.nn.batch_normalization(a, *used, beta, None, EPSILON)
    return t + 1, tf.tanh(a + tf.matmul(h, recurrent))

  first = tf.zeros([tf.shape(x)[0], 5])
  _, h = tf.while_loop(lambda t, h: t < _STEPS, body, [0, first])
  return tf.layers.dense(h, 4, name="scores")


# Rows of domains, tasks, or of several statistics in one variable.


def _rows(script, row, update, resource=False, count=3):
  x = script.input([None, 5])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      stored = [
        _table(n, [count, size], v, use_resource=resource)
        for n, v in (("means", 0.0), ("variances", 1.0))
      ]
      used = [tf.gather(table, row) for table in stored]
      if script.training:
        used = tf.nn.moments(h, [0])
        script.updates += [update(t, row, u) for t, u in zip(stored, used)]
      return _norm(h, *used)

  return backbones.dense_net(x, norm)


def domain_constant(script):
  """The domain is a number in the code."""
  return _rows(script, 1, _update_row)


def domain_constant_resource(script):
  return _rows(script, 2, _resource_sub_row, resource=True)


def domain_fed(script):
  """The domain is fed."""
  row = script.value("domain", 1, 1, tf.int32)
  return _rows(script, row, _sub_row)


def domain_fed_slice(script):
  row = script.value("domain", 2, 2, tf.int32)
  return _rows(script, row, _assign_slice)


def both_in_one(script):
  """Mean and variance are two rows of one variable."""
  x = script.input([None, 5])

  def norm(h, name):
    with tf.variable_scope(name):
      stored = _table("statistics", [2, int(h.shape[-1])], 1.0)
      used = [stored[0], stored[1]]
      if script.training:
        used = tf.nn.moments(h, [0])
        script.updates += [
          tf.scatter_sub(stored, [i], [(stored[i] - u) * 0.1])
          for i, u in enumerate(used)
        ]
      return _norm(h, *used)

  return backbones.dense_net(x, norm)


def fused_rows(script):
  """Rows of tasks beside fused_batch_norm."""
  x = script.input([None, 6, 6, 3])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      stored = _table("means", [2, size], 0.0), _table("vars", [2, size], 1.0)
      beta, gamma = _affine(h)
      if not script.training:
        return tf.nn.fused_batch_norm(
          h,
          gamma,
          beta,
          stored[0][1],
          stored[1][1],
          EPSILON,
          is_training=False,
        )[0]
      y, *used = tf.nn.fused_batch_norm(h, gamma, beta, epsilon=EPSILON)[:3]
      script.updates += [_update_row(t, 1, u) for t, u in zip(stored, used)]
      return y

  return backbones.conv_net(x, norm)


def logarithm_rows(script):
  """Rows that hold logarithms of variances."""
  x = script.input([None, 5])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      means, logs = _table("means", [2, size], 0.0), _table("z", [2, size], 0.0)
      used = means[0], tf.exp(logs[0])
      if script.training:
        used = tf.nn.moments(h, [0])
        script.updates += [
          _update_row(means, 0, used[0]),
          _update_row(logs, 0, tf.log(used[1])),
        ]
      return _norm(h, *used)

  return backbones.dense_net(x, norm)


# Several writes of one average in a run.


def in_sequence(first, second):
  """An average that decays by one update and is added to by another."""

  def model(script):
    x = script.input([None, 5])

    def norm(h, name):
      with tf.variable_scope(name):
        size = int(h.shape[-1])
        stored = [
          _table(n, [2, size], v) for n, v in (("means", 0.0), ("vars", 1.0))
        ]
        used = [table[1] for table in stored]
        if script.training:
          used = tf.nn.moments(h, [0])
          for table, new in zip(stored, used):
            with tf.control_dependencies([first(table, 1)]):
              script.updates.append(second(table, 1, new * 0.1))
        return _norm(h, *used)

    return backbones.dense_net(x, norm)

  return model


def decayed_then_added(script):
  """The same of whole variables."""
  x = script.input([None, 5])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      stored = _table("m", [size], 0.0), _table("v", [size], 1.0)
      used = stored
      if script.training:
        used = tf.nn.moments(h, [0])
        for old, new in zip(stored, used):
          decayed = tf.assign(old, old * 0.9)
          with tf.control_dependencies([decayed]):
            script.updates.append(tf.assign_add(old, new * 0.1))
      return _norm(h, *used)

  return backbones.dense_net(x, norm)


def chained_updates(script):
  """The second update takes the first one's reference."""
  x = script.input([None, 5])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      stored = _table("m", [size], 0.0), _table("v", [size], 1.0)
      used = stored
      if script.training:
        used = tf.nn.moments(h, [0])
        for old, new in zip(stored, used):
          decayed = tf.assign_sub(old, 0.1 * old)
          script.updates.append(tf.assign_add(decayed, new * 0.1))
      return _norm(h, *used)

  return backbones.dense_net(x, norm)


# Sums and counts.


def sums(
  means, squares=False, rows=lambda h: tf.cast(tf.shape(h)[0], tf.float32)
):
  """Sums over all batches, divided by a count at inference.

  Args:
    means: whether means of batches are added up.
    squares: whether squares are, in the place of variances.
    rows: what a batch counts.
  """

  def model(script):
    x = script.input([None, 5])
    count = _table("total", [], 4.0)

    def norm(h, name):
      with tf.variable_scope(name):
        size = int(h.shape[-1])
        stored = _table("sum_a", [size], 0.0), _table("sum_b", [size], 1.0)
        if not script.training:
          mean, second = (s / count for s in stored)
          if squares:
            second -= tf.square(mean)
          return _norm(h, mean, second)
        used = tf.nn.moments(h, [0])
        added = [used[0], used[1] + tf.square(used[0]) if squares else used[1]]
        if not means:
          added = [tf.reduce_sum(h, 0), tf.reduce_sum(tf.square(h), 0)]
        script.updates += [tf.assign_add(s, a) for s, a in zip(stored, added)]
        return _norm(h, *used)

    answer = backbones.dense_net(x, norm)
    if script.training:
      script.updates.append(tf.assign_add(count, 1.0 if means else rows(x)))
    return answer

  return model


# Moments of other kinds.


def masked(lengths=None):
  """Means over the steps that are no padding."""

  def model(script):
    x = script.input([None if lengths is None else len(lengths), 6, 3])
    h = tf.layers.conv1d(x, 5, 3, padding="same", name="conv")
    if lengths is None:
      mask = tf.cast(tf.greater(x[:, :, :1], 0.0), tf.float32)
    else:
      mask = tf.expand_dims(tf.sequence_mask(lengths, 6, tf.float32), 2)
    stored = _table("m", [5], 0.0), _table("v", [5], 1.0)
    used = stored
    if script.training:
      count = tf.maximum(tf.reduce_sum(mask), 1.0)
      mean = tf.reduce_sum(h * mask, [0, 1]) / count
      centred = tf.square(h - mean) * mask
      used = mean, tf.reduce_sum(centred, [0, 1]) / count
      script.updates += [
        tf.assign_sub(o, (o - n) * 0.1) for o, n in zip(stored, used)
      ]
    h = tf.nn.relu(_norm(h, *used))
    return tf.layers.dense(tf.reduce_max(h, 1), 4, name="scores")

  return model


def weighted(script):
  """tf.nn.weighted_moments, by weights that come from the input."""
  x = script.input([None, 5])
  weights = tf.sigmoid(x[:, :1])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      stored = _table("m", [size], 0.0), _table("v", [size], 1.0)
      used = stored
      if script.training:
        used = tf.nn.weighted_moments(h, [0], weights)
        script.updates += [
          tf.assign_sub(o, (o - n) * 0.1) for o, n in zip(stored, used)
        ]
      return _norm(h, *used)

  return backbones.dense_net(x, norm)


def divided_sums(script):
  """Means as sums over the number of rows, which is computed."""
  x = script.input([None, 6, 6, 3])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      stored = _table("m", [size], 0.0), _table("v", [size], 1.0)
      used = stored
      if script.training:
        shape = tf.cast(tf.shape(h), tf.float32)
        count = shape[0] * shape[1] * shape[2]
        mean = tf.reduce_sum(h, [0, 1, 2]) / count
        used = mean, tf.reduce_sum(tf.square(h), [0, 1, 2]) / count - mean**2
        script.updates += [
          tf.assign_sub(o, (o - n) * 0.1) for o, n in zip(stored, used)
        ]
      return _norm(h, *used)

  return backbones.conv_net(x, norm)


def fixed_count(script):
  """The number of rows is a constant of the code, and so is the batch."""
  x = script.input([BATCH, 5])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      stored = _table("m", [size], 0.0), _table("v", [size], 1.0)
      used = stored
      if script.training:
        mean = tf.reduce_sum(h, 0) * (1.0 / BATCH)
        used = mean, tf.reduce_sum(tf.square(h - mean), 0) / BATCH
        script.updates += [
          tf.assign_sub(o, (o - n) * 0.1) for o, n in zip(stored, used)
        ]
      return _norm(h, *used)

  return backbones.dense_net(x, norm)


def transposed(script):
  """Channels are brought to the front, and rows are reduced last."""
  x = script.input([None, 6, 6, 3])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      stored = _table("m", [size, 1], 0.0), _table("v", [size, 1], 1.0)
      flat = tf.transpose(tf.reshape(h, [-1, size]))
      used = stored
      if script.training:
        used = tf.nn.moments(flat, [1], keep_dims=True)
        script.updates += [
          tf.assign_sub(o, (o - n) * 0.1) for o, n in zip(stored, used)
        ]
      normed = (flat - used[0]) * tf.rsqrt(used[1] + EPSILON)
      beta, gamma = _affine(h)
      shape = tf.shape(h)
      return tf.reshape(tf.transpose(normed), shape) * gamma + beta

  return backbones.conv_net(x, norm)


def ghost(script):
  """Groups of two rows have statistics of their own; one average for all."""
  x = script.input([None, 8])

  def norm(h, name):
    with tf.variable_scope(name):
      size = int(h.shape[-1])
      stored = _table("m", [size], 0.0), _table("v", [size], 1.0)
      if not script.training:
        return _norm(h, *stored)
      groups = tf.reshape(h, [-1, 2, size])
      mean, variance = tf.nn.moments(groups, [1], keep_dims=True)
      for old, new in zip(stored, (mean, variance)):
        new = tf.reduce_mean(new, [0, 1])
        script.updates.append(tf.assign_sub(old, (old - new) * 0.1))
      return tf.reshape(_norm(groups, mean, variance), [-1, size])

  return backbones.dense_net(x, norm)


# Several passes and norms.


def passes(answers):
  """Two passes through the same norms, of which the first updates.

  Args:
    answers: number of the pass that answers.
  """

  def model(script):
    x = script.input([None, 5])

    def norm(update):
      def call(h, name):
        with tf.variable_scope(name):
          size = int(h.shape[-1])
          stored = _table("m", [size], 0.0), _table("v", [size], 1.0)
          used = stored
          if script.training:
            used = tf.nn.moments(h, [0])
            if update:
              script.updates += [
                tf.assign_sub(o, (o - n) * 0.1) for o, n in zip(stored, used)
              ]
          return _norm(h, *used)

      return call

    if not script.training:
      return backbones.dense_net(x, norm(False))
    first = backbones.dense_net(x, norm(True))
    noisy = x + 0.1 * tf.sign(x)
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
      second = backbones.dense_net(noisy if answers == 0 else x, norm(False))
    script.losses = [
      script.default_loss((first, second)[answers]),
      tf.reduce_mean(tf.square(first - second)),
    ]
    return (first, second)[answers]

  return model


def two_norms(script):
  """Two norms of one tensor, for two heads, with different decays."""
  x = script.input([None, 5])
  h = tf.layers.dense(x, 6, name="trunk")
  heads = []
  for name, rate in (("left", 0.1), ("right", 0.01)):
    with tf.variable_scope(name):
      stored = _table("m", [6], 0.0), _table("v", [6], 1.0)
      used = stored
      if script.training:
        used = tf.nn.moments(h, [0])
        script.updates += [
          tf.assign_sub(o, (o - n) * rate) for o, n in zip(stored, used)
        ]
      heads.append(tf.layers.dense(tf.nn.relu(_norm(h, *used)), 3, name="out"))
  return heads


def synchronised(script):
  """Two towers whose moments are averaged before they are used."""
  if not script.training:
    x = script.input([None, 5])
    h = tf.layers.dense(x, 6, name="fc")
    stored = _table("m", [6], 0.0), _table("v", [6], 1.0)
    h = _norm(h, *stored)
    return tf.layers.dense(tf.nn.relu(h), 4, name="scores")
  x = script.input([None, 5])
  other = tf.reverse(tf.square(x), [1])
  hs = [tf.layers.dense(x, 6, name="fc")]
  hs.append(tf.layers.dense(other, 6, name="fc", reuse=True))
  stored = _table("m", [6], 0.0), _table("v", [6], 1.0)
  means = [tf.reduce_mean(h, 0) for h in hs]
  squares = [tf.reduce_mean(tf.square(h), 0) for h in hs]
  mean = tf.add_n(means) / 2.0
  variance = tf.add_n(squares) / 2.0 - tf.square(mean)
  for old, new in zip(stored, (mean, variance)):
    script.updates.append(tf.assign_sub(old, (old - new) * 0.1))
  h = _norm(hs[0], mean, variance)
  return tf.layers.dense(tf.nn.relu(h), 4, name="scores")


# Writes of weights whose value is used.


def padded_embedding(script):
  """Row 0 of the table is set to zero before it is looked up."""
  ids = script.input([None, 7], "ids", tf.int32, 11)
  table = tf.get_variable("table", [11, 5])
  emptied = tf.scatter_update(table, tf.constant([0]), tf.zeros([1, 5]))
  with tf.control_dependencies([emptied]):
    h = tf.nn.embedding_lookup(table, ids)
  h = tf.layers.conv1d(h, 6, 3, name="conv")
  h = tf.layers.batch_normalization(h, training=script.training, name="bn")
  return tf.layers.dense(tf.reduce_max(tf.nn.relu(h), 1), 3, name="out")


def padded_embedding_resource(script):
  """The same of a resource variable, by a slice."""
  ids = script.input([None, 7], "ids", tf.int32, 11)
  table = tf.get_variable("table", [11, 5], use_resource=True)
  with tf.control_dependencies([table[0].assign(tf.zeros([5]))]):
    h = tf.nn.embedding_lookup(table, ids)
  h = tf.layers.conv1d(h, 6, 3, name="conv")
  h = tf.layers.batch_normalization(h, training=script.training, name="bn")
  return tf.layers.dense(tf.reduce_max(tf.nn.relu(h), 1), 3, name="out")


def written_twice(script):
  """Factors are set, added to and read, by an order of control inputs."""
  x = script.input([None, 5])
  factors = tf.get_variable("factors", [5])
  with tf.control_dependencies([tf.assign(factors, tf.ones([5]))]):
    added = tf.assign_add(factors, 2.0 * tf.ones([5]))
  with tf.control_dependencies([added]):
    used = tf.identity(factors)
  return backbones.dense_net(
    tf.tanh(x) * used,
    lambda h, name: tf.layers.batch_normalization(
      h, training=script.training, name=name
    ),
  )


def limited_weights(script):
  """A kernel is clipped in place before it is used."""
  x = script.input([None, 5])
  kernel = tf.get_variable("kernel", [5, 6])
  limited = tf.assign(kernel, tf.clip_by_value(kernel, -0.2, 0.2))
  h = tf.matmul(x, limited)
  h = tf.layers.batch_normalization(h, training=script.training, name="bn")
  return tf.layers.dense(tf.nn.relu(h), 4, name="scores")


_SUMS = {
  "values": {"sum_b": 60.0, "total": 12.0},
  "roles": {"sum_a": "mean"},
}
_ROWS = {"roles": {"pop_mean": "mean", "pop_var": "variance"}}
_DECAYED = {"roles": {"means": "mean", "vars": "variance"}}
_MV = {"roles": {"/m": "mean", "/v": "variance"}}
_PLAIN = {"roles": {"m": "mean", "v": "variance"}}


def _multiply(table, row):
  return tf.scatter_mul(table, [row], tf.fill([1, int(table.shape[1])], 0.9))


RECIPES = (
  recipe("written_rows_update", unrolled(_update_row), **_ROWS),
  recipe("written_rows_sub", unrolled(_sub_row), **_ROWS),
  recipe("written_rows_add", unrolled(_add_row), **_ROWS),
  recipe("written_rows_nd", unrolled(_update_nd_row), **_ROWS),
  recipe("written_rows_slice", unrolled(_assign_slice), **_ROWS),
  recipe("written_rows_wide_slice", unrolled(_assign_wide_slice), **_ROWS),
  recipe("written_rows_resource", unrolled(_resource_sub_row, True), **_ROWS),
  recipe("written_rows_looped", looped, **_ROWS),
  recipe("written_domain", domain_constant, roles={"means": "mean"}),
  recipe(
    "written_domain_resource", domain_constant_resource, roles={"means": "mean"}
  ),
  recipe("written_domain_fed", domain_fed, set={"domain": "1"}),
  recipe("written_domain_fed_slice", domain_fed_slice, set={"domain": "2"}),
  recipe("written_both_in_one", both_in_one, roles={"statistics": "variance"}),
  recipe("written_fused_rows", fused_rows, **_DECAYED),
  recipe(
    "written_log_rows", logarithm_rows, roles={"means": "mean", "/z": "mean"}
  ),
  recipe(
    "written_multiplied_row",
    in_sequence(
      _multiply, lambda table, row, new: tf.scatter_add(table, [row], [new])
    ),
    **_DECAYED,
  ),
  recipe(
    "written_decayed_row",
    in_sequence(
      lambda table, row: tf.scatter_update(table, row, table[row] * 0.9),
      lambda table, row, new: tf.scatter_add(table, row, new),
    ),
    **_DECAYED,
  ),
  recipe("written_decayed_then_added", decayed_then_added, **_MV),
  recipe("written_chained", chained_updates, **_MV),
  recipe("written_sums_of_rows", sums(False, True), **_SUMS),
  recipe(
    "written_sums_of_means",
    sums(True),
    values={"total": 12.0, "sum_b": 9.0},
    roles={"sum_a": "mean"},
  ),
  recipe("written_sums_of_squares", sums(True, True), **_SUMS),
  recipe("written_masked", masked(), **_PLAIN),
  recipe(
    "written_masked_lengths", masked([6, 3, 4, 2, 5, 6]), joint=True, **_PLAIN
  ),
  recipe("written_weighted", weighted, **_MV),
  recipe("written_divided_sums", divided_sums, **_MV),
  recipe("written_fixed_count", fixed_count, joint=True, **_MV),
  recipe("written_transposed", transposed, **_MV),
  recipe("written_ghost", ghost, joint=True, **_MV),
  recipe("written_passes_first", passes(0), **_MV),
  recipe("written_passes_second", passes(1), **_MV),
  recipe("written_two_norms", two_norms, **_MV),
  recipe("written_synchronised", synchronised, **_PLAIN),
  recipe("written_embedding", padded_embedding),
  recipe("written_embedding_resource", padded_embedding_resource),
  recipe("written_twice", written_twice),
  recipe("written_limited_weights", limited_weights),
)
