# SPDX-License-Identifier: Apache-2.0
"""A look at a training graph before its first step.

BN501  updates of averages that the train op does not run
BN502  averages that the Saver leaves out
BN503  what an export of the graph will refuse
BN504  norms whose statistics nothing averages
"""

from __future__ import annotations

import logging
from typing import Any, Iterable, List, NamedTuple, Optional, Sequence

from bnexport import sources
from bnexport.checks.rule import ERROR, WARNING
from bnexport.errors import Error, GraphError
from bnexport.exporting import refusals, steps
from bnexport.exporting.export import Options
from bnexport.graph import TensorRef
from bnexport.graph.nodes import in_scope
from bnexport.model.request import Request
from bnexport.model.savers import saver_keys
from bnexport.tf1 import tf1
from bnexport.training.watched import TrainingNorms, listed
from bnexport.transforms.tidying.strip_unused_nodes import StripUnusedNodes

# Codes of findings about training jobs, which no later version changes.
NOT_RUN, NOT_SAVED, REFUSED, WITHOUT = "BN501", "BN502", "BN503", "BN504"
# The line that most training code lacks.
CONTROL = (
  "with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)): "
  "train_op = optimizer.minimize(loss)"
)

_LOG = logging.getLogger("bnexport")


class Finding(NamedTuple):
  """One thing that will go wrong with the export of a training graph.

  Attributes:
    code: one of the above; stays the same in later versions.
    severity: checks.rule.ERROR or WARNING.
    node: the first node that it is about.
    message: the fact, what follows from it, and what to change in the code.
  """

  code: str
  severity: str
  node: str
  message: str


def check(
  graph: Optional[Any] = None,
  train_op: Any = None,
  outputs: Sequence[str] = (),
  saver: Optional[Any] = None,
  options: Optional[Options] = None,
  strict: bool = False,
) -> List[Finding]:
  """Finds what will go wrong with the export of a model that is to be trained.

    >>> bnexport.training.check(train_op=train_op, outputs=["logits"])
    []

  Nothing is run. Findings are logged, as warnings of the logger "bnexport".

  Args:
    graph: a tf.compat.v1.Graph; None for the default graph.
    train_op: what each step runs, an op, tensor or name; None if not known.
    outputs: names of what will be exported; none for the likely output.
    saver: what writes the checkpoints; None for one of all variables.
    options: the Options of the exports to come.
    strict: whether findings raise.

  Returns:
    Findings, empty where all is well.

  Raises:
    GraphError: with `strict`, there are findings; it names the first.
  """
  graph = graph or tf1.get_default_graph()
  found = _find(graph, train_op, outputs, saver, options or Options())
  for finding in found:
    _LOG.warning("%s %s: %s", finding.code, finding.node, finding.message)
  if strict and found:
    raise _error(found[0])
  return found


def _find(graph, train_op, outputs, saver, options) -> List[Finding]:
  norms = TrainingNorms(graph.as_graph_def(), [_name(one) for one in outputs])
  return [
    *_not_run(norms, train_op),
    *_not_saved(norms, saver),
    *_refused(graph, norms, options),
    *_without(norms, options),
  ]


def _error(finding: Finding) -> GraphError:
  return GraphError(
    f"train '{finding.node}' so that it can be exported",
    f"{finding.code}: {finding.message}",
    "change the training code, or leave out strict=True",
  )


def _name(one: Any) -> str:
  return one if isinstance(one, str) else one.name


def _not_run(norms: TrainingNorms, train_op: Any) -> Iterable[Finding]:
  """Norms with updates of which the train op runs none."""
  if train_op is None:
    return
  graph = norms.graph
  run = graph.ancestors([TensorRef.parse(_name(train_op)).node], control=True)
  left = [
    one.name
    for one in norms.watched
    if one.updates and not any(update in run for update in one.updates)
  ]
  if left:
    yield Finding(
      NOT_RUN,
      ERROR,
      left[0],
      f"the train op runs no update of the averages of {listed(left)}: they "
      f"stay as they begin, and inference answers with them; write {CONTROL}",
    )


def _not_saved(norms: TrainingNorms, saver: Any) -> Iterable[Finding]:
  """Averages that a Saver leaves out of its checkpoints."""
  if saver is None:
    return
  saved = saver_keys(norms.graph, saver.as_saver_def().save_tensor_name)
  left = [
    name for one in norms.watched for name in one.averages if name not in saved
  ]
  if left:
    yield Finding(
      NOT_SAVED,
      ERROR,
      left[0],
      f"the Saver leaves out {listed(left)}: the checkpoints lack what "
      "inference normalises with; write "
      "saver = tf.train.Saver(tf.global_variables())",
    )


def _refused(
  graph: Any, norms: TrainingNorms, options: Options
) -> Iterable[Finding]:
  """What an export of this graph can't do, tried without values."""
  if not norms.outputs:
    return
  try:
    outputs = tuple(str(ref) for ref in norms.outputs)
    model = sources.open(Request("tf_graph", graph, outputs=outputs))
    steps.prepare(model, options, lambda text: None)
    steps.decide(model, options)
    steps.tidy(model, options)
    steps.run(model, [StripUnusedNodes()])
    refusals.refuse_training(model)
  except Error as error:
    yield Finding(
      REFUSED,
      ERROR,
      str(norms.outputs[0]),
      f"its export will be refused: {error}",
    )


def _without(norms: TrainingNorms, options: Options) -> Iterable[Finding]:
  kept = options.keep_batch_statistics
  left = [
    norm.name
    for norm in norms.without
    if not any(in_scope(norm.name, scope) for scope in kept)
  ]
  if left:
    yield Finding(
      WITHOUT,
      WARNING,
      left[0],
      f"nothing averages the statistics of {listed(left)}: inference answers "
      "with those of whatever batch it gets; keep moving averages, or export "
      f"with --keep_batch_statistics={left[0]} if that is meant",
    )
