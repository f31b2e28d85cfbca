# SPDX-License-Identifier: Apache-2.0
"""Small training graphs whose updates are mistaken, as people write them.

The truth is what the model answers that is built for inference, with the stored
values as they are. Whatever the mistake, no other answer is called proven.
"""

import numpy as np
import pytest
from judges import opening

from bnexport.errors import Error
from bnexport.exporting.export import Options, export
from bnexport.proof.comparison import DIFFERS, NOT_PROVEN, PROVEN
from bnexport.proof.runs import ImportedGraph
from bnexport.tf1 import session, tf1

REFUSED = "refused"
_STEPS = 40


def ema(variable, value, decay=0.9):
  return tf1.assign(variable, variable * decay + value * (1 - decay))


def both(mean, variance, values):
  return [ema(mean, values[0]), ema(variance, values[1])]


def half_of_the_batch(mean, variance, h):
  return both(mean, variance, tf1.nn.moments(h[: tf1.shape(h)[0] // 2], [0]))


def behind_the_activation(mean, variance, h):
  return both(mean, variance, tf1.nn.moments(tf1.nn.relu(h), [0]))


def copy_of_the_last_batch(mean, variance, h):
  used = tf1.nn.moments(h, [0])
  last = tf1.get_variable("last", mean.shape, trainable=False)
  return [ema(mean, last), tf1.assign(last, used[0]), ema(variance, used[1])]


def in_the_first_steps_only(mean, variance, h):
  count = tf1.get_variable("count", [], initializer=tf1.zeros_initializer())
  rate = tf1.cast(count < 8, tf1.float32) * 0.1
  return [tf1.assign_add(count, 1.0)] + [
    tf1.assign_add(v, (s - v) * rate)
    for v, s in zip((mean, variance), tf1.nn.moments(h, [0]))
  ]


def rates_that_do_not_add_up_to_one(mean, variance, h):
  used = tf1.nn.moments(h, [0])
  return [tf1.assign(mean, mean * 0.9 + used[0] * 0.2), ema(variance, used[1])]


def of_the_first_row(mean, variance, h):
  return both(mean, variance, (h[0], tf1.nn.moments(h, [0])[1]))


def mean_of_sizes(mean, variance, h):
  used = tf1.nn.moments(h, [0])
  return both(mean, variance, (tf1.reduce_mean(tf1.abs(h), 0), used[1]))


def of_all_channels(mean, variance, h):
  used = tf1.nn.moments(h, [0])
  flat = tf1.zeros_like(used[0]) + tf1.reduce_mean(h)
  return both(mean, variance, (flat, used[1]))


def about_the_stored_mean(mean, variance, h):
  used = tf1.nn.moments(h, [0])[0]
  return both(mean, variance, (used, tf1.reduce_mean(tf1.square(h - mean), 0)))


def largest_so_far(mean, variance, h):
  used = tf1.nn.moments(h, [0])
  largest = tf1.assign(variance, tf1.maximum(variance, used[1]))
  return [ema(mean, used[0]), largest]


def clipped(mean, variance, h):
  used = tf1.nn.moments(h, [0])
  return both(mean, variance, (tf1.clip_by_value(used[0], -0.1, 0.1), used[1]))


def correction_upside_down(mean, variance, h):
  used, n = tf1.nn.moments(h, [0]), tf1.cast(tf1.shape(h)[0], tf1.float32)
  return both(mean, variance, (used[0], used[1] * (n - 1) / n))


def channels_rolled(mean, variance, h):
  return both(
    mean, variance, [tf1.roll(s, 1, 0) for s in tf1.nn.moments(h, [0])]
  )


MISTAKES = {
  half_of_the_batch: NOT_PROVEN,
  behind_the_activation: NOT_PROVEN,
  copy_of_the_last_batch: PROVEN,
  in_the_first_steps_only: PROVEN,
  rates_that_do_not_add_up_to_one: REFUSED,
  of_the_first_row: REFUSED,
  mean_of_sizes: REFUSED,
  of_all_channels: DIFFERS,
  about_the_stored_mean: PROVEN,
  largest_so_far: REFUSED,
  clipped: DIFFERS,
  correction_upside_down: REFUSED,
  channels_rolled: REFUSED,
}


def net(mistake, updates):
  """Two layers behind norms; `updates` gets those of training, or is None."""
  h = tf1.placeholder(tf1.float32, [None, 5], "x")
  for name in ("first", "second"):
    with tf1.variable_scope(name, use_resource=False):
      w = tf1.get_variable("w", [h.shape[-1], 6])
      beta = tf1.get_variable("beta", [6])
      h = tf1.matmul(h, w)
      mean, variance = (
        tf1.get_variable(n, [6], trainable=False, initializer=start())
        for n, start in zip("ab", (tf1.zeros_initializer, tf1.ones_initializer))
      )
      used = mean, variance
      if updates is not None:
        used = tf1.nn.moments(h, [0])
        updates += mistake(mean, variance, h)
      h = tf1.nn.relu((h - used[0]) * tf1.rsqrt(used[1] + 1e-3) + beta)
  return tf1.identity(tf1.reduce_sum(h, 1, keepdims=True) + h, "y")


def trained(mistake, prefix):
  """Trains, saves, and returns rows and what they are answered at inference."""
  random, rows = np.random.RandomState(5), []
  for updates in ([], None):
    with tf1.Graph().as_default() as graph, session(graph) as running:
      tf1.set_random_seed(3)
      y = net(mistake, updates)
      if updates is None:
        tf1.train.Saver().restore(running, prefix)
        return rows, running.run(y, {"x:0": rows})
      running.run(tf1.global_variables_initializer())
      for _ in range(_STEPS):
        rows = (random.randn(16, 5) * 2 + 0.5).astype(np.float32)
        running.run(updates, {"x:0": rows})
      tf1.train.Saver().save(running, prefix)
  raise AssertionError


def judged(prefix):
  """The verdict on an export, and the Export; None where it is refused."""
  try:
    made = export(opening.trained(prefix, ["y"]), Options())
  except Error:
    return REFUSED, None
  return made.prove().verdict, made


@pytest.mark.parametrize("mistake", list(MISTAKES), ids=lambda m: m.__name__)
def test_verdict_on_a_mistake(tmp_path, mistake):
  prefix = str(tmp_path / "model.ckpt")
  trained(mistake, prefix)
  assert judged(prefix)[0] == MISTAKES[mistake]


@pytest.mark.parametrize(
  "mistake",
  [mistake for mistake, verdict in MISTAKES.items() if verdict == PROVEN],
  ids=lambda m: m.__name__,
)
def test_what_is_proven_is_what_the_model_answers(tmp_path, mistake):
  prefix = str(tmp_path / "model.ckpt")
  rows, truth = trained(mistake, prefix)
  verdict, made = judged(prefix)
  assert verdict == PROVEN
  with ImportedGraph(made.to_graph_def(), ["y"]) as run:
    (y,) = run.run({"x": rows})
  np.testing.assert_allclose(y, truth, rtol=1e-4, atol=1e-4)
