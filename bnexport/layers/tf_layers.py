# SPDX-License-Identifier: Apache-2.0
"""Batch norm as tf.layers has it."""

from __future__ import annotations

from bnexport.layers.forms import normalize
from bnexport.layers.layer import Options
from bnexport.layers.parameters import input_tensor
from bnexport.tf1 import tf1

_SCOPE = "batch_normalization"


def batch_normalization(
  inputs,
  axis=-1,
  momentum=0.99,
  epsilon=1e-3,
  center=True,
  scale=True,
  beta_initializer=tf1.zeros_initializer(),  # noqa: B008
  gamma_initializer=tf1.ones_initializer(),  # noqa: B008
  moving_mean_initializer=tf1.zeros_initializer(),  # noqa: B008
  moving_variance_initializer=tf1.ones_initializer(),  # noqa: B008
  beta_regularizer=None,
  gamma_regularizer=None,
  beta_constraint=None,
  gamma_constraint=None,
  training=False,
  trainable=True,
  name=None,
  reuse=None,
  renorm=False,
  renorm_clipping=None,
  renorm_momentum=0.99,
  fused=None,
  virtual_batch_size=None,
  adjustment=None,
):
  """Normalises as `tf.layers.batch_normalization` of TF 1.15 does.

  With training=False the stored averages are used, and the graph holds no
  update, no cond and no random op. With True or a tensor, updates of the
  averages are in tf.GraphKeys.UPDATE_OPS, and the output depends on none.

  Args:
    inputs: tensor of known rank; float16 and bfloat16 have float32 variables.
    axis: int or list of int, what has statistics of its own.
    momentum: float or scalar tensor, of the averages.
    epsilon: float added to the variance; a fused op takes at least 1.001e-5.
    center: whether there is a beta.
    scale: whether there is a gamma.
    beta_initializer: of the variable; objects or functions, not names.
    gamma_initializer: of the variable.
    moving_mean_initializer: of the variable.
    moving_variance_initializer: of the variable.
    beta_regularizer: function of beta that returns a loss or None.
    gamma_regularizer: function of gamma that returns a loss or None.
    beta_constraint: function that optimizers put beta through.
    gamma_constraint: function that optimizers put gamma through.
    training: bool, 0 or 1, or a bool tensor.
    trainable: whether gamma and beta are trained. If not, no update is
      collected: tf.layers freezes the averages with them.
    name: of the scope; by default batch_normalization, made unique.
    reuse: whether the variables are there already; or tf.AUTO_REUSE.
    renorm: whether to correct by slower averages
      (https://arxiv.org/abs/1702.03275).
    renorm_clipping: dict of rmin, rmax and dmax; what is missing is open.
    renorm_momentum: float or scalar tensor, of renorm's averages.
    fused: None or True for the fused op where it can be used, which is at rank
      4 for axis 1 or 3 without renorm, virtual batches and adjustment.
    virtual_batch_size: rows that are normalised together when training.
    adjustment: function of the input's shape that returns the scale and offset
      to apply to normalised values when training.

  Returns:
    A tensor of the shape and dtype of the inputs.

  Raises:
    LayerError: the arguments contradict each other or the input.
  """
  inputs = input_tensor(inputs)
  options = Options(
    axis=axis,
    momentum=momentum,
    epsilon=epsilon,
    center=center,
    scale=scale,
    initializers={
      "gamma": gamma_initializer,
      "beta": beta_initializer,
      "moving_mean": moving_mean_initializer,
      "moving_variance": moving_variance_initializer,
    },
    regularizers={"gamma": gamma_regularizer, "beta": beta_regularizer},
    constraints={"gamma": gamma_constraint, "beta": beta_constraint},
    trainable=trainable,
    renorm=renorm,
    renorm_clipping=renorm_clipping,
    renorm_momentum=renorm_momentum,
    fused=fused,
    virtual_batch_size=virtual_batch_size,
    adjustment=adjustment,
  )
  # A reused layer has its name already.
  scope = name or (_SCOPE if reuse else None)
  with tf1.variable_scope(scope, _SCOPE, [inputs], reuse=reuse):
    outputs, _, updates = normalize(inputs, training, options)
    if trainable:
      collect_updates(updates())
  return outputs


def collect_updates(updates):
  """Adds updates to tf.GraphKeys.UPDATE_OPS, as operations."""
  for update in updates:
    tf1.add_to_collection(tf1.GraphKeys.UPDATE_OPS, update.op)
