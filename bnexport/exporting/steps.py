# SPDX-License-Identifier: Apache-2.0
"""The steps from a training graph to one that only infers."""

from __future__ import annotations

import copy
from typing import Tuple

from bnexport.batchnorm.forms import find
from bnexport.batchnorm.norm import STORED
from bnexport.errors import SourceError, nearest
from bnexport.exporting import control_flow, initial_values, inputs
from bnexport.graph import ops
from bnexport.mending.mending import set_aside
from bnexport.model.changes import Doubt, changes_by
from bnexport.model.tables import keep_initializers, refuse_mutable
from bnexport.transforms.folding.fold_batch_norms import FoldBatchNorms
from bnexport.transforms.folding.fold_views import FoldViews
from bnexport.transforms.folding.remove_neutral_arithmetic import (
  RemoveNeutralArithmetic,
)
from bnexport.transforms.inference import freeze_in_session
from bnexport.transforms.inference.decide import Decide
from bnexport.transforms.inference.freeze_variables import FreezeVariables
from bnexport.transforms.inference.inline_functions import InlineFunctions
from bnexport.transforms.inference.leave_loops import LeaveLoops
from bnexport.transforms.inference.read_variables import ReadVariables
from bnexport.transforms.inference.remove_noise import RemoveNoise
from bnexport.transforms.inference.remove_side_effects import RemoveSideEffects
from bnexport.transforms.inference.replace_inputs import ReplaceInputs
from bnexport.transforms.inference.use_moving_averages import (
  UseMovingAverages,
  use_swapped,
)
from bnexport.transforms.inference.use_one_replica import UseOneReplica
from bnexport.transforms.inference.use_stored_ranges import UseStoredRanges
from bnexport.transforms.inference.use_stored_statistics import (
  UseStoredStatistics,
)
from bnexport.transforms.inference.use_written_values import UseWrittenValues
from bnexport.transforms.layout.convert_layout import ConvertLayout
from bnexport.transforms.repair.separate_loops import SeparateLoops
from bnexport.transforms.tidying.strip_unused_nodes import StripUnusedNodes


def prepare(model, options, progress):
  """Cuts the graph at its inputs, inlines functions, finds its tables.

  Returns:
    The variables that have their initial values; see `initial_values.hold`.
  """
  progress(f"rewriting {len(model.graph)} nodes of {model.origin}")
  # Devices and colocations are the trainer's, and a SavedModel's signatures
  # name ends that may go.
  drop_placement(model.graph)
  model.served = None
  is_code = model.request is not None and model.request.kind == "model"
  model.is_trusted = is_code or options.allow_unsafe_ops
  if model.request is not None and not model.request.inputs:
    model.inputs = tuple(
      ref for ref in model.inputs if not inputs.is_phase(model.graph, ref)
    )
  for flag in ("denylist", "allowlist"):
    _refuse_unknown_variables(model, flag, getattr(options, flag))
  if not is_code:
    model.history += changes_by(
      "mend",
      set_aside(model.graph, model.signatures, model.outputs, model.inputs),
    )
  run(model, [ReplaceInputs()])
  kept: Tuple[str, ...] = ()
  if options.keep_control_flow:
    run(model, [InlineFunctions(control_flow=False)])
    kept = control_flow.keep(model)
  run(model, [InlineFunctions(leaving=kept), SeparateLoops()])
  run(model, [UseOneReplica(), LeaveLoops()])
  if not is_code:
    _prepare_tables(model, options)
  if options.missing == "initialize":
    return initial_values.hold(model)
  return {}


def _prepare_tables(model, options):
  """Keeps what fills tables, and takes the averages of weights."""
  refuse_mutable(
    model.graph,
    model.needed(),
    "freeze",
    "look up before the graph, and pass --input_node=TENSOR to feed what was "
    "found",
  )
  keep_initializers(model, options.initializers)
  if options.moving_averages or options.average_name:
    run(model, [UseMovingAverages(options.average_name)])
  else:
    told = use_swapped(model)
    model.history += changes_by(UseMovingAverages.name, told)
    model.warnings += map(Doubt, told)


def drop_placement(graph):
  """Leaves it to whoever imports the graph where its nodes run."""
  for node in graph:
    node.device = ""
    if "_class" in node.attr:
      del node.attr["_class"]


def decide(model, options):
  """Decides the phase and replaces statistics; returns the Model before."""
  original = copy.copy(model)
  original.graph = model.graph.clone()
  keep = options.keep_batch_statistics
  run(
    model,
    [
      Decide(options.settings, keep),
      RemoveNoise(options.keep_random),
      UseStoredRanges(),
      UseStoredStatistics(keep, options.averages),
    ],
  )
  return original


def tidy(model, options):
  """Takes out what is left that is not inference."""
  run(model, [UseWrittenValues(), RemoveSideEffects(), ReadVariables()])
  if options.data_format is not None:
    run(model, [ConvertLayout(options.data_format)])


def freeze(model, options, in_session, initialized, progress):
  """Makes the variables constants, in a session or by reading them.

  None is read yet: `freeze_variables.fill` reads small ones.
  """
  progress("reading the variables")
  initial_values.tell(model, initialized)
  if options.calibration_data is not None:
    # By use: a graph that was built for inference updates no averages.
    for norm in find(model.graph, model.outputs):
      if norm.statistics == STORED:
        model.decisions.averages |= {norm.moving_mean, norm.moving_variance}
  kept = options.denylist
  if options.allowlist:
    others = set(variables(model.graph)) - set(options.allowlist)
    kept += tuple(sorted(others))
  if options.keep_variables:
    run(model, [StripUnusedNodes()])
  elif in_session and options.calibration_data is None:
    told = freeze_in_session.freeze(model, kept)
    model.history += changes_by("freeze_in_session", told)
  else:
    has_data = options.calibration_data is not None
    told = FreezeVariables(kept, has_data).defer(model)
    model.history += changes_by(FreezeVariables.name, told)
    run(model, [StripUnusedNodes()])


def fold(model, options):
  """Folds the norms, where that is asked for; returns the Graph before."""
  if not options.fold_batch_norms or options.keep_variables:
    return model.graph
  unfolded = model.graph.clone()
  if model.decisions.stored:
    # A statistic of the batch over the stored one is 1 now.
    run(model, [RemoveNeutralArithmetic(), StripUnusedNodes()])
  run(model, [FoldBatchNorms(), FoldViews()])
  return unfolded


def run(model, transforms):
  """Applies transforms; the model's history tells what they did."""
  for transform in transforms:
    model.history += changes_by(transform.name, transform.apply(model))


def variables(graph):
  return [node.name for node in graph if node.op in ops.VARIABLES]


def _refuse_unknown_variables(model, flag, names):
  known = variables(model.graph)
  for name in names:
    if name not in known:
      raise SourceError(
        f"find --variable_names_{flag} '{name}'",
        "the graph has no such variable",
        nearest(name, known),
      )
