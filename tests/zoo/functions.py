# SPDX-License-Identifier: Apache-2.0
"""Norms in functions: branches, loops, calls in calls and recursion."""

import tensorflow as tf
from tensorflow.python.eager import def_function
from tensorflow.python.framework import function
from tensorflow.python.ops import functional_ops, gen_functional_ops

from tests.zoo.script import recipe


class _Norm:
  """A norm whose variables were made outside of the function it is used in."""

  def __init__(self, size, name):
    with tf.variable_scope(name):
      self.stored = [
        tf.get_variable("moving_" + n, [size], trainable=False)
        for n in ("mean", "variance")
      ]
      self.beta = tf.get_variable("beta", [size])
      self.gamma = tf.get_variable("gamma", [size])

  def __call__(self, h, training):
    axes = list(range(h.shape.ndims - 1))
    used = [s.read_value() for s in self.stored]
    if training:
      used = tf.nn.moments(h, axes)
      for stored, value in zip(self.stored, used):
        stored.assign_sub(0.1 * (stored - value))
    return self.apply(h, *used)

  def apply(self, h, mean, variance):
    return tf.nn.batch_normalization(
      h, mean, variance, self.beta, self.gamma, 1e-3
    )


def _dense(script):
  tf.enable_resource_variables()
  x = script.input([None, 7])
  return tf.layers.dense(x, 6, name="first")


def _end(h):
  h.set_shape([None, 6])
  return tf.layers.dense(h, 5, name="logits")


def _by_data(script, count):
  """A number below `count` that the batch as a whole tells."""
  total = tf.reduce_sum(tf.abs(script.x)) * 10.0
  return tf.floormod(tf.cast(total, tf.int32), count)


def case_by_data(script):
  """Which of four norms is used is a question of the data."""
  tf.enable_control_flow_v2()
  h = _dense(script)
  norms = [_Norm(6, f"norm{i}") for i in range(4)]

  def branch(i):
    return lambda: tf.nn.relu(norms[i](h, script.training)) * (i + 1.0)

  return _end(
    tf.switch_case(_by_data(script, 4), [branch(i) for i in range(4)])
  )


def case_by_phase(script):
  """Of five ways two are training, and one of the others is inference."""
  tf.enable_control_flow_v2()
  h = _dense(script)
  mode = script.phase("mode", train=3, infer=1, dtype=tf.int32)
  norm = _Norm(6, "norm")

  def branch(i):
    return lambda: tf.nn.relu(norm(h, i in (0, 3)) * (2.0 if i == 4 else 1.0))

  return _end(tf.switch_case(mode, [branch(i) for i in range(5)]))


def case_in_case(script):
  tf.enable_control_flow_v2()
  h = _dense(script)
  norms = [_Norm(6, f"norm{i}") for i in range(4)]
  outer, inner = _by_data(script, 3), _by_data(script, 5)

  def use(i):
    return tf.nn.relu(norms[i](h, script.training))

  def nested():
    rest = [lambda: use(1), lambda: use(2), lambda: use(3) * 2.0]
    return tf.switch_case(tf.floormod(inner, 3), rest) + 1.0

  return _end(tf.switch_case(outer, [lambda: use(0), nested, lambda: -use(0)]))


def case_in_while(script):
  """A loop in whose turns a Case chooses by their number."""
  tf.enable_control_flow_v2()
  h = _dense(script)
  norms = [_Norm(6, f"norm{i}") for i in range(3)]

  def body(i, h):
    def branch(k):
      return lambda: tf.tanh(norms[k](h, script.training))

    h = h + tf.switch_case(i, [branch(k) for k in range(3)])
    h.set_shape([None, 6])
    return i + 1, h

  _, h = tf.while_loop(lambda i, _: i < 3, body, [0, h])
  return _end(h)


def cond_in_while(script):
  """The phase is asked in each turn of a loop."""
  tf.enable_control_flow_v2()
  h = _dense(script)
  phase = script.phase()
  norm = _Norm(6, "norm")

  def body(i, h):
    g = tf.cond(phase, lambda: norm(h, True), lambda: norm(h, False))
    g.set_shape([None, 6])
    return i + 1, h + tf.tanh(g)

  _, h = tf.while_loop(lambda i, _: i < 3, body, [0, h])
  return _end(h)


def while_in_while(script):
  tf.enable_control_flow_v2()
  h = _dense(script)
  norm = _Norm(6, "norm")

  def outer(i, h):
    def inner(j, g):
      return j + 1, g + tf.tanh(norm(g, script.training))

    _, g = tf.while_loop(lambda j, _: j < 2, inner, [0, h])
    return i + 1, g * 0.5

  _, h = tf.while_loop(lambda i, _: i < 2, outer, [0, h])
  return _end(h)


def map_in_function(script):
  """map_fn in a tf.function, behind a norm and before one."""
  tf.enable_control_flow_v2()
  h = _dense(script)
  norms = [_Norm(6, f"norm{i}") for i in range(2)]

  @def_function.function
  def call(h):
    h = tf.nn.relu(norms[0](h, script.training))
    h = tf.map_fn(lambda row: row / (1.0 + tf.reduce_max(row)), h)
    h.set_shape([None, 6])
    return norms[1](h, script.training)

  return _end(call(h))


def functions_in_functions(script):
  """Three functions, each of which calls the one before twice."""
  h = _dense(script)
  norms = [_Norm(6, f"norm{i}") for i in range(2)]

  @def_function.function
  def first(h, k):
    return tf.nn.relu(norms[0](h, script.training)) * k

  @def_function.function
  def second(h):
    return norms[1](first(h, 2.0) - h, script.training)

  @def_function.function
  def third(h):
    return second(h) + tf.tanh(h)

  return _end(third(h))


def defuns_in_defuns(script):
  """Functions of TF 1, which are ops of the graph."""
  x = script.input([None, 7])
  h = tf.layers.dense(x, 6, name="first")
  norm = _Norm(6, "norm")

  @function.Defun(tf.float32)
  def moments(h):
    mean = tf.reduce_mean(h, 0)
    return mean, tf.reduce_mean(tf.square(h - mean), 0)

  @function.Defun(*[tf.float32] * 5)
  def scaled(h, mean, variance, beta, gamma):
    return tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-3)

  @function.Defun(*[tf.float32] * 5)
  def activated(*args):
    return tf.nn.relu(scaled(*args))

  used = list(norm.stored)
  if script.training:
    used = moments(h)
    for stored, value in zip(norm.stored, used):
      value.set_shape([6])
      script.updates.append(tf.assign_sub(stored, 0.1 * (stored - value)))
  return _end(activated(h, used[0], used[1], norm.beta, norm.gamma))


def _recursive(script, depth):
  """A function of TF 1 that calls itself: halves, `depth` times."""
  x = script.input([None, 7])
  h = tf.layers.dense(x, 6, name="first")
  h = tf.layers.batch_normalization(h, training=script.training, name="norm1")

  def again(h, n):
    """A call of a function by its name: it may be the one that is written."""
    (y,) = gen_functional_ops.partitioned_call([h, n], [tf.float32], "Halved")
    return y

  @function.Defun(tf.float32, tf.int32, func_name="More")
  def more(h, n):
    return again(tf.tanh(h) * 0.5 + h, n - 1)

  @function.Defun(tf.float32, tf.int32, func_name="Done")
  def done(h, n):
    del n
    return tf.identity(h)

  @function.Defun(tf.float32, tf.int32, func_name="Halved", out_names=["y"])
  def halved(h, n):
    return functional_ops.If(n > 0, [h, n], more, done)[0]

  halved.add_to_graph(tf.get_default_graph())
  h = tf.stop_gradient(again(h, depth()))
  h.set_shape([None, 6])
  h = tf.layers.batch_normalization(h, training=script.training, name="norm2")
  return _end(tf.nn.relu(h))


def recursion(script):
  return _recursive(script, lambda: tf.constant(4))


def recursion_by_data(script):
  return _recursive(script, lambda: _by_data(script, 3) + 1)


def remote_call(script):
  """A function called on some device by a StatefulPartitionedCall."""
  h = _dense(script)
  norm = _Norm(6, "norm")

  @function.Defun(*[tf.float32] * 5)
  def call(h, beta, gamma, mean, variance):
    return tf.nn.batch_normalization(h, mean, variance, beta, gamma, 1e-3)

  used = [s.read_value() for s in norm.stored]
  if script.training:
    used = tf.nn.moments(h, [0])
    script.updates += [
      s.assign(0.9 * s + 0.1 * u) for s, u in zip(norm.stored, used)
    ]
  call.add_to_graph(tf.get_default_graph())
  args = [h, norm.beta.read_value(), norm.gamma.read_value(), *used]
  (h,) = gen_functional_ops.partitioned_call(args, [tf.float32], call)
  return _end(h)


def _data(name, model):
  return recipe("function_" + name, model, joint=True)


RECIPES = [
  _data("case_by_data", case_by_data),
  recipe("function_case_by_phase", case_by_phase, set={"mode": 1}),
  _data("case_in_case", case_in_case),
  recipe("function_case_in_while", case_in_while),
  recipe("function_cond_in_while", cond_in_while),
  recipe("function_while_in_while", while_in_while),
  recipe("function_map_inside", map_in_function),
  recipe("function_in_functions", functions_in_functions),
  recipe("function_defuns", defuns_in_defuns),
  recipe("function_partitioned_call", remote_call),
  # TensorFlow ends the process where it imports such a graph to run it.
  recipe("refuse_recursion", recursion, expect="refuse"),
  recipe(
    "refuse_recursion_by_data", recursion_by_data, joint=True, expect="refuse"
  ),
]
