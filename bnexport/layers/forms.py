# SPDX-License-Identifier: Apache-2.0
"""Batch norm by the fused op, by stored averages and by batch statistics."""

from __future__ import annotations

from bnexport.layers.layer import (
  Layer,
  axes_of,
  broadcast_shape,
  can_be_fused,
  make_variables,
  refuse,
  variable_shape,
)
from bnexport.layers.parameters import refusal, refuse_fused_float64
from bnexport.layers.updates import (
  assign_new,
  debiased_moving_average,
  either,
  known,
  moving_average,
)
from bnexport.tf1 import tf1


def normalize(x, training, options):
  """Builds a layer in the current variable scope.

  Args:
    x: tensor.
    training: bool, 0 or 1, or a bool tensor.
    options: Options.

  Returns:
    The output, the Variables, and a function that adds the updates of
    moving_mean and moving_variance and returns them: none for inference, and
    none where the output depends on them already.

  Raises:
    LayerError: the options contradict each other or the input.
  """
  axes = axes_of(x, options)
  refuse(x, axes, options)
  is_fused = can_be_fused(x, axes, options)
  if is_fused:
    refuse_fused_float64(x)
  variables = make_variables(x, axes, options)
  layer = Layer(x, training, axes, options, variables, is_fused)
  if is_fused:
    y, updates = _fused(layer)
  elif known(training) is False:
    y, updates = _by_stored(layer), None
  else:
    y, updates = _by_batch(layer)
  if known(training) is False or options.updates_in_place:
    return y, variables, lambda: ()
  return y, variables, updates


def _fused(layer):
  """The output by the fused op, and a function that adds the updates."""
  x, variables, options = layer.x, layer.variables, layer.options
  shape = variable_shape(x, layer.axes, options)
  layout = "NCHW" if layer.axes == (1,) else "NHWC"
  if layer.rank == 2:
    # Channels are last either way, and no CPU has to run NCHW.
    x, layout = tf1.reshape(x, [-1, 1, 1, *shape]), "NHWC"
  gamma, beta = variables.gamma, variables.beta
  if gamma is None:
    gamma = tf1.ones(shape, layer.dtype)
  if beta is None:
    beta = tf1.zeros(shape, layer.dtype)
  shared = {"epsilon": options.epsilon, "data_format": layout}
  y, mean, variance = either(
    layer.training,
    lambda: tf1.nn.fused_batch_norm(x, gamma, beta, **shared),
    lambda: tf1.nn.fused_batch_norm(
      x,
      gamma,
      beta,
      mean=variables.moving_mean,
      variance=variables.moving_variance,
      is_training=False,
      **shared,
    ),
  )
  if options.updates_in_place:
    (y,) = _behind_updates(layer, (mean, variance), [y], [y])
  if layer.rank == 2:
    y = tf1.reshape(y, [-1, *shape])
  y.set_shape(layer.x.shape)
  return y, lambda: _updates(layer, mean, variance)


def _by_stored(layer):
  """The output by the stored averages, spelled out."""
  x, variables = layer.x, layer.variables
  if layer.options.virtual_batch_size is None:
    return _normalized(
      layer,
      x,
      variables.moving_mean,
      variables.moving_variance,
      _broadcast(layer, variables.gamma),
      _broadcast(layer, variables.beta),
    )
  # Without the reshape to virtual batches: any batch size will do.
  shape = broadcast_shape(x, layer.axes)

  def flat(variable):
    return None if variable is None else tf1.reshape(variable, shape)

  return _normalized(
    layer,
    x,
    flat(variables.moving_mean),
    flat(variables.moving_variance),
    flat(variables.gamma),
    flat(variables.beta),
  )


def _by_batch(layer):
  """The output by the batch, or as `training` says, and its updates."""
  variables, options = layer.variables, layer.options
  x = _virtual_batches(layer)
  scale = _broadcast(layer, variables.gamma)
  offset = _broadcast(layer, variables.beta)
  if options.adjustment is not None:
    scale, offset = _composed(*_adjustment(layer), scale, offset)
  mean, variance = _statistics(layer, x)
  new_mean, new_variance = mean, variance
  if options.virtual_batch_size is not None:
    new_mean = tf1.reduce_mean(mean, axis=1, keepdims=True)
    new_variance = tf1.reduce_mean(variance, axis=1, keepdims=True)
  update_renorm = None
  if options.renorm:
    r, d, update_renorm = _renorm(layer, new_mean, new_variance)
    scale, offset = _composed(r, d, scale, offset)
  y = _normalized(layer, x, mean, variance, scale, offset)
  if options.virtual_batch_size is not None:
    y = tf1.reshape(y, [-1] + layer.x.shape.as_list()[1:])

  def updates():
    if update_renorm is None:
      return _updates(layer, new_mean, new_variance)
    # Only the other averages are in the collection.
    with tf1.control_dependencies(update_renorm()):
      value = tf1.identity(new_mean), tf1.identity(new_variance)
    return _updates(layer, *value)

  return y, updates


def _virtual_batches(layer):
  """The input as [row of a batch, batch, ...], if there are such batches."""
  size = layer.options.virtual_batch_size
  if size is None:
    return layer.x
  # Fails in the session where it does not divide the batch.
  return tf1.reshape(layer.x, [size, -1] + layer.x.shape.as_list()[1:])


def _broadcast(layer, value):
  """Reshapes [channels] so that it broadcasts over the input, where needed."""
  is_last = layer.axes == (layer.rank - 1,)
  if value is None or len(value.shape) != 1 or is_last:
    return value
  return tf1.reshape(value, broadcast_shape(layer.x, layer.axes))


def _statistics(layer, x):
  """Mean and variance: the batch's when training, and else the stored ones."""
  variables, batch = layer.variables, list(_moments(layer, x))
  stored = [variables.moving_mean, variables.moving_variance]
  if layer.options.updates_in_place:
    return _behind_updates(layer, batch, batch, stored)
  return either(
    layer.training,
    lambda: batch,
    lambda: [tf1.convert_to_tensor(variable) for variable in stored],
  )


def _moments(layer, x):
  """Mean and variance of the batch, shaped like the variables."""
  axes, keep = layer.axes, len(layer.axes) > 1
  averaged = [i for i in range(layer.rank) if i not in axes]
  if layer.options.virtual_batch_size is not None:
    keep = True
    # Each virtual batch, at index 1, has its own.
    averaged = [i if i == 0 else i + 1 for i in averaged]
  x = tf1.cast(x, layer.dtype)
  if layer.options.batch_weights is None:
    return tf1.nn.moments(x, averaged, keepdims=keep)
  weights = _weights(layer)
  return tf1.nn.weighted_moments(x, averaged, weights, keepdims=keep)


def _weights(layer):
  """The weights of rows, so that they broadcast over the input."""
  weights = tf1.convert_to_tensor(layer.options.batch_weights)
  if not layer.x.shape[:1].is_compatible_with(weights.shape):
    raise refusal(
      layer.x,
      f"batch_weights are of shape {weights.shape}",
      "pass one weight for each row of the batch",
    )
  return tf1.reshape(weights, [-1] + [1] * (layer.rank - 1))


def _adjustment(layer):
  """Scale and offset of the adjustment: 1 and 0 when not training."""
  scale, offset = layer.options.adjustment(tf1.shape(layer.x))
  return (
    either(layer.training, lambda: scale, lambda: tf1.ones_like(scale)),
    either(layer.training, lambda: offset, lambda: tf1.zeros_like(offset)),
  )


def _composed(first_scale, first_offset, scale, offset):
  """Scale and offset of `(x * first_scale + first_offset) * scale + offset`."""
  if scale is not None:
    first_scale *= scale
    first_offset *= scale
  if offset is not None:
    first_offset += offset
  return first_scale, first_offset


def _renorm(layer, mean, variance):
  """The corrections r and d of batch renormalization, arXiv:1702.03275.

  Args:
    layer: Layer.
    mean: of the batch, shaped like the variables.
    variance: the same.

  Returns:
    r and d of `x * r + d`, which have no gradient and are 1 and 0 when not
    training, and a function that adds the updates of renorm's averages.
  """
  variables, options = layer.variables, layer.options
  stddev = tf1.sqrt(variance + options.epsilon)
  # The stored deviation may start at zero.
  known_stddev = tf1.maximum(
    variables.renorm_stddev,
    tf1.sqrt(tf1.constant(options.epsilon, stddev.dtype)),
  )
  open_r = stddev / known_stddev
  open_d = (mean - variables.renorm_mean) / known_stddev
  r, d = _clipped(open_r, open_d, options.renorm_clipping or {})
  r = either(layer.training, lambda: r, lambda: tf1.ones_like(open_r))
  d = either(layer.training, lambda: d, lambda: tf1.zeros_like(open_d))

  def update():
    # The output is corrected by what the averages were before.
    with tf1.control_dependencies([open_r, open_d]):
      new = tf1.identity(mean), tf1.identity(stddev)
    return [
      _update(layer, variables.renorm_mean, new[0], options.renorm_momentum),
      _update(layer, variables.renorm_stddev, new[1], options.renorm_momentum),
    ]

  return (
    _broadcast(layer, tf1.stop_gradient(r)),
    _broadcast(layer, tf1.stop_gradient(d)),
    update,
  )


def _clipped(r, d, clipping):
  if clipping.get("rmin") is not None:
    r = tf1.maximum(r, clipping["rmin"])
  if clipping.get("rmax") is not None:
    r = tf1.minimum(r, clipping["rmax"])
  if clipping.get("dmax") is not None:
    d = tf1.minimum(tf1.maximum(d, -clipping["dmax"]), clipping["dmax"])
  return r, d


def _update(layer, variable, value, momentum):
  """The update of one average, in a cond where only a session knows."""
  return either(
    layer.training,
    lambda: moving_average(variable, value, momentum),
    lambda: variable,
  )


def _updates(layer, mean, variance):
  """The updates of moving_mean and moving_variance, in this order."""
  variables = layer.variables
  return either(
    layer.training,
    lambda: _moved(layer, mean, variance),
    lambda: [variables.moving_mean, variables.moving_variance],
  )


def _behind_updates(layer, batch, wanted, otherwise):
  """Tensors that are only there after the updates, when training.

  Args:
    layer: Layer.
    batch: its mean and variance.
    wanted: list of tensors.
    otherwise: the like, for when it is not training.
  """

  def updated():
    with tf1.control_dependencies(_moved(layer, *batch)):
      return [tf1.identity(tensor) for tensor in wanted]

  return either(
    layer.training,
    updated,
    lambda: [tf1.convert_to_tensor(tensor) for tensor in otherwise],
  )


def _moved(layer, mean, variance):
  """moving_mean and moving_variance, after a step towards the batch's."""
  variables, options = layer.variables, layer.options
  if options.zero_debias:
    # In TF 1.15 a getter puts all that is made for spelled out norms there.
    collections = None if layer.is_fused else options.collections
    new_mean = debiased_moving_average(
      variables.moving_mean, mean, options.momentum, collections
    )
  else:
    new_mean = moving_average(variables.moving_mean, mean, options.momentum)
  if not options.renorm:
    return [
      new_mean,
      moving_average(variables.moving_variance, variance, options.momentum),
    ]
  stddev = moving_average(
    variables.moving_stddev,
    tf1.sqrt(variance + options.epsilon),
    options.momentum,
  )
  # Rounding could make it negative.
  stored = tf1.nn.relu(stddev * stddev - options.epsilon)
  return [new_mean, assign_new(variables.moving_variance, stored)]


def _normalized(layer, x, mean, variance, scale, offset):
  """`(x - mean) / sqrt(variance + epsilon) * scale + offset`, in x's dtype."""

  def cast(value):
    return None if value is None else tf1.cast(value, x.dtype)

  y = tf1.nn.batch_normalization(
    x,
    _broadcast(layer, cast(mean)),
    _broadcast(layer, cast(variance)),
    cast(offset),
    cast(scale),
    layer.options.epsilon,
  )
  # An adjustment may know less about shapes.
  y.set_shape(x.shape)
  return y
