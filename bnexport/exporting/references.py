# SPDX-License-Identifier: Apache-2.0
"""The runs that an export is proven against."""

from __future__ import annotations

from bnexport import sources
from bnexport.errors import ComparisonError, Error
from bnexport.model.request import Request
from bnexport.proof.runs import ImportedGraph, LaterRun
from bnexport.proof.training_graph import TrainingGraph
from bnexport.proof.trust import ALLOW, unsafe_model


def training_graph(original, model, options):
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


def beside_code(model, export):
  """The training graph beside the checkpoint of a rebuilt model, or None.

  Args:
    model: the Model that its code rebuilt.
    export: gives the Export of a training graph, whose reference is run.
  """
  request = model.request
  path = request.training_graph
  if path is None:
    return None
  outputs = tuple(str(ref) for ref in model.outputs)
  asked = Request("meta_graph", path, request.checkpoint, outputs)

  def make():
    try:
      reference = export(sources.open(asked)).reference
    except Error as error:
      raise ComparisonError(
        "run the training graph", error.fact, error.step
      ) from error
    if reference is None:
      raise ComparisonError("run the training graph", "it is not to be run")
    return reference

  return LaterRun(make, f"the training graph '{path}'", outputs)


def before_folding(made):
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
