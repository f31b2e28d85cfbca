# SPDX-License-Identifier: Apache-2.0
"""All transforms by name, and lists of them that have a name of their own."""

from __future__ import annotations

import collections.abc
import inspect
from typing import TYPE_CHECKING, Callable, Dict, List, Tuple, Type

from bnexport.errors import GraphError, TransformError, nearest
from bnexport.mending.faults import unusable
from bnexport.model import Model
from bnexport.model.changes import changes_by
from bnexport.transforms import calls, fed_constants, spec
from bnexport.transforms.backport.backport import Backport
from bnexport.transforms.backport.backport_concatv2 import BackportConcatV2
from bnexport.transforms.backport.backport_tensor_array_v3 import (
  BackportTensorArrayV3,
)
from bnexport.transforms.folding.fold_batch_norms import (
  FoldBatchNorms,
  FoldOldBatchNorms,
)
from bnexport.transforms.folding.fold_constants import FoldConstants
from bnexport.transforms.folding.fold_views import FoldViews
from bnexport.transforms.folding.remove_neutral_arithmetic import (
  RemoveNeutralArithmetic,
)
from bnexport.transforms.fusing.flatten_atrous_conv import FlattenAtrousConv
from bnexport.transforms.fusing.fuse_batch_norms import FuseBatchNorms
from bnexport.transforms.fusing.fuse_pad_and_conv import FusePadAndConv
from bnexport.transforms.fusing.fuse_resize_and_conv import FuseResizeAndConv
from bnexport.transforms.fusing.fuse_resize_pad_and_conv import (
  FuseResizePadAndConv,
)
from bnexport.transforms.fusing.sparsify_gather import SparsifyGather
from bnexport.transforms.inference.decide import Decide
from bnexport.transforms.inference.freeze_variables import FreezeVariables
from bnexport.transforms.inference.inline_functions import InlineFunctions
from bnexport.transforms.inference.leave_loops import LeaveLoops
from bnexport.transforms.inference.read_variables import ReadVariables
from bnexport.transforms.inference.remove_dropout import RemoveDropout
from bnexport.transforms.inference.remove_noise import RemoveNoise
from bnexport.transforms.inference.remove_side_effects import RemoveSideEffects
from bnexport.transforms.inference.replace_inputs import ReplaceInputs
from bnexport.transforms.inference.use_moving_averages import UseMovingAverages
from bnexport.transforms.inference.use_one_replica import UseOneReplica
from bnexport.transforms.inference.use_stored_ranges import UseStoredRanges
from bnexport.transforms.inference.use_stored_statistics import (
  UseStoredStatistics,
)
from bnexport.transforms.inference.use_written_values import UseWrittenValues
from bnexport.transforms.layout.convert_layout import ConvertLayout
from bnexport.transforms.quantizing.freeze_requantization_ranges import (
  FreezeRequantizationRanges,
)
from bnexport.transforms.quantizing.quantize_nodes import QuantizeNodes
from bnexport.transforms.quantizing.quantize_weights import QuantizeWeights
from bnexport.transforms.quantizing.round_weights import RoundWeights
from bnexport.transforms.repair.restore_updates import RestoreUpdates
from bnexport.transforms.repair.separate_loops import SeparateLoops
from bnexport.transforms.repair.state_shapes import StateShapes
from bnexport.transforms.repair.thaw_variables import ThawVariables
from bnexport.transforms.tidying.add_default_attributes import (
  AddDefaultAttributes,
)
from bnexport.transforms.tidying.devices import RemoveDevice, SetDevice
from bnexport.transforms.tidying.insert_logging import InsertLogging
from bnexport.transforms.tidying.merge_duplicate_nodes import (
  MergeDuplicateNodes,
)
from bnexport.transforms.tidying.names import ObfuscateNames, RenameNode
from bnexport.transforms.tidying.remove_control_dependencies import (
  RemoveControlDependencies,
)
from bnexport.transforms.tidying.remove_nodes import RemoveNodes
from bnexport.transforms.tidying.rename_attribute import (
  RemoveAttribute,
  RenameAttribute,
)
from bnexport.transforms.tidying.rename_op import RenameOp
from bnexport.transforms.tidying.sort_by_execution_order import (
  SortByExecutionOrder,
)
from bnexport.transforms.tidying.strip_unused_nodes import StripUnusedNodes

if TYPE_CHECKING:
  from bnexport.transforms.spec import Specs, Transform

# The Graph Transform Tool's, by the alphabet.
_OLD = (
  AddDefaultAttributes,
  BackportConcatV2,
  BackportTensorArrayV3,
  FlattenAtrousConv,
  FoldBatchNorms,
  FoldConstants,
  FoldOldBatchNorms,
  FreezeRequantizationRanges,
  FusePadAndConv,
  FuseResizeAndConv,
  FuseResizePadAndConv,
  InsertLogging,
  MergeDuplicateNodes,
  ObfuscateNames,
  QuantizeNodes,
  QuantizeWeights,
  RemoveAttribute,
  RemoveControlDependencies,
  RemoveDevice,
  RemoveNodes,
  RenameAttribute,
  RenameNode,
  RenameOp,
  RoundWeights,
  SetDevice,
  SortByExecutionOrder,
  SparsifyGather,
  StripUnusedNodes,
)
# What freezing and repairing consist of.
_OWN = (
  Backport,
  ConvertLayout,
  Decide,
  FoldViews,
  FreezeVariables,
  FuseBatchNorms,
  InlineFunctions,
  LeaveLoops,
  ReadVariables,
  RemoveDropout,
  RemoveNeutralArithmetic,
  RemoveNoise,
  RemoveSideEffects,
  ReplaceInputs,
  RestoreUpdates,
  SeparateLoops,
  StateShapes,
  ThawVariables,
  UseMovingAverages,
  UseOneReplica,
  UseStoredRanges,
  UseStoredStatistics,
  UseWrittenValues,
)
TRANSFORMS: Dict[str, Type[Transform]] = {
  transform.name: transform for transform in _OLD + _OWN
}

# Those that look at names, ops and edges alone: they take graphs that
# TensorFlow does not, as those they are named after did.
_LENIENT = (
  InsertLogging,
  MergeDuplicateNodes,
  ObfuscateNames,
  RemoveAttribute,
  RemoveControlDependencies,
  RemoveDevice,
  RemoveNodes,
  RenameAttribute,
  RenameNode,
  RenameOp,
  SetDevice,
  SortByExecutionOrder,
  SparsifyGather,
  StripUnusedNodes,
)

# What the scripts of these names in tensorflow.python.tools and
# tensorflow.python.framework.graph_util do.
PIPELINES = {
  "remove_training_nodes": "remove_nodes(op=CheckNumerics, op=Identity)",
  "strip_unused": "strip_unused_nodes",
  "optimize_for_inference": (
    "strip_unused_nodes remove_training_nodes fold_batch_norms"
    " fold_old_batch_norms fuse_batch_norms fuse_resize_pad_and_conv"
    " fuse_resize_and_conv fuse_pad_and_conv strip_unused_nodes"
  ),
}


def names() -> List[str]:
  """Names of all transforms and pipelines, sorted."""
  return sorted(list(TRANSFORMS) + list(PIPELINES))


def parse(specs: Specs) -> Tuple[Transform, ...]:
  """Transforms from a text, from transforms, or from both in a sequence.

  Args:
    specs: a text as bnexport.transforms.spec says; a transform; or an iterable
      of these.

  Returns:
    A tuple of transforms; pipelines are spelled out.

  Raises:
    TransformError: a text can't be read; the message says where.
  """
  if isinstance(specs, str):
    return _parse_text(specs)
  if isinstance(specs, collections.abc.Iterable):
    return tuple(transform for item in specs for transform in parse(item))
  return (specs,)


def _parse_text(text: str) -> Tuple[Transform, ...]:
  found: List[Transform] = []
  for call in calls.read(text):
    if call.name in PIPELINES:
      if call.parameters:
        calls.refuse(
          text,
          call.at,
          f"'{call.name}' is a list of transforms and has no parameters",
          f"write these instead: {PIPELINES[call.name]}",
        )
      found.extend(_parse_text(PIPELINES[call.name]))
      continue
    if call.name not in TRANSFORMS:
      calls.refuse(
        text,
        call.at,
        f"there is no transform '{call.name}'",
        nearest(call.name, names(), "--transforms=help lists them"),
      )
    found.append(spec.make(TRANSFORMS[call.name], call, text))
  return tuple(found)


def apply_specs(
  model: Model,
  specs: Specs,
  progress: Callable[[str], None] = lambda text: None,
) -> None:
  """Applies transforms one after another.

  Args:
    model: is edited; its history says what was done, a line each.
    specs: what `parse` takes.
    progress: called with each transform's text before it runs.

  Raises:
    TransformError: a text can't be read, or a transform refuses. Those before
      it have been applied.
    GraphError: a transform leaves an unsound graph.
  """
  transforms = parse(specs)
  with fed_constants.as_inputs(model):
    for transform in transforms:
      progress(spec.spec_of(transform))
      if not isinstance(transform, _LENIENT):
        _refuse_unusable(model, transform.name)
      told = transform.apply(model) or ["changed nothing"]
      model.graph.lint()
      model.graph.place_with_present()
      model.history += changes_by(
        transform.name, (f"{transform.name}: {line}" for line in told)
      )


def _refuse_unusable(model: Model, name: str) -> None:
  """Raises GraphError where a transform can't rely on what nodes say."""
  for fault in unusable(model.graph, model.signatures).values():
    raise GraphError(
      f"run {name}",
      f"node '{fault.node}' {fault.fact}",
      "run strip_unused_nodes first, which removes it where no output needs it",
    )


# Pages.


def help_list() -> str:
  """A line on each transform and each pipeline."""
  width = max(map(len, names()))
  lines = ["Transforms:"]
  for name in sorted(TRANSFORMS):
    summary = _page(TRANSFORMS[name]).splitlines()[0]
    lines.append("  %-*s  %s" % (width, name, summary))
  lines += ["", "Lists of transforms:"]
  for name in sorted(PIPELINES):
    lines.append("  %-*s  %s" % (width, name, PIPELINES[name]))
  lines += ["", "--transforms='help(NAME)' prints a page."]
  return "\n".join(lines)


def help_text(name: str) -> str:
  """The page of a transform or a pipeline.

  Raises:
    TransformError: there is none of that name; the nearest are offered.
  """
  if name in PIPELINES:
    return f"{name}\n\nStands for: {PIPELINES[name]}"
  if name not in TRANSFORMS:
    raise TransformError(
      f"explain '{name}'",
      "there is no transform of that name",
      nearest(name, names(), "--transforms=help lists them"),
    )
  cls = TRANSFORMS[name]
  return f"{_signature(cls)}\n\n{_page(cls)}"


def _page(cls: Type[Transform]) -> str:
  return inspect.cleandoc(cls.__doc__ or "")


def _signature(cls: Type[Transform]) -> str:
  """The transform's parameters with their defaults, as a spec has them."""
  parts = []
  for key, parameter in spec.parameters_of(cls).items():
    if parameter.is_repeated:
      parts += [f"{key}=...", "..."]
    elif parameter.is_required or parameter.default is None:
      parts.append(f"{key}=...")
    else:
      parts.append(f"{key}={spec.value_text(parameter.default)}")
  return f"{cls.name}({', '.join(parts)})"
