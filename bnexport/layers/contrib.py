# SPDX-License-Identifier: Apache-2.0
"""Batch norm as tf.contrib.layers and slim have it."""

from __future__ import annotations

import dataclasses

from bnexport.layers.forms import normalize
from bnexport.layers.layer import Options, can_be_fused
from bnexport.layers.parameters import collect, input_tensor, refusal
from bnexport.layers.tf_layers import collect_updates
from bnexport.tf1 import tf1

_TRAINED = ("beta", "gamma")
_AVERAGED = ("moving_mean", "moving_variance")
_INITIALIZERS = {
  "beta": tf1.zeros_initializer(),
  "gamma": tf1.ones_initializer(),
  "moving_mean": tf1.zeros_initializer(),
  "moving_variance": tf1.ones_initializer(),
}
_MODEL_COLLECTIONS = (
  tf1.GraphKeys.GLOBAL_VARIABLES,
  tf1.GraphKeys.MODEL_VARIABLES,
)


def batch_norm(
  inputs,
  decay=0.999,
  center=True,
  scale=False,
  epsilon=0.001,
  activation_fn=None,
  param_initializers=None,
  param_regularizers=None,
  updates_collections=tf1.GraphKeys.UPDATE_OPS,
  is_training=True,
  reuse=None,
  variables_collections=None,
  outputs_collections=None,
  trainable=True,
  batch_weights=None,
  fused=None,
  data_format="NHWC",
  zero_debias_moving_mean=False,
  scope=None,
  renorm=False,
  renorm_clipping=None,
  renorm_decay=0.99,
  adjustment=None,
):
  """Normalises as `tf.contrib.layers.batch_norm` of TF 1.15 does.

  With is_training=False the stored averages are used, and the graph holds no
  update, no cond and no random op. With True or a tensor, updates of the
  averages are in `updates_collections` and the output depends on none; for
  None the output depends on them.

  For slim's arg_scope, decorate it with `add_arg_scope`.

  Args:
    inputs: tensor of known rank, with channels of known number.
    decay: float or scalar tensor, of the averages.
    center: whether there is a beta.
    scale: whether there is a gamma.
    epsilon: float added to the variance; a fused op takes at least 1.001e-5.
    activation_fn: function that the output goes through.
    param_initializers: dict by name of the variable.
    param_regularizers: dict of functions of beta and gamma that return a loss.
      It has no effect where statistics are spelled out with batch_weights or
      with updates of its own: it has none in TF 1.15.
    updates_collections: name or names, or None for updates in place.
    is_training: bool, 0 or 1, or a bool tensor.
    reuse: whether the variables are there already; or tf.AUTO_REUSE.
    variables_collections: names, or a dict of them by name of the variable.
    outputs_collections: name or names that the output is added to.
    trainable: whether gamma and beta are trained. If not, neither are updates
      collected where tf.layers does the work, see `batch_normalization`: at
      rank 4 and 3, with the default collection and no batch_weights.
    batch_weights: tensor of [batch], how much each row counts when training.
    fused: None or True for the fused op where it can be used.
    data_format: "NHWC" for channels last, "NCHW" for channels at axis 1.
    zero_debias_moving_mean: whether moving_mean is rid of its initial zero.
    scope: name; by default BatchNorm, made unique.
    renorm: whether to correct by slower averages.
    renorm_clipping: dict of rmin, rmax and dmax; what is missing is open.
    renorm_decay: float or scalar tensor, of renorm's averages.
    adjustment: as of `batch_normalization`. It has no effect together with
      batch_weights or updates of its own, as in TF 1.15.

  Returns:
    A tensor of the shape and dtype of the inputs.

  Raises:
    LayerError: the arguments contradict each other or the input.
  """
  inputs = input_tensor(inputs)
  axis = _channel_axis(inputs, data_format)
  own_updates = (
    zero_debias_moving_mean
    or updates_collections != tf1.GraphKeys.UPDATE_OPS
    or batch_weights is not None
  )
  if renorm and own_updates:
    raise refusal(
      inputs,
      "renorm excludes batch_weights, updates_collections and "
      "zero_debias_moving_mean",
      "leave them out, or renorm",
    )
  options = Options(
    axis=axis,
    momentum=decay,
    epsilon=epsilon,
    center=center,
    scale=scale,
    initializers=dict(_INITIALIZERS, **(param_initializers or {})),
    regularizers=param_regularizers or {},
    trainable=trainable,
    renorm=renorm,
    renorm_clipping=renorm_clipping,
    renorm_momentum=renorm_decay,
    fused=fused,
    adjustment=adjustment,
    collections=_MODEL_COLLECTIONS,
    fused_ranks=(2, 4),
    batch_weights=batch_weights,
    zero_debias=zero_debias_moving_mean,
    updates_in_place=updates_collections is None,
  )
  is_fused = can_be_fused(inputs, (axis,), options)
  # TF 1.15 has tf.layers do the rest.
  is_own = own_updates or (is_fused and inputs.shape.ndims == 2)
  if is_own:
    options = _own(options, inputs, is_fused)
  with tf1.variable_scope(scope, "BatchNorm", [inputs], reuse=reuse) as where:
    outputs, variables, updates = normalize(inputs, is_training, options)
    if is_own:
      for update in updates():
        tf1.add_to_collections(updates_collections, update)
    elif trainable:
      collect_updates(updates())
    order = _TRAINED + _AVERAGED if is_own else _AVERAGED + _TRAINED
    _collect_variables(variables, variables_collections, order)
    if activation_fn is not None:
      outputs = activation_fn(outputs)
    if outputs_collections:
      _collect_output(outputs, where.name, outputs_collections)
  return outputs


def _channel_axis(inputs, data_format):
  if data_format not in ("NHWC", "NCHW"):
    raise refusal(
      inputs, f"data_format is {data_format!r}", "pass 'NHWC' or 'NCHW'"
    )
  sizes = inputs.shape.as_list()
  axis = 1 if data_format == "NCHW" else len(sizes) - 1
  if axis >= len(sizes) or sizes[axis] is None:
    raise refusal(
      inputs,
      "the number of its channels is unknown",
      "state it with set_shape",
    )
  return axis


def _own(options, inputs, is_fused):
  """The options of a norm that tf.contrib computes without tf.layers."""
  return dataclasses.replace(
    options,
    fused=is_fused,
    adjustment=None,
    parameters=_TRAINED,
    dtype=None if is_fused else inputs.dtype,
    regularizers=options.regularizers if is_fused else {},
    replaces_regularizer=True,
  )


def _collect_variables(variables, collections, order):
  for name in order:
    variable = getattr(variables, name)
    names = collections
    if isinstance(collections, dict):
      names = collections.get(name)
    if variable is not None:
      collect(variable, names)


def _collect_output(outputs, alias, collections):
  """Adds an output to collections, under its alias among slim's end points."""
  outputs.aliases = getattr(outputs, "aliases", []) + [alias]
  tf1.add_to_collections(collections, outputs)
