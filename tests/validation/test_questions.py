# SPDX-License-Identifier: Apache-2.0
"""The questions of a validation, asked of small graphs."""

import contextlib

import numpy as np
import pytest
from judges.transforming import model_of

from bnexport.errors import ComparisonError, Error
from bnexport.proof.runs import ImportedGraph
from bnexport.validation import questions
from bnexport.validation.opening import Reference

GRAPH = "x = Placeholder() {shape=[?,2]}   y = Relu(x)"
OTHER = "x = Placeholder() {shape=[?,2]}   y = Relu6(x)"
PAIRS = GRAPH.replace("?", "2")


@pytest.fixture
def validate():
  """Holds the first of two graphs against the second."""
  with contextlib.ExitStack() as opened:

    def run(graph, other=None, feeds=None):
      def imported(statements):
        model = model_of(statements)
        proto = model.graph.to_graph_def()
        return model, opened.enter_context(ImportedGraph(proto, ["y"]))

      model, runner = imported(graph)
      reference = None if other is None else Reference(imported(other)[1])
      return questions.validate(model, runner, reference, feeds)

    yield run


def rows(count, last=1.0):
  """Rows that go apart in the last one, where that is large."""
  x = np.linspace(0.1, 1, count * 2, dtype=np.float32).reshape(count, 2)
  x[-1] = last
  return {"x": x}


@pytest.mark.parametrize("count", [3, 64, 65, 200])
def test_row_that_differs_is_found_in_whatever_batch_it_is(validate, count):
  assert validate(GRAPH, OTHER, rows(count)).holds
  found = validate(GRAPH, OTHER, rows(count, 9.0))
  assert not found.holds
  assert found.proof.verdict == "DIFFERS"
  assert found.proof.differences[0].largest == 3
  assert found.parting.first.output == "y"


def test_rows_that_no_batch_has_are_told(validate):
  found = validate(PAIRS, PAIRS, rows(5))
  assert len(found.batches) == 2
  assert found.proof.notes[0].startswith("the last 1 of 5 rows were not fed")


def test_made_up_feeds_are_said_to_be(validate):
  found = validate(GRAPH)
  assert found.proof.is_made_up and not found.is_compared and found.holds
  assert validate(GRAPH, feeds=rows(3)).proof.is_made_up is False


@pytest.mark.parametrize(
  "feeds, words",
  [({"x": np.zeros((0, 2), np.float32)}, "no rows"), ({"z": 1}, "'z'")],
)
def test_feeds_that_do_not_fit_are_refused(validate, feeds, words):
  with pytest.raises(Error, match=words):
    validate(GRAPH, feeds=feeds)


def test_reference_of_other_inputs_compares_nothing(validate):
  with pytest.raises(ComparisonError, match="give both graphs the same inputs"):
    validate(GRAPH, OTHER.replace("x", "z"))
