# SPDX-License-Identifier: Apache-2.0
"""From a model with variables to an inference graph, step by step."""

from __future__ import annotations

import copy
import dataclasses
from typing import Dict, List, Mapping, Optional, Tuple

from bnexport import sources
from bnexport.analysis.flow import Flow, is_setting
from bnexport.batchnorm.forms import find
from bnexport.batchnorm.health import examine
from bnexport.batchnorm.norm import BATCH, STORED, BatchNorm
from bnexport.calibration.calibration import BROKEN, Recalibrated, recalibrate
from bnexport.calibration.data import CalibrationData
from bnexport.errors import (
  ComparisonError,
  Error,
  SourceError,
  TransformError,
  nearest,
)
from bnexport.exporting import delivery, initial_values, proving
from bnexport.exporting.mend import (
  is_same,
  mend,
  refuse_frozen,
  refuse_lost,
  unaveraged,
)
from bnexport.graph import Graph, ops
from bnexport.mending.mending import set_aside
from bnexport.model import Model
from bnexport.model.changes import Doubt, changes_by
from bnexport.model.request import Request
from bnexport.model.stream import to_graph_def
from bnexport.model.tables import keep_initializers, refuse_mutable
from bnexport.proof.comparison import Comparison
from bnexport.proof.runs import ImportedGraph, LaterRun, Run
from bnexport.proof.training_graph import TrainingGraph
from bnexport.proof.trust import ALLOW, unsafe_model
from bnexport.tf1 import tf1
from bnexport.transforms.backport.backport import Backport
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
from bnexport.transforms.inference.remove_dropout import RemoveDropout
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
from bnexport.transforms.table import apply_specs
from bnexport.transforms.tidying.strip_unused_nodes import StripUnusedNodes


@dataclasses.dataclass(frozen=True)
class Options:
  """What a user may ask of an export; see the flags of the same names.

  `engine` is "session", "stream", or "auto": the session where the model is
  rebuilt from code, the stream elsewhere. `allowlist` has the variables that
  become constants; all do where it is empty. `missing` is "refuse" or
  "initialize". `recalibrate` has "all", "broken",
  and names and scopes of norms; it counts where `calibration_data` is given.
  """

  settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
  keep_batch_statistics: Tuple[str, ...] = ()
  keep_random: Tuple[str, ...] = ()
  averages: Tuple[str, ...] = ()
  moving_averages: bool = False
  average_name: str = ""
  data_format: Optional[str] = None
  denylist: Tuple[str, ...] = ()
  allowlist: Tuple[str, ...] = ()
  missing: str = "refuse"
  initializers: Tuple[str, ...] = ()
  engine: str = "auto"
  keep_variables: bool = False
  fold_batch_norms: bool = True
  transforms: str = ""
  target_tf: Optional[str] = None
  calibration_data: Optional[CalibrationData] = None
  recalibrate: Tuple[str, ...] = (BROKEN,)
  allow_unsafe_ops: bool = False

  def __post_init__(self):
    if isinstance(self.recalibrate, str):  # a single one
      object.__setattr__(self, "recalibrate", (self.recalibrate,))


@dataclasses.dataclass
class Export:
  """An inference graph: proven and written by its own verbs.

    >>> proof = made.prove()
    >>> proof.holds
    True
    >>> written = made.write("net.pb", overwrite=True)

  Attributes:
    model: the rewritten model; its history says what was done.
    norms: the batch norms of the inference graph, before they were folded.
    health: state of each norm's stored statistics, by the norm's name.
    reference: the Run to prove it against, or None.
    second: a Run to prove it against as well: the training graph beside the
      checkpoint, where the model was rebuilt from code; or None.
    is_unchanged: whether a graph that was to be mended is fine as it is.
    original: the Model before the phase was decided; None where it was
      rebuilt for inference.
    unfolded: the Graph with the norms that were folded.
    recalibrated: norms whose statistics are the calibration data's.
    is_served: whether it still has its variables, and becomes a SavedModel.
    kept: scopes of norms that use the batch because it was asked for.
  """

  model: Model
  norms: List[BatchNorm]
  health: Dict[str, str]
  reference: Optional[Run] = None
  second: Optional[Run] = None
  is_unchanged: bool = False
  original: Optional[Model] = None
  unfolded: Optional[Graph] = None
  recalibrated: List[Recalibrated] = dataclasses.field(default_factory=list)
  is_served: bool = False
  kept: Tuple[str, ...] = ()

  def __post_init__(self):
    if self.unfolded is None:
      self.unfolded = self.model.graph

  @property
  def keeps_batch(self) -> bool:
    return any(norm.statistics == BATCH for norm in self.norms)

  def before_folding(self) -> Export:
    """The Export with its norms in it, which can be looked at one by one."""
    model = copy.copy(self.model)
    assert self.unfolded is not None  # see __post_init__
    model.graph = self.unfolded
    return dataclasses.replace(self, model=model)

  def to_graph_def(self):
    """The inference graph, without shapes that the rewriting made stale."""
    return to_graph_def(self.model)

  def prove(
    self, feeds=None, proof=proving.FULL, seconds=proving.PROOF_TIMEOUT
  ) -> Comparison:
    """Imports the graph and compares its answers with the reference's.

    Args:
      feeds: arrays by input name; made up where it is None.
      proof: "full"; "quick" for no fixed point of the updates; "auto" for
        what its size allows.
      seconds: how long the runs take at most.

    Raises:
      ComparisonError: TensorFlow does not import the graph, or feeds do not
        fit it.
    """
    return proving.prove(
      self, self.to_graph_def, feeds, effort=proof, seconds=seconds
    )

  def write(self, path, **how) -> delivery.Delivered:
    """Writes the graph whole or not at all, proven before it gets its name.

    Args:
      path: a file for a GraphDef, or a SavedModel's directory where the
        variables were kept.
      **how: fields of delivery.Delivery, such as `as_text`, `overwrite`,
        `feeds` and `proof`.

    Returns:
      The path and the Comparison.

    Raises:
      SourceError: the file is there, or can't be written.
      ComparisonError: TensorFlow does not import what was written.
    """
    return delivery.deliver(self, delivery.Delivery(path, **how))


def export(model: Model, options=None, progress=lambda text: None) -> Export:
  """Rewrites a model into an inference graph.

  A training graph is decided, its batch statistics give way to the averages
  that track them, and its variables become constants. A model that was rebuilt
  for inference is frozen as it is.

  Args:
    model: from sources.open; it is edited.
    options: Options; None for those by default.
    progress: called with what is being done.

  Returns:
    An Export. Its reference is the training graph itself, or the Run that the
    source brings along.

  Raises:
    TransformError: the result could be wrong; the message says what decides.
    SourceError: a variable has no value, or an option names what is not there.
  """
  options = options or Options()
  is_frozen = model.request is not None and model.request.kind == "frozen_graph"
  is_mended = is_frozen and mend(
    model, options.keep_batch_statistics, options.averages
  )
  progress(f"rewriting {len(model.graph)} nodes of {model.origin}")
  _open_for_export(model, options)
  is_rebuilt = model.request is not None and model.request.kind == "model"
  initialized = {}
  if options.missing == "initialize":
    initialized = initial_values.hold(model)
  original = None if is_rebuilt else _decided(model, options)
  if is_rebuilt:
    _run(model, [Decide(options.settings), RemoveDropout()])
  _run(model, _tidying(options))
  progress("reading the variables")
  initial_values.tell(model, initialized)
  _freeze(model, options, is_rebuilt)
  if is_rebuilt:
    reference = model.own_run
  else:
    reference = _reference(original, model, options)
  made = _finish(model, options, reference, progress)
  if is_rebuilt:
    made.second = _trained(model, options)
  if original is not None:
    if not is_frozen and not _variables(original.graph):
      refuse_frozen(model, made.norms, options.keep_batch_statistics)
    _name_lost_inputs(original, model)
    _refuse_partial_writes(original, model)
    made.original = original
  if is_frozen and not model.has_training_graph:
    refuse_lost(model, made.norms, options.keep_batch_statistics)
  if is_frozen and not is_mended:
    _settle_unchanged(made, options)
  return made


def _variables(graph):
  return [node.name for node in graph if node.op in ops.VARIABLES]


def _settle_unchanged(made, options):
  """A frozen graph that no step changed stays as it is."""
  if (
    not options.transforms
    and not options.target_tf
    and not made.recalibrated
    and is_same(made.original, made.before_folding().model)
  ):
    made.is_unchanged = True
    made.model.graph = made.unfolded


def _open_for_export(model, options):
  """Cuts the graph at its inputs, inlines functions, finds its tables."""
  # Devices and colocations are the trainer's, and a SavedModel's signatures
  # name ends that may go.
  drop_placement(model.graph)
  model.served = None
  is_code = model.request is not None and model.request.kind == "model"
  model.is_trusted = is_code or options.allow_unsafe_ops
  if model.request is not None and not model.request.inputs:
    model.inputs = tuple(
      ref for ref in model.inputs if not _is_phase(model.graph, ref)
    )
  for flag in ("denylist", "allowlist"):
    _refuse_unknown_variables(model, flag, getattr(options, flag))
  if not is_code:
    model.history += changes_by(
      "mend",
      set_aside(model.graph, model.signatures, model.outputs, model.inputs),
    )
  _run(
    model,
    [
      ReplaceInputs(),
      InlineFunctions(),
      SeparateLoops(),
      UseOneReplica(),
      LeaveLoops(),
    ],
  )
  if is_code:
    return
  refuse_mutable(
    model.graph,
    model.needed(),
    "freeze",
    "look up before the graph, and pass --input_node=TENSOR to feed what was "
    "found",
  )
  keep_initializers(model, options.initializers)
  if options.moving_averages or options.average_name:
    _run(model, [UseMovingAverages(options.average_name)])
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


def _is_phase(graph, ref):
  """Whether a signature's input may be decided; a user's own never is."""
  node = graph.node(ref.node)
  return (
    is_setting(graph, node)
    and node.attr["dtype"].type == tf1.bool.as_datatype_enum
  )


def _decided(model, options):
  """Decides the phase and replaces statistics; returns the Model before."""
  original = copy.copy(model)
  original.graph = model.graph.clone()
  keep = options.keep_batch_statistics
  steps = [
    Decide(options.settings, keep),
    RemoveNoise(options.keep_random),
    UseStoredRanges(),
    UseStoredStatistics(keep, options.averages),
  ]
  _run(model, steps)
  return original


def _tidying(options):
  """The steps after which nothing but inference is left."""
  steps = [
    UseWrittenValues(),
    RemoveSideEffects(),
    ReadVariables(),
  ]
  if options.data_format is not None:
    steps.append(ConvertLayout(options.data_format))
  return steps


def _trained(model, options):
  """The training graph beside the checkpoint of a rebuilt model, or None."""
  request = model.request
  path = request.training_graph
  if path is None or options.calibration_data is not None:
    return None
  outputs = tuple(str(ref) for ref in model.outputs)

  def make():
    asked = Options(
      settings=options.settings,
      keep_batch_statistics=options.keep_batch_statistics,
      averages=options.averages,
      moving_averages=options.moving_averages,
      fold_batch_norms=False,
      allow_unsafe_ops=options.allow_unsafe_ops,
    )
    try:
      made = export(
        sources.open(Request("meta_graph", path, request.checkpoint, outputs)),
        asked,
      )
    except Error as error:
      raise ComparisonError(
        "run the training graph", error.fact, error.step
      ) from error
    if made.reference is None:
      raise ComparisonError("run the training graph", "it is not to be run")
    return made.reference

  return LaterRun(make, f"the training graph '{path}'", outputs)


def _reference(original, model, options):
  """The Run to prove an export of a training graph against, or None.

  The source's own is asked where no statistic had to be replaced: it would
  answer with those of the batch.
  """
  traced, reference = None, None
  unsafe = unsafe_model(original)
  if unsafe is None:
    traced = reference = TrainingGraph(
      original, model, keep=options.keep_batch_statistics
    )
  else:
    model.warnings.append(f"the training graph is not run: {unsafe}; {ALLOW}")
  if model.own_run is not None and not model.decisions.stored:
    reference = model.own_run.beside(traced)
  return reference


def _refuse_partial_writes(original, model):
  """Where rows of a variable are written, a norm may have its averages there.

  Nothing follows such writes; those of sparse gradients are none of these.
  """
  if not model.decisions.unaveraged:
    return
  flow = Flow(original.graph)
  for node in original.graph:
    if node.op in ops.PARTIAL_UPDATES and node.name not in flow.gradients:
      norm = model.decisions.unaveraged[0]
      raise TransformError(
        f"export norm '{norm}'",
        f"it computes its own statistics, and '{node.name}' ({node.op}) writes "
        "rows of a variable, which may be its averages",
        f"pass --keep_batch_statistics={norm} if it means to use the batch",
      )


def _name_lost_inputs(original, model):
  """Says which inputs are none any more; some input has to be left.

  What a user or a signature names is asked of all that the outputs wait for.
  """
  named = {ref.node for ref in original.inputs}
  awaited = original.needed(control=True)
  before = original.placeholders()
  before += [name for name in named - set(before) if name in awaited]
  left = model.placeholders()
  lost = [
    name
    for name in before
    if name not in left
    and name not in model.decisions.values
    and name in original.graph
    and original.graph.op(name) in ops.PLACEHOLDERS
  ]
  if lost and not left:
    raise TransformError(
      "export",
      f"the answers no longer depend on '{lost[0]}', nor on any other input",
      "report it, and pass --keep_batch_statistics=SCOPE for the norms that "
      "replaced it",
    )
  for name in lost:
    said = f"'{name}' is no input any more: no answer depends on it now"
    model.history += changes_by("export", [said])
    if name in named:
      model.warnings.append(Doubt(said, name))


def _freeze(model, options, is_rebuilt):
  """Makes the variables constants, by the engine that was chosen."""
  in_session = options.engine == "session" or (
    options.engine == "auto" and is_rebuilt
  )
  if options.calibration_data is not None:
    # By use: a graph that was built for inference updates no averages.
    for norm in find(model.graph, model.outputs):
      if norm.statistics == STORED:
        model.decisions.averages |= {norm.moving_mean, norm.moving_variance}
  if options.keep_variables:
    _run(model, [StripUnusedNodes()])
    return
  kept = options.denylist
  if options.allowlist:
    others = set(_variables(model.graph)) - set(options.allowlist)
    kept += tuple(sorted(others))
  if in_session and options.calibration_data is None:
    told = freeze_in_session.freeze(model, kept)
    model.history += changes_by("freeze_in_session", told)
    return
  _run(
    model,
    [
      FreezeVariables(kept, options.calibration_data is not None),
      StripUnusedNodes(),
    ],
  )


def _refuse_unknown_variables(model, flag, names):
  variables = _variables(model.graph)
  for name in names:
    if name not in variables:
      raise SourceError(
        f"find --variable_names_{flag} '{name}'",
        "the graph has no such variable",
        nearest(name, variables),
      )


def _run(model, transforms):
  for transform in transforms:
    model.history += changes_by(transform.name, transform.apply(model))


def _finish(model, options, reference, progress):
  """Looks at what is there, once nothing but inference is left."""
  _refuse_training(model)
  _settle_inputs(model)
  done = _recalibrate(model, options, progress)
  norms = find(model.graph, model.outputs)
  for name in unaveraged(model, norms, options.keep_batch_statistics):
    model.warnings.append(
      Doubt(
        f"norm '{name}' keeps computing its own statistics: no variable is "
        "their moving average",
        name,
      )
    )
  _name_random(model)
  health, unfolded = examine(model, norms), model.graph
  if options.fold_batch_norms and not options.keep_variables:
    unfolded = model.graph.clone()
    if model.decisions.stored:
      # A statistic of the batch over the stored one is 1 now.
      _run(model, [RemoveNeutralArithmetic(), StripUnusedNodes()])
    _run(model, [FoldBatchNorms(), FoldViews()])
  if options.transforms:
    apply_specs(model, options.transforms, progress)
  if options.target_tf is not None:
    _run(model, [Backport(options.target_tf)])
  made = Export(
    model,
    norms,
    health,
    reference,
    unfolded=unfolded,
    recalibrated=done,
    is_served=options.keep_variables,
    kept=tuple(options.keep_batch_statistics),
  )
  if done:
    made.reference = _before_folding(made)
  return made


def _name_random(model):
  """Says what is random in the exported graph."""
  for name in model.graph.topological(model.needed()):
    if ops.is_random(model.graph.op(name)):
      model.warnings.append(
        Doubt(
          f"'{name}' draws random numbers in the exported graph, as a sampler "
          f"or a generator's code does; --input_node={name} feeds them instead",
          name,
        )
      )


def _before_folding(made):
  """The Run of an export before its norms were folded.

  No other graph has the statistics of calibration data.
  """

  def make():
    whole = made.before_folding()
    ends = whole.model.outputs, whole.model.initializers
    return ImportedGraph(whole.to_graph_def(), *ends)

  return LaterRun(
    make,
    "the graph before its norms were folded, which has the calibration data's "
    "statistics too",
    [str(ref) for ref in made.model.outputs],
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
  settled = {one.name for one in done}
  model.decisions.unaveraged = tuple(
    name
    for name in model.decisions.unaveraged
    if name in model.graph and name not in settled
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
    read = sorted(model.graph.reads(sources[0]))
    tensors = ",".join(f"{ref.node}:{ref.index}" for ref in read)
    raise TransformError(
      "export a graph that reads its input by itself",
      f"'{sources[0]}' is a {model.graph.op(sources[0])}",
      f"pass --input_node={tensors} to feed it instead",
    )
