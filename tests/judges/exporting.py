# SPDX-License-Identifier: Apache-2.0
"""Exporting a zoo case and judging the result, for several test files."""

import numpy as np
from judges.opening import trained

from bnexport.exporting.export import Options
from bnexport.exporting.export import export as export_model
from bnexport.proof.runs import ImportedGraph


def export(case, prefix=None, rename=lambda name: name, folds=True):
  """Exports a case as the freeze command would.

  Args:
    case: a zoo.Case.
    prefix: of another checkpoint with the same model, or None.
    rename: from the case's names to those of that model.
    folds: whether norms are folded, as they are where nobody says otherwise.
  """
  prefix = prefix or case.prefix
  outputs = [rename(name) for name in [case.output] + list(case.also)]
  inputs = [rename(case.input)] if case.cut_input else []
  model = trained(prefix, outputs, inputs)
  return export_model(
    model,
    Options(
      settings={rename(k): str(v) for k, v in case.set.items()},
      keep_batch_statistics=tuple(rename(s) for s in case.keep_scopes),
      moving_averages=case.ema,
      average_name=case.average,
      data_format="NHWC" if case.no_run_115 else None,
      fold_batch_norms=folds,
    ),
  )


def assert_answers(case, exported, rename=lambda name: name):
  """Asserts that an export imports, runs on x alone and answers the truth.

  The tolerance is the case's, relative to the largest element of the truth
  (at least 1).
  """
  runner = ImportedGraph(exported.to_graph_def(), exported.model.outputs)
  x = rename(case.input)
  answers = runner.run({x: case.x})
  for value, truth in zip(answers, [case.y] + list(case.also_y)):
    assert_close(value, truth, case.tol)
  if not (case.keep or case.keep_scopes or case.joint):
    half = (len(case.x) + 1) // 2
    part = runner.run({x: case.x[:half]})[0]
    assert_close(part, case.y[:half], case.tol)
  runner.close()


def assert_close(value, truth, tolerance):
  """Asserts equality up to `tolerance` times the largest element, or 1."""
  assert value.shape == truth.shape
  assert value.dtype == truth.dtype
  limit = tolerance * max(1.0, float(np.max(np.abs(truth))))
  assert float(np.max(np.abs(value - truth))) <= limit
