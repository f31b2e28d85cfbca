# SPDX-License-Identifier: Apache-2.0
"""What every transform keeps, on exports of the zoo and on small graphs."""

from __future__ import annotations

import numpy as np
import pytest
import zoo
from judges.exporting import assert_close, export
from judges.transforming import (
  answers,
  assert_same_answers,
  clone,
  ends,
  model_of,
)

from bnexport import text
from bnexport.errors import TransformError
from bnexport.graph import TensorRef
from bnexport.tf1 import session
from bnexport.transforms import spec, table

CASES = (
  "flow_data_cond",
  "flow_data_cond_v2",
  "layers_partitioned",
  "loop_rnn_cell_literal",
  "loop_while_literal",
  "net_image_bytes",
  "net_multi_output",
  "net_residual_v1",
)
# Transforms that have to be told something.
TOLD = {
  "remove_attribute": ["remove_attribute(attribute_name=_output_shapes)"],
  "remove_nodes": [
    "remove_nodes(op=Identity)",
    "remove_nodes(op=Identity, op=StopGradient, op=CheckNumerics)",
  ],
  "rename_attribute": [
    "rename_attribute(old_attribute_name=a, new_attribute_name=b)"
  ],
  "rename_node": [],  # a second time, the node is not there
  "rename_op": ["rename_op(old_op_name=AddV2, new_op_name=Add)"],
  "set_device": ['set_device(device="/device:CPU:0")'],
  "freeze_requantization_ranges": [],
  "thaw_variables": [],  # variables have no values then
}
SPECS = sorted(
  line
  for name, cls in table.TRANSFORMS.items()
  for line in TOLD.get(name, [name])
  if name in TOLD
  or not any(p.is_required for p in spec.parameters_of(cls).values())
)
PARSED = {line: table.parse(line) for line in SPECS}
# Their purpose is another answer.
ANOTHER_ANSWER = ("quantize_nodes", "quantize_weights", "round_weights")
LOWER_VERSIONS = ("backport", "backport_tensor_array_v3")
FEWER_FUNCTIONS = ("strip_unused_nodes", "inline_functions")

SMALL = {
  "functions": """
    graph {producer=134}
    x = Placeholder() {shape=[?,3]}
    c = Const() {value=<float [3] 1 2 3>}   d = Const() {value=<float 2>}
    m = Mul(c, d)
    a = PartitionedCall(x, m) {Tin=(float, float), Tout=(float), f=f{}}
    i = Identity(a) @"/device:CPU:0"
    y = Relu(i)
    function f(x float, s float) -> (z float = r:output:0) {
      p = Mul(x, s)
      r = Identity(p:z:0)
    }
    function unused(x float) -> (z float = x) {}
  """,
  "arrays": """
    graph {producer=134}
    x = Placeholder() {shape=[2,3]}
    n = Const() {value=<int32 2>}   i = Const() {value=<int32 0>}
    j = Const() {value=<int32 1>}   r = Const() {value=<int32 [2] 0 1>}
    t = TensorArrayV3(n) {dtype=float}
    u = TensorArrayWriteV3(t, i, x, t:1)   v = TensorArrayWriteV3(t, j, x, u)
    g = TensorArrayGatherV3(t, r, v) {dtype=float, element_shape=[2,3]}
    axis = Const() {value=<int32 0>}
    y = ConcatV2(g, g, axis)
  """,
}


def nodes(model):
  """The NodeDefs of a Model as bytes, by name."""
  return {
    node.name: node.SerializeToString(deterministic=True)
    for node in model.graph
  }


@pytest.fixture(scope="module")
def loaded(cases):
  """Loads a Model with feeds and answers by name, each once."""
  known = {}

  def load(name):
    if name not in known:
      if name in SMALL:
        model = model_of(SMALL[name], inputs=["x"])
        feeds = {"x": np.arange(6, dtype="f").reshape(2, 3) - 2}
      else:
        case = cases(name)
        model, feeds = export(case, folds=False).model, {case.input: case.x}
        model.inputs = (TensorRef(case.input),)
      known[name] = model, feeds, answers(model, feeds), ends(model)
    model, feeds, expected, there = known[name]
    return clone(model), feeds, expected, there

  return load


@pytest.mark.parametrize("line", SPECS)
@pytest.mark.parametrize("name", CASES + tuple(SMALL))
def test_transforms_keep_what_a_user_has(loaded, name, line):
  model, feeds, expected, there = loaded(name)
  transform = line.partition("(")[0]
  library, versions = dict(model.graph.library), model.graph.clone().versions
  try:
    table.apply_specs(model, PARSED[line])
  except TransformError as refused:
    assert str(refused).startswith("cannot ")
    assert nodes(model) == nodes(loaded(name)[0])
    return
  _assert_rest_kept(model, transform, library, versions)
  once = nodes(model)
  if once == nodes(loaded(name)[0]) and model.graph.library == library:
    return  # the same graph, with the same answers
  _assert_same_ends(ends(model), there, transform in LOWER_VERSIONS)
  found = answers(model, feeds)
  if transform not in ANOTHER_ANSWER:
    assert_same_answers(found, expected)
  table.apply_specs(model, PARSED[line])
  assert nodes(model) == once


def _assert_rest_kept(model, transform, library, versions):
  if transform not in LOWER_VERSIONS:
    assert model.graph.versions == versions
  if transform not in FEWER_FUNCTIONS:
    assert set(model.graph.library) == set(library)


def _assert_same_ends(found, expected, may_know_less):
  """Older ops tell TensorFlow less about the shapes of what they give."""
  for (name, dtype, shape), (old_name, old_dtype, old) in zip(found, expected):
    assert (name, dtype) == (old_name, old_dtype)
    assert shape == old or (
      may_know_less
      and (shape is None or all(a in (None, b) for a, b in zip(shape, old)))
    )


# All pairs of 40 transforms and 290 models take minutes: every model meets a
# fifth of the transforms, which is not the fifth that the next model meets.
PART = 5
MODELS = [name for name in zoo.names() if not name.startswith("refuse_")]


@pytest.mark.parametrize("place, name", list(enumerate(MODELS)))
def test_every_model_meets_transforms(cases, place, name):
  """One after another; the answer at the end is the truth."""
  case = cases(name)
  model = export(case, folds=False).model
  model.inputs = (TensorRef(case.input),)
  outputs = model.outputs
  lines = [line for i, line in enumerate(SPECS) if (i + place) % PART == 0]
  lines = lines[place % len(lines) :] + lines[: place % len(lines)]
  lines.sort(key=lambda line: line in ANOTHER_ANSWER)
  is_compared = False
  for line in lines + [None]:
    if not is_compared and (line is None or line in ANOTHER_ANSWER):
      _assert_truth(case, model)
      is_compared = True
    if line is not None:
      _assert_step_keeps(model, line)
    assert model.outputs == outputs


def _assert_truth(case, model):
  graph = model.graph.to_tf_graph()
  tensors = ["%s:%d" % (ref.node, ref.index) for ref in model.outputs]
  with session(graph) as running:
    running.run(list(model.initializers))
    found = running.run(tensors, {case.input + ":0": case.x})
  for value, truth in zip(found, [case.y] + list(case.also_y)):
    assert_close(value, truth, case.tol)


def _assert_step_keeps(model, line):
  graph = model.graph
  library = dict(graph.library)
  versions = type(graph.versions)()
  versions.CopyFrom(graph.versions)
  before = nodes(model)
  try:
    table.apply_specs(model, PARSED[line])
  except TransformError as refused:
    assert str(refused).startswith("cannot ")
    assert nodes(model) == before
    return
  _assert_rest_kept(model, line, library, versions)
  once = nodes(model)
  if once != before:
    table.apply_specs(model, PARSED[line])
    assert nodes(model) == once, "%s changes what it has changed" % line


@pytest.mark.parametrize("line", SPECS)
def test_transforms_leave_the_callers_graph(line):
  graph_def = text.loads(SMALL["functions"])
  before = graph_def.SerializeToString(deterministic=True)
  model = model_of(graph_def, inputs=["x"])
  try:
    table.apply_specs(model, PARSED[line])
  except TransformError:
    pass
  assert graph_def.SerializeToString(deterministic=True) == before


def test_transforms_are_tried_on_graphs_they_change(loaded):
  """A contract that nothing puts to the test would prove nothing."""
  changed = {
    line
    for line in SPECS
    for name in CASES + tuple(SMALL)
    if _changes(loaded(name)[0], line)
  }
  assert {
    "backport_concatv2",
    "backport_tensor_array_v3",
    "fold_constants",
    "insert_logging",
    "merge_duplicate_nodes",
    "obfuscate_names",
    "remove_device",
    "remove_nodes(op=Identity)",
  } <= changed


def _changes(model, line):
  before = nodes(model)
  try:
    table.apply_specs(model, PARSED[line])
  except TransformError:
    return False
  return nodes(model) != before
