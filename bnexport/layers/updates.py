# SPDX-License-Identifier: Apache-2.0
"""The phase of a layer, and the updates of its moving averages."""

from __future__ import annotations

from bnexport.layers.parameters import LayerError, average
from bnexport.tf1 import smart_constant_value, tf1


def known(training):
  """The phase of a layer as far as building the graph tells it.

  Args:
    training: a bool, 0 or 1, or a bool tensor or variable.

  Returns:
    True, False, or None for what only a session can tell.

  Raises:
    LayerError: it is none of these.
  """
  if isinstance(training, tf1.Variable):
    return None
  try:
    value = smart_constant_value(training)
  except TypeError as error:
    raise LayerError(
      "build a batch norm layer",
      f"{training!r} does not say whether it is training",
      "pass a bool or a bool tensor",
    ) from error
  return None if value is None else bool(value)


def either(training, if_training, otherwise):
  """The result of one of two functions, or of a cond over both.

  Args:
    training: as of `known`.
    if_training: function without arguments.
    otherwise: function without arguments, with results of the same dtypes.
  """
  value = known(training)
  if value is None:
    # Strict: a list of one tensor stays a list.
    return tf1.cond(training, if_training, otherwise, strict=True)
  return if_training() if value else otherwise()


def moving_average(variable, value, decay):
  """Adds `variable -= (variable - value) * (1 - decay)`.

  Args:
    variable: of any float dtype.
    value: tensor of the same shape.
    decay: float or scalar tensor.

  Returns:
    What `tf.assign_sub` returns.
  """
  with tf1.name_scope("AssignMovingAvg") as scope:
    with tf1.colocate_with(variable):
      rate = _rate(variable, decay)
      step = (variable - tf1.cast(value, variable.dtype.base_dtype)) * rate
      return tf1.assign_sub(variable, step, name=scope)


def debiased_moving_average(variable, value, decay, collections=None):
  """Adds a moving average without the pull towards its initial zero.

  `biased` is averaged from zero on and divided by `1 - decay ** local_step`
  (https://arxiv.org/abs/1412.6980, section 3). Both are variables whose names
  hold the scope twice, as TF 1.15 has it: checkpoints do.

  Args:
    variable: as of `moving_average`, and so are value and decay.
    value: tensor.
    decay: float or scalar tensor.
    collections: of the two; None for global variables.

  Returns:
    What `tf.assign` to the variable returns.
  """
  with tf1.name_scope("AssignMovingAvg") as scope:
    rate = _rate(variable, decay)
    dtype = variable.dtype.base_dtype
    zeros = tf1.zeros_initializer()
    with tf1.variable_scope(variable.op.name, values=[variable, value]):
      with tf1.colocate_with(variable):
        biased, step = (
          average(_unused(name), shape, dtype, zeros, collections=collections)
          for name, shape in (("biased", variable.shape), ("local_step", []))
        )
    with tf1.colocate_with(variable):
      new_biased = tf1.assign_sub(biased, (biased - value) * rate)
      new_step = tf1.assign_add(step, 1)
      correction = 1 - tf1.pow(1.0 - rate, new_step)
      return tf1.assign(variable, new_biased / correction, name=scope)


def assign_new(variable, value):
  """Adds `variable = value`."""
  with tf1.name_scope("AssignNewValue") as scope:
    with tf1.colocate_with(variable):
      return tf1.assign(variable, value, name=scope)


def _rate(variable, decay):
  # Subtracted before it is rounded to the variable's dtype.
  rate = tf1.convert_to_tensor(1.0 - decay, name="decay")
  return tf1.cast(rate, variable.dtype.base_dtype)


def _unused(name):
  """A variable name that the scope has not used, unless it reuses."""
  scope = tf1.get_variable_scope()
  if scope.reuse:
    return name
  taken = {v.op.name for v in scope.global_variables()}
  candidate, count = name, 0
  while f"{scope.name}/{candidate}" in taken:
    count += 1
    candidate = f"{name}_{count}"
  return candidate
