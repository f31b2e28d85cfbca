# SPDX-License-Identifier: Apache-2.0
"""The verb `export`, the Options it takes, and the Export it gives."""

from __future__ import annotations

import copy
import dataclasses
from typing import (
  TYPE_CHECKING,
  Callable,
  Dict,
  List,
  Mapping,
  Optional,
  Tuple,
)

from bnexport.batchnorm.forms import find
from bnexport.batchnorm.health import examine
from bnexport.batchnorm.norm import BATCH, BatchNorm
from bnexport.calibration import BROKEN
from bnexport.errors import ComparisonError
from bnexport.exporting import (
  delivery,
  inputs,
  proving,
  references,
  refusals,
  steps,
)
from bnexport.exporting.mend import is_same, mend
from bnexport.graph import Graph, ops
from bnexport.model import Model
from bnexport.model.changes import Doubt
from bnexport.model.stream import to_graph_def
from bnexport.proof.runs import Run
from bnexport.proof.trust import ALLOW, unsafe_model
from bnexport.shown import Shown
from bnexport.transforms.backport.backport import Backport
from bnexport.transforms.inference import freeze_variables
from bnexport.transforms.inference.decide import Decide
from bnexport.transforms.inference.remove_dropout import RemoveDropout

if TYPE_CHECKING:  # imported where it is asked for
  from bnexport.calibration.calibration import Recalibrated
  from bnexport.calibration.data import CalibrationData
  from bnexport.proof.verdict import Comparison


@dataclasses.dataclass(frozen=True)
class Options:
  """The choices of a user about an export; see the flags of these names.

  `engine` is "session", "stream", or "auto": the session where the model is
  rebuilt from code, the stream elsewhere. `allowlist` has the variables that
  become constants; all do where it is empty. `missing` is "refuse" or
  "initialize". `recalibrate` has "all", "broken",
  and names and scopes of norms; it counts where `calibration_data` is given.
  `calibration_passes` makes passes over it elsewhere than in this process; see
  calibration.passes.
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
  keep_control_flow: bool = False
  fold_batch_norms: bool = True
  transforms: str = ""
  target_tf: Optional[str] = None
  calibration_data: Optional[CalibrationData] = None
  calibration_passes: Optional[Callable] = None
  recalibrate: Tuple[str, ...] = (BROKEN,)
  allow_unsafe_ops: bool = False

  def __post_init__(self):
    if isinstance(self.recalibrate, str):  # a single one
      object.__setattr__(self, "recalibrate", (self.recalibrate,))


@dataclasses.dataclass
class Export(Shown):
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
  if model.request is not None and model.request.kind == "model":
    return _of_code(model, options, progress)
  return _of_graph(model, options, progress)


def _of_code(model, options, progress):
  """The Export of a model that its code rebuilt for inference."""
  initialized = steps.prepare(model, options, progress)
  steps.run(model, [Decide(options.settings), RemoveDropout()])
  steps.tidy(model, options)
  in_session = options.engine != "stream"
  steps.freeze(model, options, in_session, initialized, progress)
  freeze_variables.fill(model)
  made = _finish(model, options, model.own_run, progress)
  if options.calibration_data is None:
    plain = Options(
      settings=options.settings,
      keep_batch_statistics=options.keep_batch_statistics,
      averages=options.averages,
      moving_averages=options.moving_averages,
      fold_batch_norms=False,
      allow_unsafe_ops=options.allow_unsafe_ops,
    )
    made.second = references.beside_code(
      model, lambda training: export(training, plain)
    )
  return made


@dataclasses.dataclass
class Begun:
  """An export up to where the values of variables are read.

  Attributes:
    model: the Model; its variables are constants that are read yet.
    original: the Model before the phase was decided.
    is_mended: whether a graph that was frozen before was mended.
  """

  model: Model
  original: Model
  is_mended: bool


def _of_graph(model, options, progress):
  """The Export of a training graph, or of one that was frozen before."""
  return finish(begin(model, options, progress), options, progress)


def _was_frozen(model):
  return model.request is not None and model.request.kind == "frozen_graph"


def begin(model, options, progress) -> Begun:
  """The steps of an export that need no values of variables, as a rule."""
  is_frozen = _was_frozen(model)
  is_mended = is_frozen and mend(
    model, options.keep_batch_statistics, options.averages
  )
  initialized = steps.prepare(model, options, progress)
  original = steps.decide(model, options)
  steps.tidy(model, options)
  in_session = options.engine == "session"
  steps.freeze(model, options, in_session, initialized, progress)
  return Begun(model, original, is_mended)


def finish(begun, options, progress) -> Export:
  """The Export of what `begin` gave, which is edited."""
  model, original = begun.model, begun.original
  keep = options.keep_batch_statistics
  is_frozen = _was_frozen(model)
  freeze_variables.fill(model)
  reference = references.training_graph(original, model, options)
  made = _finish(model, options, reference, progress)
  made.original = original
  if not is_frozen and not steps.variables(original.graph):
    refusals.refuse_frozen(model, made.norms, keep)
  inputs.name_lost(original, model)
  refusals.refuse_partial_writes(original, model)
  if is_frozen and not model.has_training_graph:
    refusals.refuse_lost(model, made.norms, keep)
  if is_frozen and not begun.is_mended:
    _settle_unchanged(made, options)
  return made


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


def _finish(model, options, reference, progress):
  """The Export of what is there, once nothing but inference is left."""
  refusals.refuse_training(model)
  inputs.settle(model)
  done = _recalibrate(model, options, progress)
  norms = find(model.graph, model.outputs)
  _name_doubtful(model, norms, options.keep_batch_statistics)
  health = examine(model, norms)
  unfolded = steps.fold(model, options)
  if options.transforms:
    from bnexport.transforms.table import apply_specs

    apply_specs(model, options.transforms, progress)
  if options.target_tf is not None:
    steps.run(model, [Backport(options.target_tf)])
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
    made.reference = references.before_folding(made)
  return made


def _name_doubtful(model, norms, keep):
  """Says which norms use the batch, and what is random."""
  for name in refusals.unaveraged(model, norms, keep):
    model.warnings.append(
      Doubt(
        f"norm '{name}' keeps computing its own statistics: no variable is "
        "their moving average",
        name,
      )
    )
  for name in model.graph.topological(model.needed()):
    if ops.is_random(model.graph.op(name)):
      model.warnings.append(
        Doubt(
          f"'{name}' draws random numbers in the exported graph, as a sampler "
          f"or a generator's code does; --input_node={name} feeds them instead",
          name,
        )
      )


def _recalibrate(model, options, progress):
  """Gives norms the statistics of the calibration data, if there is any."""
  if options.calibration_data is None:
    return []
  from bnexport.calibration.calibration import recalibrate

  unsafe = unsafe_model(model)
  if unsafe is not None:
    raise ComparisonError("recalibrate", unsafe, ALLOW)
  done = recalibrate(
    model,
    find(model.graph, model.outputs),
    options.calibration_data,
    options.recalibrate,
    options.keep_batch_statistics,
    progress,
    options.calibration_passes,
  )
  settled = {one.name for one in done}
  model.decisions.unaveraged = tuple(
    name
    for name in model.decisions.unaveraged
    if name in model.graph and name not in settled
  )
  return done
