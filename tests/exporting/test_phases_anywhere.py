# SPDX-License-Identifier: Apache-2.0
"""Switches about data stay inputs; phases beside them do not."""

import numpy as np
import pytest
from judges.exporting import assert_close, export
from judges.opening import trained

from bnexport.errors import TransformError
from bnexport.exporting.export import export as export_model
from bnexport.proof.runs import ImportedGraph

# By case: the switch, what to feed it, and a value that chooses otherwise.
_SWITCHES = {
  "anywhere_domain": ("is_night", True, False),
  "anywhere_domain_norms": ("source", 1, 0),
  "anywhere_domain_phase": ("is_night", True, False),
  "anywhere_option": ("option", False, True),
  "anywhere_pooling": ("pooling", 2, 0),
  "anywhere_pooling_phase": ("pool", "avg", "max"),
  "anywhere_task": ("task", "count", "detect"),
}


@pytest.mark.parametrize("name", _SWITCHES)
def test_switch_about_data_stays_an_input(cases, name):
  case, (switch, value, other) = cases(name), _SWITCHES[name]
  exported = export(case._replace(set={}))
  assert sorted(exported.model.placeholders()) == sorted(["x", switch])
  assert any(
    f"'{switch}' stays an input" in str(line) for line in exported.model.history
  )
  runner = ImportedGraph(exported.to_graph_def(), exported.model.outputs)
  (answer,) = runner.run({"x": case.x, switch: np.array(value)})
  assert_close(answer, case.y, case.tol)
  (answer,) = runner.run({"x": case.x, switch: np.array(other)})
  assert np.abs(answer - case.y).max() > 0.01
  runner.close()


@pytest.mark.parametrize(
  "name, switch, values",
  [
    ("anywhere_domain_none", "normed", "False"),
    ("anywhere_three_modes_differ", "mode", "predict and ''"),
  ],
)
def test_unclear_phase_is_refused_with_its_flag(cases, name, switch, values):
  with pytest.raises(TransformError) as refused:
    export(cases(name)._replace(set={}))
  message = str(refused.value)
  assert values in message and f"--set={switch}=VALUE" in message


def test_inputs_that_disappear_are_named(cases):
  """Labels that only training decodes from; a warning where a user named it."""
  case = cases("anywhere_forced_labels")
  said = "'previous' is no input any more: no answer depends on it now"
  exported = export(case)
  assert said in map(str, exported.model.history)
  assert said not in map(str, exported.model.warnings)
  model = trained(case.prefix, [case.output], [case.input, "previous"])
  exported = export_model(model)
  assert said in map(str, exported.model.warnings)
