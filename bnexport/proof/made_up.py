# SPDX-License-Identifier: Apache-2.0
"""Feeds that are made up: values for the placeholders of a graph."""

from __future__ import annotations

import numpy as np

from bnexport.graph import ops
from bnexport.graph.nodes import constant_value, static_shape
from bnexport.tf1 import tf1

ROWS = 4
# Single numbers beside them: a loop may end for some only.
_SCALARS = {None: 1.0, 255.0: 2.0, 1.0: 0.5}
# What keeps whole numbers what they are, elementwise or in another order.
_CARRIES = (
  ops.CARRIERS
  | ops.RESHAPES
  | ops.SWITCHES
  | ops.MERGES
  | frozenset(
    (
      "Cast",
      "ConcatV2",
      "Pack",
      "Slice",
      "Split",
      "StridedSlice",
      "Transpose",
      "Unpack",
    )
  )
)
# So many times the rows are fed once more, where that is no more numbers than
# a batch of small images.
_MORE_ROWS = 16
_MOST_FED = 1 << 19
# Sizes tried for dimensions that a graph leaves open: networks halve images
# some times, and crop or flatten to fixed sizes.
_SIZES = (64, 32, 224, 8, 128, 299, 16, 256, 5, 1)


def made_up_feeds(graph_def, rows=ROWS, largest=None, bounds=None):
  """Yields feeds to try: random values in the placeholders' shapes.

  Feeds are dicts of arrays by node name. Open first dimensions get `rows`
  rows; other open ones the same size each, another size in each try. Floats
  are normal, or lie evenly between 0 and `largest`; whole numbers lie below
  their bounds, see `bounds_of`.
  """
  placeholders = [
    n
    for n in graph_def.node
    if n.op in ops.PLACEHOLDERS and (not n.input or _is_data(n))
  ]
  is_open = any(_open_sizes(node) for node in placeholders)
  for size in _SIZES if is_open else (1,):
    random = np.random.RandomState(7)
    yield {
      node.name: _made_up(node, rows, size, largest, bounds or {}, random)
      for node in placeholders
    }


def bounds_of(graph):
  """Whole numbers that placeholders take are below these, by node name.

  What looks up rows of a table takes numbers of rows; bytes are all there are.
  """
  return {
    node.name: bound
    for node in graph
    if node.op in ops.PLACEHOLDERS and _is_whole(node)
    for bound in [_bound(graph, node)]
    if bound
  }


def _is_whole(node):
  return tf1.as_dtype(node.attr["dtype"].type).is_integer


def _bound(graph, node):
  """The rows of the smallest table that a placeholder is looked up in, or 0."""
  stack, seen, sizes = [node.name], {node.name}, []
  while stack:
    name = stack.pop()
    for reader in graph.readers(name):
      op, refs = graph.op(reader), graph.data_inputs(reader)
      if op in ops.LOOKUPS:
        sizes.append(_rows_of(graph, op, refs, name))
      elif op in _CARRIES and reader not in seen:
        seen.add(reader)
        stack.append(reader)
  if not any(sizes) and tf1.as_dtype(node.attr["dtype"].type) == tf1.uint8:
    return 256
  return min(filter(None, sizes), default=0)


def _rows_of(graph, op, refs, indices):
  """The number of rows a lookup chooses from; 0 where that is not told."""
  if op == "OneHot":
    depth = constant_value(graph, refs[1]) if refs[0].node == indices else None
    return 0 if depth is None else int(depth)
  if op not in ("Gather", "GatherV2") or refs[1].node != indices:
    return 0
  axis = constant_value(graph, refs[2]) if op == "GatherV2" else np.int32(0)
  shape = _shape_of(graph, refs[0])
  if axis is None or shape is None or len(shape) <= int(axis):
    return 0
  return max(0, shape[int(axis)])


def _shape_of(graph, ref):
  """The shape of a table, of its Const where no other is stated."""
  found = static_shape(graph, ref)
  while found is None and graph.op(ref.node) in ops.IDENTITIES:
    ref = graph.data_inputs(ref.node)[0]
    found = static_shape(graph, ref)
  return found


def other_choices(feeds):
  """Yields feeds in which single flags and small numbers are others.

  They may choose what is computed: a domain, a task, a mode of pooling.
  """
  for name, value in feeds.items():
    value = np.asarray(value)
    if not value.ndim and value.dtype.kind in "biu" and value in (0, 1):
      yield {**feeds, name: (1 - value.astype(np.int64)).astype(value.dtype)}


def other_feeds(feeds, bounds):
  """Yields feeds of the same shapes for what some feeds do not reach.

  Args:
    feeds: arrays by node name, on which a graph runs.
    bounds: see `bounds_of`.
  """
  random = np.random.RandomState(11)
  for scale in (10.0, 0.1):
    yield {name: _scaled(value, scale) for name, value in feeds.items()}
  for largest, times in ((1.0, 1), (255.0, 1), (None, 8), (1.0, 8)):
    yield {
      name: _drawn_anew(value, bounds.get(name), largest, times, random)
      for name, value in feeds.items()
    }


def more_rows(feeds, bounds):
  """Feeds of more rows than some have, small and large ones; None if too many.

  Args:
    feeds: arrays by node name, which were made up.
    bounds: see `bounds_of`.
  """
  times = _MORE_ROWS
  if sum(np.size(value) for value in feeds.values()) * times > _MOST_FED:
    return None
  random = np.random.RandomState(13)
  found = {}
  for name, value in feeds.items():
    is_normal = not _is_float(value) or np.min(value, initial=0) < 0
    largest = None if is_normal else float(np.max(value, initial=1))
    drawn = _drawn_anew(value, bounds.get(name), largest, times, random)
    if _is_float(value) and is_normal:
      scales = np.linspace(0.5, 4, len(drawn)).astype(drawn.dtype)
      drawn *= scales.reshape([-1] + [1] * (drawn.ndim - 1))
    found[name] = drawn
  return found


def _scaled(value, scale):
  return (value * scale).astype(value.dtype) if _is_float(value) else value


def _is_float(value):
  return np.ndim(value) > 0 and np.asarray(value).dtype.kind == "f"


def _drawn_anew(value, bound, largest, times, random):
  """Other values like some, in so many times the rows."""
  value = np.asarray(value)
  if not value.ndim:
    return value
  shape = (len(value) * times, *value.shape[1:])
  if _is_float(value):
    drawn = random.randn(*shape) if largest is None else random.rand(*shape)
    return (drawn * (largest or 1.0)).astype(value.dtype)
  if value.dtype.kind == "b":
    return random.rand(*shape) > 0.5
  if value.dtype.kind in "iu":
    # Without a bound they may be lengths, which go up to a size that is fed.
    high = bound or max(int(np.max(value, initial=1)) + 1, shape[-1])
    return random.randint(0, high, shape).astype(value.dtype)
  return np.concatenate([value] * times)


def _is_data(node):
  """Whether a placeholder with a default takes rows, and is no rate or flag.

  The default is often what an input pipeline delivers, and random.
  """
  return len(node.attr["shape"].shape.dim) > 1


def _open_sizes(node):
  shape = node.attr["shape"].shape
  return shape.unknown_rank or any(d.size < 0 for d in shape.dim[1:])


def _made_up(node, rows, size, largest, bounds, random):
  shape = node.attr["shape"].shape
  sizes = [d.size for d in shape.dim]
  if shape.unknown_rank or "shape" not in node.attr:
    sizes = [rows, size, size, 3]
  if len(sizes) > 4:
    size = max(size // 4, 1)  # a video of 64 in each direction takes minutes
  sizes = [
    d if d >= 0 else (rows if i == 0 else size) for i, d in enumerate(sizes)
  ]
  dtype = tf1.as_dtype(node.attr["dtype"].type)
  if dtype.is_floating or dtype.is_complex:
    values = np.float64(_SCALARS[largest])
    if sizes and largest is None:
      values = random.randn(*sizes)
    elif sizes:
      values = random.rand(*sizes) * largest
    return np.asarray(values).astype(dtype.as_numpy_dtype)
  if dtype == tf1.bool:
    return random.rand(*sizes) > 0.5
  if dtype == tf1.string:
    return np.full(sizes, b"", dtype=object)
  high = bounds.get(node.name, 2)
  return random.randint(0, high, sizes).astype(dtype.as_numpy_dtype)
