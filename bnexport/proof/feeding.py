# SPDX-License-Identifier: Apache-2.0
"""Feeds for a graph: made up, or a user's."""

from __future__ import annotations

import numpy as np

from bnexport.errors import ComparisonError
from bnexport.graph import ops
from bnexport.graph.nodes import constant_value
from bnexport.tf1 import tf1

_ROWS = 4
# What floats are made up from: none is normal, others go up to a pixel's.
RANGES = (None, 255.0)
_MOST_ROWS = 1024
# So many numbers of rows are tried.
_MOST_TRIED = 8
# Sizes tried for dimensions that a graph leaves open: networks halve images
# some times, and crop or flatten to fixed sizes.
_SIZES = (64, 32, 224, 8, 128, 299, 16, 256, 5, 1)


def made_up_feeds(graph_def, rows=_ROWS, largest=None):
  """Yields feeds to try: random values in the placeholders' shapes.

  Feeds are dicts of arrays by node name. Open first dimensions get `rows`
  rows; other open ones the same size each, another size in each try. Floats
  are normal, or lie evenly between 0 and `largest`.
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
      node.name: _made_up(node, rows, size, largest, random)
      for node in placeholders
    }


def _is_data(node):
  """Whether a placeholder with a default takes rows, and is no rate or flag.

  The default is often what an input pipeline delivers, and random.
  """
  return len(node.attr["shape"].shape.dim) > 1


def _open_sizes(node):
  shape = node.attr["shape"].shape
  return shape.unknown_rank or any(d.size < 0 for d in shape.dim[1:])


def _made_up(node, rows, size, largest, random):
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
    values = np.float64(1.0)
    if sizes and largest is None:
      values = random.randn(*sizes)
    elif sizes:
      values = random.rand(*sizes) * largest
    return np.asarray(values).astype(dtype.as_numpy_dtype)
  if dtype == tf1.bool:
    return random.rand(*sizes) > 0.5
  if dtype == tf1.string:
    return np.full(sizes, b"", dtype=object)
  return random.randint(0, 2, sizes).astype(dtype.as_numpy_dtype)


def run_given(runner, feeds):
  """The answers for a user's feeds.

  Raises:
    ComparisonError: the graph does not run on them.
  """
  try:
    return runner.run(feeds)
  except ComparisonError as error:
    raise ComparisonError(
      error.what, error.fact, "give feeds of the inputs' shapes and dtypes"
    ) from error


def refuse_other_names(graph_def, feeds):
  """Raises ComparisonError where feeds and inputs are not the same."""
  inputs = [node.name for node in graph_def.node if node.op in ops.PLACEHOLDERS]
  unknown = [name for name in feeds if name not in inputs]
  if unknown:
    raise ComparisonError(
      "run the graph with the feeds",
      f"'{unknown[0]}' is no input of it",
      "give arrays named %s" % (", ".join((f"'{name}'" for name in inputs)),),
    )


def first_that_runs(runner, tried, proof):
  """The first feeds that a graph runs on, and its answers; or two None.

  Args:
    runner: a Run.
    tried: iterable of feeds.
    proof: a Comparison; is told why nothing runs.
  """
  said = None
  for feeds in tried:
    try:
      return feeds, runner.run(feeds)
    except ComparisonError as error:
      said = said or error.fact
  proof.missing = "no made-up input fits the graph"
  proof.notes.append(
    f"not run: {said}; pass --feeds=FILE.npz with arrays by input name"
  )
  return None, None


def is_alive(feeds, answers):
  """Whether answers depend on what is fed, as far as rows can tell.

  Behind dead ReLUs and saturated sigmoids every row gets the same answer, and
  whatever is wrong before them is not seen.
  """
  fed = [v for v in feeds.values() if np.ndim(v)]
  rows = {len(v) for v in fed}
  if all(_is_alike(v) for v in fed):
    return True
  alike = [
    _is_alike(answer)
    for answer in map(np.asarray, answers)
    if np.ndim(answer) and answer.dtype.kind == "f" and {len(answer)} == rows
  ]
  return not alike or not all(alike)


def _is_alike(array):
  """Whether all rows are the same."""
  return bool(np.all(array == array[:1]))


def row_counts(*graphs):
  """Numbers of rows to try, likely ones first.

  Where a batch is cut into groups or has a fixed size, a constant of the graph
  says so: the first sizes of a Reshape, or those of another placeholder or of
  what a loop collects.

  Args:
    *graphs: Graphs that the rows are for, or None.
  """
  found = [_ROWS]
  for graph, node in ((g, node) for g in graphs if g for node in g):
    sizes = []
    if node.op in ops.PLACEHOLDERS:
      sizes = [d.size for d in node.attr["shape"].shape.dim][:1]
    elif node.op == "Reshape":
      shape = constant_value(graph, graph.data_inputs(node.name)[1])
      sizes = [] if shape is None or shape.ndim != 1 else list(shape[:2])
    elif node.op == "TensorArrayV3":
      sizes = [d.size for d in node.attr["element_shape"].shape.dim][:1]
    found += [int(size) for size in sizes if 1 < size <= _MOST_ROWS]
  return list(dict.fromkeys(found))[:_MOST_TRIED]
