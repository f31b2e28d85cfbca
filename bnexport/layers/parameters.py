# SPDX-License-Identifier: Apache-2.0
"""Inputs, variables and refusals of batch norm layers."""

from __future__ import annotations

import contextlib

from bnexport.errors import Error
from bnexport.tf1 import tf1

_HALF = (tf1.float16, tf1.bfloat16)


class LayerError(Error, ValueError):
  """A layer can't be built; a ValueError, as it is for TF 1.15's layers."""


def input_tensor(inputs):
  """Returns the input of a layer as a tensor.

  Raises:
    LayerError: it is not floating point, its rank is not known or 0, or
      TensorFlow is executing eagerly.
  """
  if tf1.executing_eagerly():
    raise LayerError(
      "build a batch norm layer",
      "TensorFlow is executing eagerly",
      "build the model under tf.Graph().as_default()",
    )
  inputs = tf1.convert_to_tensor(inputs)
  if not inputs.dtype.is_floating:
    raise refusal(inputs, f"it is {inputs.dtype.name}", "cast it to float32")
  if not inputs.shape.ndims:
    fact = "its rank is 0" if inputs.shape.ndims == 0 else "its rank is unknown"
    raise refusal(inputs, fact, "state its shape with set_shape")
  return inputs


def refusal(inputs, fact, step):
  """The LayerError that says why a tensor can't be normalised."""
  return LayerError(f"normalise '{inputs.name}'", fact, step)


def refuse_fused_float64(inputs):
  """Raises LayerError where no fused op takes the input.

  The fused ops are made for float16, bfloat16 and float32.
  """
  if inputs.dtype == tf1.float64:
    raise refusal(
      inputs, "the fused op does not take float64", "pass fused=False"
    )


def full_precision(dtype):
  """The dtype of statistics and parameters for inputs of a dtype."""
  return tf1.float32 if dtype in _HALF else dtype


def parameter(name, shape, dtype, initializer, **options):
  """Makes or gets a variable that an optimizer may train.

  Args:
    name: within the scope of the layer.
    shape: list of int.
    dtype: of the variable.
    initializer: as `tf.get_variable` takes it.
    **options: further arguments of `tf.get_variable`.
  """
  return tf1.get_variable(
    name, shape=shape, dtype=dtype, initializer=initializer, **options
  )


def average(name, shape, dtype, initializer, **options):
  """Makes or gets a variable that only updates write; never partitioned.

  Args: as of `parameter`.
  """
  with _unpartitioned():
    return tf1.get_variable(
      name,
      shape=shape,
      dtype=dtype,
      initializer=initializer,
      trainable=False,
      synchronization=tf1.VariableSynchronization.ON_READ,
      aggregation=tf1.VariableAggregation.MEAN,
      **options,
    )


def penalized(name, make, regularizer):
  """Makes a variable and, where it is new, adds its regularization loss.

  The loss is added to what the regularizer of the variable scope adds, and
  doesn't take its place: tf.layers hands no regularizer to get_variable.

  Args:
    name: of the variable.
    make: function that returns it.
    regularizer: function of a tensor that returns a loss or None; or None.

  Returns:
    What `make` returns.
  """
  before = {id(v) for v in tf1.global_variables()} if regularizer else ()
  variable = make()
  if regularizer:
    for part in parts(variable):
      if id(part) not in before:
        _add_loss(name, part, regularizer)
  return variable


def _add_loss(name, variable, regularizer):
  with tf1.name_scope(name + "/Regularizer"):
    loss = regularizer(variable)
  if loss is not None:
    tf1.add_to_collection(tf1.GraphKeys.REGULARIZATION_LOSSES, loss)


def parts(variable):
  """The variables that a variable consists of: itself, if not partitioned."""
  # TensorFlow has no other public sign of a PartitionedVariable.
  if hasattr(variable, "_variable_list"):
    return list(variable)
  return [variable]


def collect(variable, collections):
  """Adds a variable to collections that it is not in yet."""
  for collection in collections or ():
    there = {id(v) for v in tf1.get_collection(collection)}
    for part in parts(variable):
      if id(part) not in there:
        tf1.add_to_collection(collection, part)


@contextlib.contextmanager
def _unpartitioned():
  scope = tf1.get_variable_scope()
  partitioner = scope.partitioner
  scope.set_partitioner(None)
  try:
    yield
  finally:
    scope.set_partitioner(partitioner)
