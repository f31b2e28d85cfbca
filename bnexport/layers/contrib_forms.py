# SPDX-License-Identifier: Apache-2.0
"""What tf.contrib's batch norm has and tf.layers has not.

Updates in place or in other collections, zero debias, batch weights, and the
fused op at rank 2.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bnexport.layers.layer import Variables
from bnexport.layers.parameters import (
  average,
  parameter,
  refusal,
  refuse_fused_float64,
)
from bnexport.layers.updates import (
  debiased_moving_average,
  either,
  known,
  moving_average,
)
from bnexport.tf1 import tf1

MODEL_COLLECTIONS = (
  tf1.GraphKeys.GLOBAL_VARIABLES,
  tf1.GraphKeys.MODEL_VARIABLES,
)


@dataclasses.dataclass(frozen=True)
class Layer:
  """A layer on its input; see `batch_norm` for what is not said here.

  Attributes:
    x: the input.
    training: a bool, or a bool tensor.
    axis: of the channels.
    decay: of the averages.
    epsilon: added to the variance.
    updates_collections: None for updates in place.
    zero_debias: whether moving_mean is.
    batch_weights: [batch], or None.
    by_fused_op: whether `fused_op` computes it, and not `spelled_out`.
  """

  x: Any
  training: Any
  axis: int
  decay: Any
  epsilon: float
  updates_collections: Any
  zero_debias: bool
  batch_weights: Any
  by_fused_op: bool

  @property
  def rank(self):
    return self.x.shape.ndims

  @property
  def channels(self):
    return self.x.shape.as_list()[self.axis]


def make_variables(
  layer, center, scale, trainable, initializers, regularizers, dtype
):
  """Makes or gets the variables, all of shape [channels].

  Raises:
    LayerError: the number of channels is unknown.
  """
  x, found = layer.x, Variables()
  if layer.axis >= layer.rank or layer.channels is None:
    raise refusal(
      x, "the number of its channels is unknown", "state it with set_shape"
    )

  def trained(name):
    return parameter(
      name,
      [layer.channels],
      dtype,
      initializers[name],
      regularizer=regularizers.get(name),
      trainable=bool(trainable),
      collections=MODEL_COLLECTIONS,
    )

  def averaged(name):
    return average(
      name,
      [layer.channels],
      dtype,
      initializers[name],
      collections=MODEL_COLLECTIONS,
    )

  if center:
    found.beta = trained("beta")
  if scale:
    found.gamma = trained("gamma")
  found.moving_mean = averaged("moving_mean")
  found.moving_variance = averaged("moving_variance")
  return found


def fused_op(layer, variables):
  """The output of rank 2 or 4 by the fused op, with its updates."""
  refuse_fused_float64(layer.x)
  x, layout = layer.x, "NCHW" if layer.axis == 1 else "NHWC"
  if layer.rank == 2:
    # Channels are last either way, and no CPU has to run NCHW.
    x, layout = tf1.reshape(x, [-1, 1, 1, layer.channels]), "NHWC"
  gamma, beta = variables.gamma, variables.beta
  if gamma is None:
    gamma = tf1.ones([layer.channels])
  if beta is None:
    beta = tf1.zeros([layer.channels])
  shared = {"epsilon": layer.epsilon, "data_format": layout}
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
  if known(layer.training) is not False:
    if layer.updates_collections is None:
      batch = [mean, variance]
      y = _behind_updates(layer, variables, batch, y, y)
    else:
      _collect_updates(layer, variables, mean, variance)
  if layer.rank == 2:
    y = tf1.reshape(y, [-1, layer.channels])
  y.set_shape(layer.x.shape)
  return y


def spelled_out(layer, variables):
  """The output of any rank in single ops, with its updates."""
  stored = [variables.moving_mean, variables.moving_variance]
  if known(layer.training) is False:
    mean, variance = stored
  else:
    batch = _moments(layer)
    if layer.updates_collections is None:
      mean, variance = _behind_updates(layer, variables, batch, batch, stored)
    else:
      _collect_updates(layer, variables, *batch)
      mean, variance = either(
        layer.training, lambda: tuple(batch), lambda: tuple(stored)
      )
  y = tf1.nn.batch_normalization(
    layer.x,
    _broadcast(layer, mean),
    _broadcast(layer, variance),
    _broadcast(layer, variables.beta),
    _broadcast(layer, variables.gamma),
    layer.epsilon,
  )
  y.set_shape(layer.x.shape)
  return y


def _moments(layer):
  """Mean and variance of the batch, each of shape [channels]."""
  axes = [i for i in range(layer.rank) if i != layer.axis]
  if layer.batch_weights is None:
    return list(tf1.nn.moments(layer.x, axes))
  weights = tf1.convert_to_tensor(layer.batch_weights)
  if not layer.x.shape[:1].is_compatible_with(weights.shape):
    raise refusal(
      layer.x,
      f"batch_weights are of shape {weights.shape}",
      "pass one weight for each row of the batch",
    )
  weights = tf1.reshape(weights, [-1] + [1] * (layer.rank - 1))
  return list(tf1.nn.weighted_moments(layer.x, axes, weights))


def _updates(layer, variables, mean, variance):
  if layer.zero_debias:
    # In TF 1.15 a getter puts all that is made for spelled out norms there.
    collections = None if layer.by_fused_op else MODEL_COLLECTIONS
    new_mean = debiased_moving_average(
      variables.moving_mean, mean, layer.decay, collections
    )
  else:
    new_mean = moving_average(variables.moving_mean, mean, layer.decay)
  return (
    new_mean,
    moving_average(variables.moving_variance, variance, layer.decay),
  )


def _behind_updates(layer, variables, batch, wanted, otherwise):
  """Tensors that are only there after the updates, when training.

  Args:
    layer: Layer.
    variables: Variables.
    batch: its mean and variance.
    wanted: tensor or list of tensors.
    otherwise: the like, for when it is not training.
  """

  def updated():
    with tf1.control_dependencies(_updates(layer, variables, *batch)):
      if isinstance(wanted, list):
        return [tf1.identity(tensor) for tensor in wanted]
      return tf1.identity(wanted)

  return either(layer.training, updated, lambda: otherwise)


def _collect_updates(layer, variables, mean, variance):
  made = either(
    layer.training,
    lambda: _updates(layer, variables, mean, variance),
    lambda: (variables.moving_mean, variables.moving_variance),
  )
  for update in made:
    tf1.add_to_collections(layer.updates_collections, update)


def _broadcast(layer, value):
  """Reshapes [channels] to what broadcasts, where channels are not last."""
  if value is None or layer.axis == layer.rank - 1:
    return value
  return tf1.reshape(value, [1, layer.channels] + [1] * (layer.rank - 2))
