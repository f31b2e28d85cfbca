# SPDX-License-Identifier: Apache-2.0
"""Which ops constant folding runs, and which it leaves alone."""

from __future__ import annotations

import os

import pytest
from judges.transforming import model_of

from bnexport.graph import ops
from bnexport.tf1 import op_def, tf1
from bnexport.transforms import table
from bnexport.transforms.folding.kernels import PLAIN


def test_what_is_run_reaches_nothing_and_keeps_nothing():
  known = [op for op in PLAIN if op_def(op) is not None]
  assert len(known) > 0.9 * len(PLAIN)
  for op in known:
    assert ops.reaches(tf1.NodeDef(op=op)) is None, op
    assert not op_def(op).is_stateful and not ops.is_random(op), op
    functions = [a for a in op_def(op).attr if "func" in a.type]
    assert not functions and op not in ops.CONTROL_FLOW, op


@pytest.mark.parametrize(
  "statement",
  [
    "r = ReadFile(path)",
    "r = MatchingFiles(path)",
    'r = PyFuncStateless(path) {token="pyfunc_0", Tin=(string), Tout=(string)}',
    "r = DecodePng(path)",
    "r = RegexReplace(path, path, path)",
  ],
)
def test_what_reaches_out_is_left_as_it_is(tmp_path, statement):
  path = str(tmp_path / "fifo")
  os.mkfifo(path)  # who opens it waits for ever
  model = model_of(
    f"""
    path = Const() {{value=<string "{path}">}}
    {statement}
    y = Identity(r)
    """
  )
  table.apply_specs(model, "fold_constants")
  assert model.graph.op("r") == statement.split()[2].split("(")[0]
