# SPDX-License-Identifier: Apache-2.0
"""The steps from a training graph to an inference graph, in their order."""

from __future__ import annotations

import copy
import dataclasses
from typing import Dict, List, Mapping, Optional, Tuple, Union

from bnexport.analysis.dependence import uses_batch
from bnexport.batchnorm.forms import find
from bnexport.batchnorm.health import examine
from bnexport.batchnorm.norm import BATCH, STORED, BatchNorm
from bnexport.calibration.calibration import Recalibrated, recalibrate
from bnexport.calibration.data import CalibrationData
from bnexport.errors import (
  ComparisonError,
  SourceError,
  TransformError,
  nearest,
)
from bnexport.graph import Graph, ops
from bnexport.graph.nodes import in_scope
from bnexport.model import Model
from bnexport.model.stream import to_graph_def
from bnexport.model.tables import keep_initializers, refuse_mutable
from bnexport.proof.training_graph import TrainingGraph
from bnexport.proof.trust import ALLOW, unsafe_model
from bnexport.transforms.backport.backport import Backport
from bnexport.transforms.folding.fold_batch_norms import FoldBatchNorms
from bnexport.transforms.inference import freeze_in_session
from bnexport.transforms.inference.decide import Decide
from bnexport.transforms.inference.freeze_variables import FreezeVariables
from bnexport.transforms.inference.inline_functions import InlineFunctions
from bnexport.transforms.inference.read_variables import ReadVariables
from bnexport.transforms.inference.remove_dropout import RemoveDropout
from bnexport.transforms.inference.remove_noise import RemoveNoise
from bnexport.transforms.inference.remove_side_effects import RemoveSideEffects
from bnexport.transforms.inference.replace_inputs import ReplaceInputs
from bnexport.transforms.inference.use_moving_averages import UseMovingAverages
from bnexport.transforms.inference.use_stored_statistics import (
  UseStoredStatistics,
)
from bnexport.transforms.inference.use_written_values import UseWrittenValues
from bnexport.transforms.layout.convert_layout import ConvertLayout
from bnexport.transforms.repair.restore_updates import RestoreUpdates
from bnexport.transforms.repair.state_shapes import StateShapes
from bnexport.transforms.repair.thaw_variables import ThawVariables
from bnexport.transforms.table import apply_specs
from bnexport.transforms.tidying.strip_unused_nodes import StripUnusedNodes


@dataclasses.dataclass(frozen=True)
class Options:
  """What a user may ask of an export; see the flags of the same names.

  `engine` is "session", "stream", or "auto": the session where the model is
  rebuilt from code, the stream elsewhere. `recalibrate` is "all", "broken", or
  names and scopes of norms; it counts where `calibration_data` is given.
  """

  settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
  keep_batch_statistics: Tuple[str, ...] = ()
  moving_averages: bool = False
  data_format: Optional[str] = None
  denylist: Tuple[str, ...] = ()
  initializers: Tuple[str, ...] = ()
  engine: str = "auto"
  keep_variables: bool = False
  fold_batch_norms: bool = True
  transforms: str = ""
  target_tf: Optional[str] = None
  calibration_data: Optional[CalibrationData] = None
  recalibrate: Union[str, Tuple[str, ...]] = "broken"
  allow_unsafe_ops: bool = False


@dataclasses.dataclass
class Export:
  """An inference graph, before it is written.

  Attributes:
    model: the rewritten model; its history says what was done.
    norms: the batch norms of the inference graph, before they were folded.
    health: state of each norm's stored statistics, by the norm's name.
    reference: what to prove it against, or None.
    is_unchanged: whether a graph that was to be mended is fine as it is.
    original: the Model before the phase was decided; None where it was
      rebuilt for inference.
    unfolded: the Graph with the norms that were folded.
    recalibrated: norms whose statistics are the calibration data's.
  """

  model: Model
  norms: List[BatchNorm]
  health: Dict[str, str]
  reference: object = None
  is_unchanged: bool = False
  original: Optional[Model] = None
  unfolded: Optional[Graph] = None
  recalibrated: List[Recalibrated] = dataclasses.field(default_factory=list)

  def __post_init__(self):
    if self.unfolded is None:
      self.unfolded = self.model.graph

  @property
  def keeps_batch(self):
    return any(norm.statistics == BATCH for norm in self.norms)

  def before_folding(self):
    """The Export with its norms in it, which can be looked at one by one."""
    model = copy.copy(self.model)
    model.graph = self.unfolded
    return dataclasses.replace(self, model=model)

  def to_graph_def(self):
    """The inference graph, without shapes that the rewriting made stale."""
    return to_graph_def(self.model)


def export_training_graph(model, options, progress=lambda text: None, own=None):
  """Rewrites a model with variables into an inference graph.

  Args:
    model: is edited.
    options: Options.
    progress: called with what is being done.
    own: a reference of the source's own, which is asked where no statistic
      had to be replaced: it would answer with those of the batch.

  Returns:
    An Export, with the training graph itself as the reference.
  """
  progress(f"rewriting {len(model.graph)} nodes of {model.origin}")
  model.is_trusted = options.allow_unsafe_ops
  _refuse_unknown_variables(model, options.denylist)
  _run(model, [ReplaceInputs(), InlineFunctions()])
  refuse_mutable(
    model.graph,
    model.needed(),
    "freeze",
    "look up before the graph, and pass --input_node=TENSOR to feed what was "
    "found",
  )
  keep_initializers(model, options.initializers)
  if options.moving_averages:
    _run(model, [UseMovingAverages()])
  original = copy.copy(model)
  original.graph = model.graph.clone()
  keep = options.keep_batch_statistics
  _run(model, [Decide(options.settings, keep), UseStoredStatistics(keep)])
  _tidy(model, options)
  progress("reading the variables")
  _freeze(model, options, in_session=options.engine == "session")
  traced, reference = TrainingGraph(original, model), None
  if not keep and options.data_format is None:
    reference = traced
    unsafe = unsafe_model(original)
    if unsafe is not None:
      model.warnings.append(f"the training graph is not run: {unsafe}; {ALLOW}")
  if own is not None and not model.stored:
    reference = own.beside(traced)
  export = _finish(model, options, reference, progress)
  _refuse_lost_inputs(original, model)
  export.original = original
  return export


def _refuse_lost_inputs(original, model):
  """What was rewritten has to answer to some input, as it did before."""
  lost = [n for n in original.placeholders() if n not in model.decided]
  if lost and not model.placeholders():
    raise TransformError(
      "export",
      f"the answers no longer depend on '{lost[0]}', nor on any other input",
      "report it, and pass --keep_batch_statistics=SCOPE for the norms that "
      "replaced it",
    )


def mend_frozen_graph(model, options, progress=lambda text: None):
  """Makes a graph that was frozen wrongly an inference graph.

  Args:
    model: from sources.frozen_graph; is edited.
    options: Options.
    progress: called with what is being done.

  Returns:
    An Export, with the graph as it was before freezing as the reference.

  Raises:
    TransformError: a norm's averages are neither in the graph nor in the
      checkpoint.
  """
  _run(model, [ReplaceInputs()])
  told = list(model.history) + _unknown(model)
  _run(model, [InlineFunctions()])
  mending = [
    ThawVariables(),
    StateShapes(),
    RestoreUpdates(options.keep_batch_statistics),
  ]
  for transform in mending:
    told += transform.apply(model)
  model.history = told + model.history[len(told) :]
  export = export_training_graph(model, options, progress)
  lost = _lost(export, options.keep_batch_statistics)
  if lost and not model.has_training_graph:
    _refuse_lost(model, lost)
  if (
    not told
    and not options.transforms
    and not options.target_tf
    and not export.recalibrated
    and _is_same(export.original, export.before_folding().model)
  ):
    export.is_unchanged = True
    model.graph = export.unfolded
    export.reference = None  # it would be the graph itself
  return export


def _unknown(model):
  """Says which nodes keep TensorFlow from importing the file."""
  return [
    f"removed '{node.name}': TensorFlow does not know its op '{node.op}'"
    for node in model.graph
    if node.op not in model.graph.library and node.op not in model.signatures
  ]


def _is_same(original, model):
  """Whether rewriting changed nothing of what the outputs need."""
  for name in original.needed():
    if name not in model.graph:
      return False
    before, after = original.graph.node(name), model.graph.node(name)
    if before.op in ops.VARIABLES:
      if after.op != "Const":
        return False
    elif (
      before.op != after.op
      or original.graph.data_inputs(name) != model.graph.data_inputs(name)
      or _attributes(before) != _attributes(after)
    ):
      return False
  return True


def _attributes(node):
  return {k: v for k, v in node.attr.items() if not k.startswith("_")}


def _lost(export, keep):
  """Names of norms that use the batch, and nobody said so."""
  return export.model.unaveraged or tuple(
    norm.name
    for norm in export.norms
    if norm.statistics == BATCH
    and not any(in_scope(norm.name, scope) for scope in keep)
  )


def _refuse_lost(model, lost):
  """Where freezing pruned the updates, nothing tells an instance norm."""
  more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
  fact = "it is in training mode and its averages are not in the graph"
  if model.values.checkpoint is not None:
    saved = model.values.checkpoint.prefix
    fact += f", nor do names in checkpoint '{saved}' tell them"
  raise TransformError(
    f"mend norm '{lost[0]}'{more}",
    fact,
    "pass --checkpoint=PREFIX with its .meta beside it, or "
    "--calibration_data=FILE.npz to compute them; "
    f"--keep_batch_statistics={lost[0]} keeps a norm that means to use the "
    "batch",
  )


def export_rebuilt_graph(model, options, reference, progress=lambda text: None):
  """Freezes a model that was rebuilt for inference.

  Args:
    model: from sources.builder; is edited.
    options: Options.
    reference: what to prove it against.
    progress: called with what is being done.
  """
  model.is_trusted = True  # it is made by the user's own code
  _run(model, [ReplaceInputs(), InlineFunctions(), Decide(options.settings)])
  _tidy(model, options)
  progress("reading the variables")
  _freeze(model, options, in_session=options.engine != "stream")
  return _finish(model, options, reference, progress)


def _freeze(model, options, in_session):
  """Makes the variables constants, by the engine that was chosen."""
  if options.calibration_data is not None:
    # By use: a graph that was built for inference updates no averages.
    for norm in find(model.graph, model.outputs):
      if norm.statistics == STORED:
        model.averages |= {norm.moving_mean, norm.moving_variance}
  if options.keep_variables:
    _run(model, [StripUnusedNodes()])
    return
  if in_session and options.calibration_data is None:
    model.history += freeze_in_session.freeze(model, options.denylist)
    return
  _run(
    model,
    [
      FreezeVariables(options.denylist, options.calibration_data is not None),
      StripUnusedNodes(),
    ],
  )


def _refuse_unknown_variables(model, names):
  variables = [n.name for n in model.graph if n.op in ops.VARIABLES]
  for name in names:
    if name not in variables:
      raise SourceError(
        f"find --variable_names_denylist '{name}'",
        "the graph has no such variable",
        nearest(name, variables),
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


def _finish(model, options, reference, progress):
  """Looks at what is there, once nothing but inference is left."""
  _refuse_training(model)
  _settle_inputs(model)
  done = _recalibrate(model, options, progress)
  for name in model.unaveraged:
    model.warnings.append(
      f"norm '{name}' keeps computing its own statistics: no variable is "
      "their moving average"
    )
  norms = find(model.graph, model.outputs)
  health, unfolded = examine(model, norms), model.graph
  if options.fold_batch_norms and not options.keep_variables:
    unfolded = model.graph.clone()
    _run(model, [FoldBatchNorms()])
  if options.transforms:
    apply_specs(model, options.transforms, progress)
  if options.target_tf is not None:
    _run(model, [Backport(options.target_tf)])
  return Export(
    model,
    norms,
    health,
    # No other graph has these statistics.
    None if done else reference,
    unfolded=unfolded,
    recalibrated=done,
  )


def _recalibrate(model, options, progress):
  """Gives norms the statistics of the calibration data, if there is any."""
  if options.calibration_data is None:
    return []
  unsafe = unsafe_model(model)
  if unsafe is not None:
    raise ComparisonError(
      "recalibrate",
      unsafe,
      ALLOW,
    )
  done = recalibrate(
    model,
    find(model.graph, model.outputs),
    options.calibration_data,
    options.recalibrate,
    options.keep_batch_statistics,
    progress,
  )
  graph = model.graph
  model.unaveraged = tuple(
    name
    for name in model.unaveraged
    if name in graph
    and (graph.op(name) not in ops.FUSED_NORMS or uses_batch(graph.node(name)))
  )
  return done


def _refuse_training(model):
  """No way of writing variables may be left."""
  for node in model.graph:
    if node.op in ops.UPDATES and node.name not in model.initializers:
      raise TransformError(
        f"export '{node.name}'",
        "it updates a variable and its value is needed",
        "cut behind it with --input_node",
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
      f"do with --input_node={','.join(sorted(named))}",
      "the outputs also need %s"
      % (", ".join((f"'{name}'" for name in extra)),),
      "name them in --input_node, or give them values with --set=NAME=VALUE",
    )
  sources = [
    node.name
    for node in model.graph
    if ops.is_data_source(node.op) and node.op not in ops.PLACEHOLDERS
  ]
  if sources:
    raise TransformError(
      "export a graph that reads its input by itself",
      f"'{sources[0]}' is a {model.graph.op(sources[0])}",
      f"pass --input_node={sources[0]} to feed it instead",
    )
