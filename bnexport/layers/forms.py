# SPDX-License-Identifier: Apache-2.0
"""Batch norm computed: fused, by stored averages, or by the batch."""

from __future__ import annotations

from bnexport.layers.layer import broadcast_shape, variable_shape
from bnexport.layers.parameters import full_precision
from bnexport.layers.updates import assign_new, either, moving_average
from bnexport.tf1 import tf1


def fused(layer):
  """The output by the fused op, and a function that adds the updates."""
  x, variables, options = layer.x, layer.variables, layer.options
  shape = variable_shape(x, layer.axes, options)
  dtype = full_precision(x.dtype)
  gamma, beta = variables.gamma, variables.beta
  if gamma is None:
    gamma = tf1.ones(shape, dtype)
  if beta is None:
    beta = tf1.zeros(shape, dtype)
  shared = {
    "epsilon": options.epsilon,
    "data_format": "NCHW" if layer.axes == (1,) else "NHWC",
  }
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

  def updates():
    # A momentum of 1 where it is not training: the variables stay.
    momentum = tf1.convert_to_tensor(options.momentum)
    momentum = either(
      layer.training, lambda: momentum, lambda: tf1.ones_like(momentum)
    )
    yield moving_average(variables.moving_mean, mean, momentum)
    yield moving_average(variables.moving_variance, variance, momentum)

  return y, updates


def by_stored(layer):
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


def by_batch(layer):
  """The output by the batch, or as `training` says, and its updates."""
  variables, options = layer.variables, layer.options
  x = _virtual_batches(layer)
  scale = _broadcast(layer, variables.gamma)
  offset = _broadcast(layer, variables.beta)
  if options.adjustment is not None:
    scale, offset = _composed(*_adjustment(layer), scale, offset)
  batch_mean, batch_variance = _moments(layer, x)
  mean = either(
    layer.training,
    lambda: batch_mean,
    lambda: tf1.convert_to_tensor(variables.moving_mean),
  )
  variance = either(
    layer.training,
    lambda: batch_variance,
    lambda: tf1.convert_to_tensor(variables.moving_variance),
  )
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
  """Reshapes [channels] to what broadcasts over the input, where it has to."""
  rank = layer.x.shape.ndims
  if value is None or len(value.shape) != 1 or layer.axes == (rank - 1,):
    return value
  return tf1.reshape(value, broadcast_shape(layer.x, layer.axes))


def _moments(layer, x):
  axes, keep = layer.axes, len(layer.axes) > 1
  averaged = [i for i in range(layer.x.shape.ndims) if i not in axes]
  if layer.options.virtual_batch_size is not None:
    keep = True
    # Each virtual batch, at index 1, has its own.
    averaged = [i if i == 0 else i + 1 for i in averaged]
  x = tf1.cast(x, full_precision(x.dtype))
  return tf1.nn.moments(x, averaged, keepdims=keep)


def _adjustment(layer):
  """Scale and offset of normalised values: 1 and 0 when not training."""
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
  """How renorm corrects normalised values; formulas of arXiv:1702.03275.

  Args:
    layer: Layer.
    mean: of the batch, shaped like the variables.
    variance: the same.

  Returns:
    r and d of `x * r + d`, which have no gradient and are 1 and 0 when not
    training, and a function that adds the updates of renorm's averages.
  """
  variables, options = layer.variables, layer.options
  clipping = options.renorm_clipping or {}
  stddev = tf1.sqrt(variance + options.epsilon)
  # It may start at zero.
  known_stddev = tf1.maximum(
    variables.renorm_stddev,
    tf1.sqrt(tf1.constant(options.epsilon, stddev.dtype)),
  )
  open_r = r = stddev / known_stddev
  open_d = d = (mean - variables.renorm_mean) / known_stddev
  if clipping.get("rmin") is not None:
    r = tf1.maximum(r, clipping["rmin"])
  if clipping.get("rmax") is not None:
    r = tf1.minimum(r, clipping["rmax"])
  if clipping.get("dmax") is not None:
    d = tf1.minimum(tf1.maximum(d, -clipping["dmax"]), clipping["dmax"])
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


def _update(layer, variable, value, momentum):
  """The update of one average, in a cond where only a session knows."""
  return either(
    layer.training,
    lambda: moving_average(variable, value, momentum),
    lambda: variable,
  )


def _updates(layer, mean, variance):
  """The updates of moving_mean and moving_variance, in this order."""
  variables, options = layer.variables, layer.options
  yield _update(layer, variables.moving_mean, mean, options.momentum)
  if not options.renorm:
    yield _update(layer, variables.moving_variance, variance, options.momentum)
    return

  def by_stddev():
    stddev = moving_average(
      variables.moving_stddev,
      tf1.sqrt(variance + options.epsilon),
      options.momentum,
    )
    # Rounding could make it negative.
    stored = tf1.nn.relu(stddev * stddev - options.epsilon)
    return assign_new(variables.moving_variance, stored)

  yield either(layer.training, by_stddev, lambda: variables.moving_variance)


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
