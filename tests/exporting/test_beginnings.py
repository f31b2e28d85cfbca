# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of one training graph are exported as each is by itself."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import zoo
from judges.transforming import save_tensors

from bnexport import sources
from bnexport.exporting import beginnings
from bnexport.exporting.beginnings import Beginnings
from bnexport.exporting.export import Options, export
from bnexport.model import checkpoint, stream
from bnexport.model.request import Request
from bnexport.tf1 import tf1
from bnexport.transforms.inference import freeze_variables

CASES = [n for n in zoo.names() if not n.startswith("refuse_")]
# Their phase, or which average is meant, is read off values.
BY_VALUES = ("contrib_variable_flag", "quant_delay_over", "shared_decayed_sums")


@pytest.fixture(autouse=True)
def crc():
  pytest.importorskip("google_crc32c")


def asked(case, prefix=None):
  """The Request and the Options for a case, of another checkpoint perhaps."""
  prefix = prefix or case.prefix
  request = Request(
    "meta_graph",
    prefix + ".meta",
    prefix,
    tuple([case.output, *case.also]),
    tuple([case.input] if case.cut_input else []),
  )
  options = Options(
    settings={k: str(v) for k, v in case.set.items()},
    keep_batch_statistics=tuple(case.keep_scopes),
    moving_averages=case.ema,
    data_format="NHWC" if case.no_run_115 else None,
  )
  return request, options


def saved_with(case, folder, change):
  """A checkpoint of a case's graph; `change` gives values by key and value."""
  os.makedirs(str(folder))
  prefix = os.path.join(str(folder), "model.ckpt")
  old = checkpoint.Checkpoint(case.prefix)
  values = {key: change(key, old.read(key)) for key in old.shapes}
  save_tensors(prefix, values)
  shutil.copy(case.prefix + ".meta", prefix + ".meta")
  return prefix


def grown(key, value):
  return value * value.dtype.type(1.5) if value.dtype.kind == "f" else value


def facts(made):
  """All that is written of an Export, and what is said of it."""
  model = made.model
  return (
    b"".join(map(bytes, stream.pieces(model))),
    model.history,
    model.warnings,
    model.decisions,
    model.origin,
    model.request,
    model.inputs,
    model.outputs,
    made.health,
    made.kept,
    made.original.graph.to_graph_def(),
    made.original.values.checkpoint.prefix,
    made.original.decisions is model.decisions,
    made.original.values is model.values,
    type(made.reference),
  )


def alone(request, options):
  return facts(export(sources.open(request), options))


def counting(monkeypatch):
  """A list of the Requests whose beginning is made."""
  begun = []

  def begin(model, *more):
    begun.append(model.request)
    return real(model, *more)

  real = beginnings.begin
  monkeypatch.setattr(beginnings, "begin", begin)
  return begun


@pytest.mark.parametrize("most", [4, 1 << 16])
@pytest.mark.parametrize("name", CASES[::18])
def test_each_is_exported_as_if_it_were_alone(
  cases, tmp_path, monkeypatch, name, most
):
  """In whatever order, and also where large values are not looked at."""
  monkeypatch.setattr(freeze_variables, "_MOST_ELEMENTS", most)
  case = cases(name)
  prefixes = [None, saved_with(case, tmp_path / "other", grown), None]
  shared = Beginnings()
  made = [shared.export(*asked(case, prefix)) for prefix in prefixes]
  expected = [alone(*asked(case, prefix)) for prefix in prefixes]
  assert [facts(one) for one in made] == expected
  assert expected[0][0] != expected[1][0]


def test_one_beginning_does(cases, tmp_path, monkeypatch):
  case, begun = cases("contrib_fused_phase"), counting(monkeypatch)
  shared = Beginnings()
  other = saved_with(case, tmp_path / "other", grown)
  for prefix in (None, other, None, other):
    shared.export(*asked(case, prefix))
  assert len(begun) == 1


@pytest.mark.parametrize("name", BY_VALUES)
def test_what_values_decide_is_decided_for_each(cases, monkeypatch, name):
  case, begun = cases(name), counting(monkeypatch)
  shared = Beginnings()
  for _ in range(2):
    shared.export(*asked(case))
  assert len(begun) == 2 and shared._held is None


def test_flags_that_have_other_values(cases, tmp_path):
  """The phase of the one is not that of the other."""
  case = cases("contrib_variable_flag")

  def flipped(key, value):
    return ~value if value.dtype == bool else value

  other = saved_with(case, tmp_path / "other", flipped)
  shared = Beginnings()
  for prefix in (None, other, None):
    try:
      expected = alone(*asked(case, prefix))
    except Exception as error:
      with pytest.raises(type(error), match=".") as refused:
        shared.export(*asked(case, prefix))
      assert str(refused.value) == str(error)
    else:
      assert facts(shared.export(*asked(case, prefix))) == expected


def test_other_graphs_options_and_layouts_have_their_own(
  cases, tmp_path, monkeypatch
):
  case, begun = cases("contrib_fused_phase"), counting(monkeypatch)
  request, options = asked(case)
  shared = Beginnings()
  shared.export(request, options)

  # Another option, another output, another graph, and other types.
  shared.export(request, dataclasses.replace(options, fold_batch_norms=False))
  shared.export(dataclasses.replace(request, outputs=("fc/BiasAdd",)), options)
  prefix = saved_with(case, tmp_path / "graph", grown)
  meta = tf1.MetaGraphDef()
  with open(prefix + ".meta", "rb") as f:
    meta.ParseFromString(f.read())
  meta.meta_info_def.tags.append("other")
  with open(prefix + ".meta", "wb") as f:
    f.write(meta.SerializeToString())
  shared.export(*asked(case, prefix))
  assert len(begun) == 4

  def extended(key, value):
    return value if key != "global_step" else np.int32(value)

  assert "global_step" in checkpoint.Checkpoint(case.prefix)
  prefix = saved_with(case, tmp_path / "layout", extended)
  shared.export(request, options)
  shared.export(*asked(case, prefix))
  assert len(begun) == 6


def test_initial_values_are_not_shared(cases, monkeypatch):
  """They may be random."""
  case, begun = cases("contrib_fused_phase"), counting(monkeypatch)
  request, options = asked(case)
  shared = Beginnings()
  for missing in ("initialize", "refuse", "initialize"):
    shared.export(request, dataclasses.replace(options, missing=missing))
  assert len(begun) == 1


@pytest.mark.parametrize("name", CASES[::24])
def test_the_graph_before_is_not_edited(cases, tmp_path, name):
  """Not by proofs either: exports of several checkpoints share it."""
  case = cases(name)
  shared = Beginnings()
  first = shared.export(*asked(case))
  before = first.original.graph.to_graph_def().SerializeToString(
    deterministic=True
  )
  first.prove()
  other = shared.export(*asked(case))
  if shared._held is not None:
    assert other.original.graph is first.original.graph
  now = other.original.graph.to_graph_def().SerializeToString(
    deterministic=True
  )
  assert now == before
  assert other.prove().verdict == first.prove().verdict


def test_large_graphs_are_not_held(cases, monkeypatch):
  case, begun = cases("contrib_fused_phase"), counting(monkeypatch)
  monkeypatch.setattr(beginnings, "_LARGEST", 1000)
  shared = Beginnings()
  for _ in range(2):
    shared.export(*asked(case))
  assert len(begun) == 2 and shared._held is None
