"""The steps from a training graph to an inference graph, in their order."""

from __future__ import annotations

import copy
import dataclasses
from typing import Dict, List, Mapping, Optional, Tuple

from bnexport import ops
from bnexport.batchnorm import BatchNorm
from bnexport.batchnorm.forms import find
from bnexport.batchnorm.health import examine
from bnexport.errors import SourceError, TransformError, nearest
from bnexport.freezing.reference import TrainingGraph
from bnexport.freezing.tables import keep_initializers
from bnexport.model import Model
from bnexport.transforms.convert_layout import ConvertLayout
from bnexport.transforms.decide import Decide
from bnexport.transforms.freeze_variables import FreezeVariables
from bnexport.transforms.inline_functions import InlineFunctions
from bnexport.transforms.read_variables import ReadVariables
from bnexport.transforms.remove_dropout import RemoveDropout
from bnexport.transforms.remove_noise import RemoveNoise
from bnexport.transforms.remove_side_effects import RemoveSideEffects
from bnexport.transforms.replace_inputs import ReplaceInputs
from bnexport.transforms.strip_unused_nodes import StripUnusedNodes
from bnexport.transforms.use_moving_averages import UseMovingAverages
from bnexport.transforms.use_stored_statistics import UseStoredStatistics
from bnexport.transforms.use_written_values import UseWrittenValues


@dataclasses.dataclass(frozen=True)
class Options:
  """What a user may ask of an export; see the flags of the same names."""

  settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
  keep_batch_statistics: Tuple[str, ...] = ()
  moving_averages: bool = False
  data_format: Optional[str] = None
  denylist: Tuple[str, ...] = ()
  initializers: Tuple[str, ...] = ()


@dataclasses.dataclass
class Export:
  """An inference graph, before it is written.

  Attributes:
    model: the rewritten model; its history says what was done.
    norms: the batch norms of the inference graph.
    health: state of each norm's stored statistics, by the norm's name.
    reference: what to prove it against, or None.
  """

  model: Model
  norms: List[BatchNorm]
  health: Dict[str, str]
  reference: object = None

  @property
  def keeps_batch(self):
    return any(norm.statistics == "batch" for norm in self.norms)

  def to_graph_def(self):
    """The inference graph, without shapes that the rewriting made stale."""
    graph_def = self.model.graph.to_graph_def()
    for node in graph_def.node:
      node.attr.pop("_output_shapes", None)
    return graph_def


def export_training_graph(model, options, progress=lambda text: None):
  """Rewrites a model with variables into an inference graph.

  Args:
    model: is edited.
    options: Options.
    progress: called with what is being done.

  Returns:
    An Export, with the training graph itself as the reference.
  """
  progress("rewriting %d nodes of %s" % (len(model.graph), model.origin))
  keep_initializers(model, options.initializers)
  _refuse_unknown_variables(model, options.denylist)
  _run(model, [ReplaceInputs(), InlineFunctions()])
  if options.moving_averages:
    _run(model, [UseMovingAverages()])
  original = copy.copy(model)
  original.graph = model.graph.clone()
  keep = options.keep_batch_statistics
  _run(model, [Decide(options.settings, keep), UseStoredStatistics(keep)])
  _tidy(model, options)
  progress("reading the variables")
  _run(model, [FreezeVariables(options.denylist), StripUnusedNodes()])
  reference = None
  if not keep and options.data_format is None:
    reference = TrainingGraph(original, model)
  return _finish(model, reference)


def export_frozen_graph(model, options, reference):
  """Tidies a graph whose variables are constants already."""
  _run(model, [ReplaceInputs(), InlineFunctions(), Decide(options.settings)])
  _tidy(model, options)
  _run(model, [StripUnusedNodes()])
  return _finish(model, reference)


def _refuse_unknown_variables(model, names):
  variables = [n.name for n in model.graph if n.op in ops.VARIABLES]
  for name in names:
    if name not in variables:
      raise SourceError(
        "cannot find --variable_names_denylist '%s': the graph has no such "
        "variable%s" % (name, nearest(name, variables))
      )


def _run(model, transforms):
  for transform in transforms:
    model.history.extend(transform.apply(model))


def _tidy(model, options):
  _run(
    model,
    [
      RemoveDropout(),
      RemoveNoise(),
      UseWrittenValues(),
      RemoveSideEffects(),
      ReadVariables(),
    ],
  )
  if options.data_format is not None:
    _run(model, [ConvertLayout(options.data_format)])


def _finish(model, reference):
  _refuse_training(model)
  _settle_inputs(model)
  norms = find(model.graph, model.outputs)
  return Export(model, norms, examine(model, norms), reference)


def _refuse_training(model):
  """No way of writing variables may be left."""
  for node in model.graph:
    if node.op in ops.UPDATES and node.name not in model.initializers:
      raise TransformError(
        "cannot export '%s': it updates a variable and its value is needed; "
        "cut behind it with --input_node" % node.name
      )


def _settle_inputs(model):
  """The placeholders left are the inputs; a user's list has to cover them."""
  placeholders = model.placeholders()
  named = {ref.node for ref in model.inputs}
  extra = [
    name
    for name in placeholders
    if name not in named and model.graph.op(name) != "PlaceholderWithDefault"
  ]
  if named and extra:
    raise TransformError(
      "cannot do with --input_node=%s: the outputs also need %s; name them in "
      "--input_node, or give them values with --set=NAME=VALUE"
      % (",".join(sorted(named)), ", ".join("'%s'" % name for name in extra))
    )
  sources = [
    node.name
    for node in model.graph
    if ops.is_data_source(node.op) and node.op not in ops.PLACEHOLDERS
  ]
  if sources:
    raise TransformError(
      "cannot export a graph that reads its input by itself: '%s' is a %s; "
      "pass --input_node=%s to feed it instead"
      % (sources[0], model.graph.op(sources[0]), sources[0])
    )
