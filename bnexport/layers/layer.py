# SPDX-License-Identifier: Apache-2.0
"""A tf.layers batch norm: what it is asked for, its input, its variables."""

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
  """Arguments of `batch_normalization` by their names, less name and phase.

  Attributes:
    initializers: by name of the variable; gamma, beta, moving_mean and
      moving_variance are there.
    regularizers: of gamma and beta.
    constraints: of gamma and beta.
    collections: that variables are made in; None for global variables.
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


@dataclasses.dataclass
class Variables:
  """What a layer keeps; None for what it does without."""

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
  """

  x: Any
  training: Any
  axes: Tuple
  options: Options
  variables: Variables


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
  """Raises LayerError for what contradicts itself."""
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
  return (
    (options.fused is None or bool(options.fused))
    and x.shape.ndims == 4
    and axes in ((1,), (3,))
    and not options.renorm
    and options.virtual_batch_size is None
    and options.adjustment is None
  )


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
  """Makes or gets the variables, in TF 1.15's order."""
  shape = variable_shape(x, axes, options)
  dtype = full_precision(x.dtype)
  found = Variables()

  def trained(name):
    def make():
      return parameter(
        name,
        shape,
        dtype,
        options.initializers[name],
        trainable=bool(options.trainable),
        constraint=options.constraints.get(name),
        collections=options.collections,
      )

    return penalized(name, make, options.regularizers.get(name))

  def averaged(name, initializer):
    return average(
      name, shape, dtype, initializer, collections=options.collections
    )

  if options.scale:
    found.gamma = trained("gamma")
  if options.center:
    found.beta = trained("beta")
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
