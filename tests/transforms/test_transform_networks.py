# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 and Inception v3, against what the Graph Transform Tool made."""

from __future__ import annotations

import json
import os
import sys

import pytest
from conftest import ROOT
from judges.transforming import clone, model_of

from bnexport.transforms import table

sys.path.insert(0, os.path.join(ROOT, "scripts"))

from judges import oracle_networks as oracle  # noqa: E402

with open(oracle.PATH) as _f:
  RECORDED = json.load(_f)
ROUNDING = 1e-5


def _left_norms(old, ours):
  """It left FusedBatchNorm to the other one, or weights behind Identity."""
  return old["FusedBatchNorm"] and "FusedBatchNorm" not in ours


def _left_sums(old, ours):
  """It knew neither AddV2 nor ConcatV2."""
  newer = {"AddV2", "ConcatV2"}
  return newer & set(old) and not newer & set(ours)


def _quantized_again(old, ours):
  """It quantized a tensor anew for each reader."""
  ops = [op for op in old if op.startswith("Quantized")]
  return all(ours[op] == old[op] for op in ops) and (
    ours["QuantizeV2"] < old["QuantizeV2"]
  )


def _added_no_op(old, ours):
  """It added a group_deps where it had turned nothing."""
  return old == dict(ours, NoOp=1)


# What the old tool did, where that was less or wrong.
OLD = {
  "fold_batch_norms": _left_norms,
  "fold_old_batch_norms": _left_norms,
  "quantize_nodes": _left_sums,
  "quantize_nodes(ignore_op=AddV2, ignore_op=ConcatV2)": _quantized_again,
  "sparsify_gather": _added_no_op,
}
# These change numbers, hardly more than the old tool did; sums of eight bits,
# which it did not make, cost some.
COARSER = ("quantize_nodes", "quantize_weights", "round_weights")
MOST = {"quantize_nodes": 2.0}


@pytest.fixture(scope="module")
def network():
  """A network's Model and its answer, each once."""
  known = {}

  def load(name):
    if name not in known:
      graph_def = oracle.build(name)
      known[name] = (
        model_of(graph_def, inputs=["x"]),
        oracle.answer(graph_def),
      )
    return known[name]

  return load


def test_everything_is_recorded():
  for name in oracle.NETWORKS:
    assert sorted(RECORDED[name]) == sorted(oracle.SPECS)


@pytest.mark.parametrize("spec", oracle.SPECS)
@pytest.mark.parametrize("name", sorted(oracle.NETWORKS))
def test_networks_become_what_they_became(network, name, spec):
  original, expected = network(name)
  model, old = clone(original), RECORDED[name][spec]
  table.apply_specs(model, spec)
  made = model.graph.to_graph_def()
  ours = oracle.histogram(made)
  if spec == "obfuscate_names":
    # It left loc:@ of the old names: nobody could import what it made.
    assert "colocated with unknown node" in old["error"]
  elif spec in OLD:
    assert OLD[spec](old["histogram"], ours)
  else:
    assert ours == old["histogram"]
  if made == original.graph.to_graph_def():
    return  # so is its answer
  apart = oracle.apart(oracle.answer(made), expected)
  if any(word in spec for word in COARSER):
    assert apart <= MOST.get(spec, 1.2) * old["apart"] + ROUNDING
  else:
    assert apart <= ROUNDING
