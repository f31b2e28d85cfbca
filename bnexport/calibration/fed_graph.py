# SPDX-License-Identifier: Apache-2.0
"""The part of a graph that recalibration runs, with statistics to feed."""

from __future__ import annotations

import numpy as np

from bnexport.calibration.data import Input
from bnexport.calibration.groups import refuse
from bnexport.errors import SourceError, nearest
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import static_shape, type_attr
from bnexport.model.stream import whole
from bnexport.tf1 import tf1

# Old graphs write a placeholder of unknown shape as a scalar.
_FIRST_WITH_SCALARS = 24


def as_kept(model, norm, which, flat):
  """A statistic in the dtype it is read in, rounded to the one it is kept in.

  Args:
    model: a Model.
    norm: the norm that reads it.
    which: "mean" or "variance".
    flat: float64 array.
  """
  with np.errstate(over="ignore"):
    stored = getattr(norm, "moving_" + which)
    if stored is not None:
      flat = flat.astype(model.dtype(TensorRef(stored)).as_numpy_dtype)
    return flat.astype(model.dtype(getattr(norm, which)).as_numpy_dtype)


def as_feeds(model, group):
  """A group's statistics as feeds for its norms.

  Raises:
    TransformError: the dtype of a statistic can't hold it.
  """
  feeds = {}
  for norm in group.norms:
    for which in ("mean", "variance"):
      value = as_kept(model, norm, which, getattr(group, which))
      if not np.isfinite(value.astype(np.float64)).all():
        refuse(
          norm,
          f"its new {which} is too large for {value.dtype}",
          "export the model in float32",
        )
      shape = group.shapes[norm.name, which]
      feeds[fed_name(norm, which)] = value.reshape(shape)
  return feeds


def fed_name(norm, which):
  """Name of the placeholder for a norm's "mean" or "variance"."""
  return f"{norm.name}/recalibrated_{which}"


def looked_at(group):
  """The tensors that are fetched for a group."""
  for norm in group.norms:
    yield norm.x
    yield from norm.form.shape_tensors(norm, group.places[norm.name])


def find_inputs(model, groups, needed, data):
  """Inputs to feed, by name: those that the norms and the data both have.

  Raises:
    SourceError: the norms need one that the data lacks, or the data has one
      that the model has not.
  """
  graph = model.graph
  placeholders = model.placeholders()
  for name in data.names:
    if name not in placeholders:
      raise SourceError(
        f"use calibration data '{data.path}'",
        f"'{name}' is no input of the graph",
        nearest(
          name,
          placeholders,
          "name the arrays %s"
          % ", ".join((f"'{name}'" for name in placeholders)),
        ),
      )
  inputs = {}
  for name in needed:
    if graph.op(name) not in ops.PLACEHOLDERS:
      continue
    if name in data.names:
      inputs[name] = Input(model.dtype(TensorRef(name)), _shape(graph, name))
    elif graph.op(name) != "PlaceholderWithDefault":
      raise SourceError(
        f"recalibrate norm '{_first_above(graph, groups, name)}'",
        f"its input '{name}' is not in calibration data '{data.path}'",
        "add an array of that name",
      )
  return inputs


def _first_above(graph, groups, name):
  """The first norm that needs a node."""
  for group in groups:
    for norm in group.norms:
      if name in graph.ancestors([norm.x.node]):
        return norm.name
  return groups[0].norms[0].name


def _shape(graph, name):
  shape = static_shape(graph, TensorRef(name))
  if shape == () and graph.versions.producer < _FIRST_WITH_SCALARS:
    return None
  return shape


def with_fed_statistics(model, groups, needed):
  """The needed part of the graph, norms' statistics being placeholders."""
  graph = model.graph
  graph_def = tf1.GraphDef()
  graph_def.versions.CopyFrom(graph.versions)
  graph_def.library.function.extend(graph.library.values())
  changes, forms = {}, {}
  for group in groups:
    for norm in group.norms:
      forms[norm.name] = norm.form
      place = group.places[norm.name]
      for which, slots in (("mean", place.mean), ("variance", place.variance)):
        node = graph_def.node.add(op="Placeholder", name=fed_name(norm, which))
        dtype = model.dtype(getattr(norm, which))
        node.attr["dtype"].CopyFrom(type_attr(dtype))
        for slot in slots:
          changes.setdefault(slot.node, {})[slot.index] = node.name
  for name in needed:
    node = graph_def.node.add()
    node.CopyFrom(whole(model, name))
    for index, fed in changes.get(name, {}).items():
      node.input[index] = fed
    if name in forms:
      forms[name].to_inference(node)
  return graph_def
