# SPDX-License-Identifier: Apache-2.0
"""A batch norm layer: its options, its input and its variables."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Tuple

from bnexport.layers.parameters import (
  average,
  full_precision,
  parameter,
  penalized,
  refusal,
)
from bnexport.tf1 import tf1

_CLIPPINGS = ("rmin", "rmax", "dmax")


@dataclasses.dataclass(frozen=True)
class Options:
  """Options of a layer: arguments of `batch_normalization` by name.

  The fields without a default are among these. The others are what tf.contrib
  and tf.layers differ in; by default they are as tf.layers has them.

  Attributes:
    initializers: by name of the variable; gamma, beta, moving_mean and
      moving_variance are there.
    regularizers: of gamma and beta.
    constraints: of gamma and beta.
    collections: that variables are made in; None for global variables.
    fused_ranks: ranks of the inputs that the fused op may normalise.
    parameters: gamma and beta, in the order in which they are made.
    dtype: of the variables; None for the inputs', float32 for halves.
    replaces_regularizer: whether regularizers take the place of that of the
      variable scope, and are not added to it.
    batch_weights: tensor of [batch], how much each row counts; or None.
    zero_debias: whether moving_mean is rid of its initial zero.
    updates_in_place: whether the output depends on the updates.
  """

  axis: Any
  momentum: Any
  epsilon: float
  center: bool
  scale: bool
  initializers: Dict
  regularizers: Dict
  trainable: bool
  renorm: bool
  renorm_clipping: Any
  renorm_momentum: Any
  fused: Any
  adjustment: Any
  constraints: Dict = dataclasses.field(default_factory=dict)
  virtual_batch_size: Any = None
  collections: Any = None
  fused_ranks: Tuple[int, ...] = (4,)
  parameters: Tuple[str, ...] = ("gamma", "beta")
  dtype: Any = None
  replaces_regularizer: bool = False
  batch_weights: Any = None
  zero_debias: bool = False
  updates_in_place: bool = False


@dataclasses.dataclass
class Variables:
  """The variables of a layer; None for those that it does without."""

  gamma: Any = None
  beta: Any = None
  moving_mean: Any = None
  moving_variance: Any = None
  moving_stddev: Any = None
  renorm_mean: Any = None
  renorm_stddev: Any = None


@dataclasses.dataclass(frozen=True)
class Layer:
  """A layer on its input.

  Attributes:
    x: the input.
    training: a bool, or a bool tensor.
    axes: sorted axes that have statistics of their own, not negative.
    options: Options.
    variables: Variables; of shape [channels] for one axis, and else of the
      input's rank with 1 for what is averaged. With virtual batches there is
      one more 1, at index 1.
    is_fused: whether the fused op computes it.
  """

  x: Any
  training: Any
  axes: Tuple[int, ...]
  options: Options
  variables: Variables
  is_fused: bool

  @property
  def rank(self) -> int:
    return self.x.shape.ndims

  @property
  def dtype(self) -> Any:
    """The dtype of the statistics and the variables."""
    return variable_dtype(self.x, self.options)


def axes_of(x, options):
  rank = x.shape.ndims
  given = options.axis
  given = list(given) if isinstance(given, (list, tuple)) else [given]
  axes = [axis + rank if axis < 0 else axis for axis in given]
  if not axes or len(set(axes)) < len(axes):
    raise refusal(
      x,
      f"axis={options.axis} names no axis or one twice",
      "name each once",
    )
  if min(axes) < 0 or max(axes) >= rank:
    raise refusal(
      x,
      f"axis={options.axis} is not an axis of rank {rank}",
      "name an axis that it has",
    )
  for axis in axes:
    if x.shape.as_list()[axis] is None:
      raise refusal(
        x,
        f"the size of axis {axis} is unknown",
        "state it with set_shape, variables are made by it",
      )
  return tuple(sorted(axes))


def refuse(x, axes, options):
  """Raises LayerError for options that contradict each other."""
  unknown = sorted(set(options.renorm_clipping or ()) - set(_CLIPPINGS))
  if options.renorm and unknown:
    raise refusal(
      x,
      "renorm_clipping holds %s" % ", ".join(f"'{k}'" for k in unknown),
      "it may hold rmin, rmax and dmax",
    )
  size = options.virtual_batch_size
  if size is None:
    return
  if size <= 0:
    raise refusal(
      x, f"virtual_batch_size is {size}", "pass a divisor of the batch size"
    )
  if 0 in axes:
    raise refusal(
      x,
      f"virtual batches divide axis 0, which axis={options.axis} keeps",
      "leave axis 0 out, or virtual_batch_size",
    )
  if options.adjustment is not None:
    raise refusal(
      x,
      "virtual_batch_size and adjustment exclude each other",
      "leave one out",
    )
  if None in x.shape.as_list()[1:]:
    raise refusal(
      x,
      f"virtual batches need a known shape, and it is {x.shape}",
      "state it with set_shape",
    )


def can_be_fused(x, axes, options):
  """Tells whether the fused op can compute the layer."""
  rank = x.shape.ndims
  return (
    (options.fused is None or bool(options.fused))
    and rank in options.fused_ranks
    and axes in ((1,), (rank - 1,))
    and not options.renorm
    and options.virtual_batch_size is None
    and options.adjustment is None
    and options.batch_weights is None
  )


def variable_dtype(x, options):
  return options.dtype or full_precision(x.dtype)


def variable_shape(x, axes, options):
  if len(axes) == 1 and options.virtual_batch_size is None:
    return [x.shape.as_list()[axes[0]]]
  shape = broadcast_shape(x, axes)
  if options.virtual_batch_size is not None:
    shape.insert(1, 1)
  return shape


def broadcast_shape(x, axes):
  return [
    size if axis in axes else 1 for axis, size in enumerate(x.shape.as_list())
  ]


def make_variables(x, axes, options):
  """Makes or gets the variables, in the order that TF 1.15's layer has."""
  shape = variable_shape(x, axes, options)
  dtype = variable_dtype(x, options)
  found = Variables()
  is_made = {"gamma": options.scale, "beta": options.center}
  for name in options.parameters:
    if is_made[name]:
      setattr(found, name, _trained(name, shape, dtype, options))

  def averaged(name, initializer):
    return average(
      name, shape, dtype, initializer, collections=options.collections
    )

  mean = options.initializers["moving_mean"]
  variance = options.initializers["moving_variance"]
  found.moving_mean = averaged("moving_mean", mean)
  found.moving_variance = averaged("moving_variance", variance)
  if options.renorm:

    def stddev(*args, **kwargs):
      return tf1.sqrt(variance(*args, **kwargs))

    with tf1.colocate_with(found.moving_variance):
      found.moving_stddev = averaged("moving_stddev", stddev)
    with tf1.colocate_with(found.moving_mean):
      found.renorm_mean = averaged("renorm_mean", mean)
    with tf1.colocate_with(found.moving_stddev):
      found.renorm_stddev = averaged("renorm_stddev", stddev)
  return found


def _trained(name, shape, dtype, options):
  """Makes or gets gamma or beta."""
  regularizer = options.regularizers.get(name)
  own, added = None, regularizer
  if options.replaces_regularizer:
    own, added = regularizer, None

  def make():
    return parameter(
      name,
      shape,
      dtype,
      options.initializers[name],
      regularizer=own,
      trainable=bool(options.trainable),
      constraint=options.constraints.get(name),
      collections=options.collections,
    )

  return penalized(name, make, added)
