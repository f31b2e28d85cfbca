# SPDX-License-Identifier: Apache-2.0
"""What every transform keeps, on exports of the zoo and on small graphs."""

from __future__ import annotations

import copy

import pytest
import zoo
from judges.exporting import assert_close
from judges.small_graphs import OWN, SMALL
from judges.transforming import (
  answers,
  assert_same_answers,
  checkpoint,
  clone,
  ends,
  model_of,
)

from bnexport import text
from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.tf1 import tf1
from bnexport.transforms import table

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
  "freeze_requantization_ranges": [
    "freeze_requantization_ranges(min_max_log_file=ranges.log)"
  ],
  "remove_attribute": ["remove_attribute(attribute_name=_output_shapes)"],
  "remove_nodes": [
    "remove_nodes(op=Identity)",
    "remove_nodes(op=Identity, op=StopGradient, op=CheckNumerics)",
  ],
  "restore_updates": [
    "restore_updates(averages=moving_mean, averages=moving_variance)"
  ],
  "rename_attribute": [
    "rename_attribute(old_attribute_name=_a, new_attribute_name=_b)"
  ],
  "rename_node": ["rename_node(old_node_name=m, new_node_name=n)"],
  "rename_op": ["rename_op(old_op_name=AddV2, new_op_name=Add)"],
  "set_device": ['set_device(device="/device:CPU:0")'],
}
RANGES = ";r__print__;__requant_min_max:[-2][3]\n"
# A log is one graph's, and so are the names of nodes; what was frozen and is
# thawed has lost its values.
NOT_FOR_ALL = ("freeze_requantization_ranges", "rename_node", "thaw_variables")
LINES = {name: TOLD.get(name, [name]) for name in sorted(table.TRANSFORMS)}
SPECS = [
  line
  for name, lines in LINES.items()
  for line in lines
  if name not in NOT_FOR_ALL
]
PARSED = {line: table.parse(line) for line in SPECS}
# Their purpose is another answer.
ANOTHER_ANSWER = ("quantize_nodes", "quantize_weights", "round_weights")
LOWER_VERSIONS = ("backport", "backport_tensor_array_v3")
# Old ops, and tables, tell TensorFlow less of the shapes of what they give.
FEWER_SHAPES = LOWER_VERSIONS + ("sparsify_gather",)
FEWER_FUNCTIONS = ("strip_unused_nodes", "inline_functions")

_ZOO, _SMALL = frozenset(CASES), frozenset(SMALL)
_ALL = _ZOO | _SMALL
# Which models each transform changes. Of what is not listed it changes none.
CHANGED = {
  # TF 1.15 wrote them, and knows of no others.
  "add_default_attributes": _ZOO if tf1.__version__ >= "2" else frozenset(),
  "backport": _ALL - {"functions", "waiting"},
  "backport_concatv2": {
    "layers_partitioned",
    "loop_rnn_cell_literal",
    "arrays",
  },
  "backport_tensor_array_v3": {"loop_rnn_cell_literal", "arrays"},
  "flatten_atrous_conv": {"convolutions"},
  "fold_views": {"layers_partitioned", "loop_while_literal"},
  "fold_batch_norms": _ZOO,
  "fold_constants": _ZOO | {"functions", "inner input"},
  "fold_old_batch_norms": _ZOO,
  "fuse_pad_and_conv": {"convolutions"},
  "fuse_resize_and_conv": {"convolutions"},
  "fuse_resize_pad_and_conv": {"convolutions"},
  "inline_functions": {"functions"},
  "insert_logging": _ALL,
  "merge_duplicate_nodes": _ZOO
  - {"flow_data_cond_v2", "net_multi_output", "net_residual_v1"}
  | {"arrays"},
  "obfuscate_names": _ALL,
  "quantize_nodes": _ALL,
  "quantize_weights": {"weights"},
  "remove_attribute(attribute_name=_output_shapes)": _ZOO | {"inner input"},
  "remove_control_dependencies": {"waiting"},
  "remove_device": {"functions"},
  "remove_nodes(op=Identity)": _ZOO | {"functions"},
  "remove_nodes(op=Identity, op=StopGradient, op=CheckNumerics)": _ZOO
  | {"functions"},
  "remove_side_effects": {"waiting"},
  "rename_attribute(old_attribute_name=_a, new_attribute_name=_b)": {
    "functions"
  },
  "rename_op(old_op_name=AddV2, new_op_name=Add)": _ZOO - {"net_multi_output"},
  "replace_inputs": {"inner input"},
  "round_weights": {"weights"},
  'set_device(device="/device:CPU:0")': _ALL,
  "sparsify_gather": {"weights"},
  "state_shapes": _SMALL - {"inner input"},
  "strip_unused_nodes": {"functions", "inner input"},
}
# Where each refuses; all that is not listed it has to do.
REFUSED = {
  "backport": {"functions"},  # TF 1.4 has no PartitionedCall
  "use_moving_averages": _ALL,  # nothing has one
}
# Every graph is written in this order, and its index has none.
CHANGES_NOTHING = ("sort_by_execution_order",)


def nodes(model):
  """The NodeDefs of a Model as bytes, by name."""
  return {
    node.name: node.SerializeToString(deterministic=True)
    for node in model.graph
  }


def state(model):
  """All of a Model that a transform may change."""
  values = {
    node.name: model.values[node.name].tolist()
    for node in model.graph
    if node.op in ops.VARIABLES and node.name in model.values
  }
  library = {
    name: f.SerializeToString(deterministic=True)
    for name, f in model.graph.library.items()
  }
  return nodes(model), library, values


@pytest.fixture(scope="module")
def loaded(cases, exports):
  """Loads a Model with feeds and answers by name, each once."""
  known = {}

  def load(name):
    if name not in known:
      if name in SMALL:
        model = model_of(SMALL[name].graph, inputs=["x"])
        feeds = {"x": SMALL[name].feed()}
      else:
        case = cases(name)
        model = clone(exports(name).before_folding().model)
        feeds = {case.input: case.x}
        model.inputs = (TensorRef(case.input),)
      known[name] = model, feeds, answers(model, feeds), ends(model)
    model, feeds, expected, there = known[name]
    return clone(model), feeds, expected, there

  return load


PAIRS = [(name, line) for name in CASES + tuple(SMALL) for line in SPECS]


@pytest.mark.parametrize(
  "name, line", [p for p in PAIRS if p[0] in CHANGED.get(p[1], ())]
)
def test_what_is_changed_keeps_what_a_user_has(loaded, name, line):
  model, feeds, expected, there = loaded(name)
  transform = line.partition("(")[0]
  before, versions = state(model), copy.deepcopy(model.graph.versions)
  library = set(model.graph.library)
  table.apply_specs(model, PARSED[line])
  once = state(model)
  assert once != before
  _assert_rest_kept(model, transform, library, versions)
  _assert_same_ends(ends(model), there, transform in FEWER_SHAPES)
  found = answers(model, feeds)
  if transform not in ANOTHER_ANSWER:
    assert_same_answers(found, expected)
  table.apply_specs(model, PARSED[line])
  assert state(model) == once


@pytest.mark.parametrize(
  "name, line", [p for p in PAIRS if p[0] not in CHANGED.get(p[1], ())]
)
def test_what_is_not_changed_is_the_same(loaded, name, line):
  model = loaded(name)[0]
  before = state(model)
  if name in REFUSED.get(line, ()):
    with pytest.raises(TransformError, match="^cannot "):
      table.apply_specs(model, PARSED[line])
  else:
    table.apply_specs(model, PARSED[line])
  assert state(model) == before


def _assert_rest_kept(model, transform, library, versions):
  if transform not in LOWER_VERSIONS:
    assert model.graph.versions == versions
  if transform not in FEWER_FUNCTIONS:
    assert set(model.graph.library) == library


def _assert_same_ends(found, expected, may_know_less):
  for (name, dtype, shape), (old_name, old_dtype, old) in zip(found, expected):
    assert (name, dtype) == (old_name, old_dtype)
    assert shape == old or (
      may_know_less
      and (shape is None or all(a in (None, b) for a, b in zip(shape, old)))
    )


# A transform that refuses everything, or changes nothing, would keep all that
# is asked above.


def test_every_transform_changes_something():
  changing = {line for line, names in CHANGED.items() if names}
  assert changing <= set(SPECS)
  left = {
    name
    for name, lines in LINES.items()
    if not changing & set(lines) and name not in OWN
  }
  if tf1.__version__ < "2":
    left -= {"add_default_attributes"}  # see CHANGED
  assert left == set(CHANGES_NOTHING)
  assert set(OWN) <= set(table.TRANSFORMS)


@pytest.mark.parametrize("name", sorted(OWN))
def test_graph_for_one_transform(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "ranges.log").write_text(RANGES)
  own = OWN[name]
  saved = checkpoint(tmp_path, own.values) if own.values else None
  model = model_of(own.graph, inputs=["x"], saved=saved)
  feeds, before = {"x": own.feed()}, state(model)
  reference = model_of(own.same) if own.same else clone(model)
  expected = answers(reference, feeds)
  (line,) = LINES[name]
  table.apply_specs(model, line)
  assert state(model) != before
  assert_same_answers(answers(model, feeds), expected)


# All pairs of 40 transforms and 550 models take minutes: every model meets a
# fifth of the transforms, which is not the fifth that the next model meets, nor
# the next one in a part of them.
PART = 5
MODELS = [name for name in zoo.names() if not name.startswith("refuse_")]
# What an export holds no more: its variables are constants.
REFUSED_IN_THE_ZOO = ("use_moving_averages",)


@pytest.mark.part(4, 3, oldest=7)
@pytest.mark.parametrize("place, name", list(enumerate(MODELS)))
def test_every_model_meets_transforms(cases, exports, place, name):
  """One after another; the answer at the end is the truth."""
  case = cases(name)
  model = clone(exports(name).before_folding().model)
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
  found = answers(model, {case.input: case.x})
  for value, truth in zip(found, [case.y] + list(case.also_y)):
    assert_close(value, truth, case.tol)


def _assert_step_keeps(model, line):
  library = set(model.graph.library)
  versions = copy.deepcopy(model.graph.versions)
  before = nodes(model)
  if line in REFUSED_IN_THE_ZOO:
    with pytest.raises(TransformError, match="^cannot "):
      table.apply_specs(model, PARSED[line])
    assert nodes(model) == before
  else:
    table.apply_specs(model, PARSED[line])
    _assert_rest_kept(model, line, library, versions)
    once = nodes(model)
    if once != before:
      table.apply_specs(model, PARSED[line])
      assert nodes(model) == once, f"{line} changes what it has changed"


@pytest.mark.parametrize("line", SPECS)
def test_transforms_leave_the_callers_graph(line):
  graph_def = text.loads(SMALL["functions"].graph)
  before = graph_def.SerializeToString(deterministic=True)
  model = model_of(graph_def, inputs=["x"])
  if "functions" in REFUSED.get(line, ()):
    with pytest.raises(TransformError):
      table.apply_specs(model, PARSED[line])
  else:
    table.apply_specs(model, PARSED[line])
  assert graph_def.SerializeToString(deterministic=True) == before
