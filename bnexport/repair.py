# SPDX-License-Identifier: Apache-2.0
"""Mends a frozen TF1 graph that does not import, or answers wrongly.

With the checkpoint that it was frozen from, and its .meta beside it:

  python -m bnexport.repair --graph_def=broken.pb --checkpoint=run/model.ckpt
      --output_node=logits --output_graph=fixed.pb

Where the file still holds the norms' statistics, it is enough by itself:

  python -m bnexport.repair --graph_def=broken.pb --output_node=logits

and where they are nowhere, data like that of the training gives them:

  python -m bnexport.repair --graph_def=broken.pb --output_node=logits
      --calibration_data=images.npz

The graph is written to --output_graph, what
was changed to stdout, with the findings that are cleared and those that are
left. A graph that is fine comes back unchanged. Exit status:
0 done and proven, 2 written but the proof does not hold, 3 can't be done.
"""

from __future__ import annotations

from absl import flags

from bnexport import cli
from bnexport.cli import kinds, meaning, process, result
from bnexport.errors import Error, SourceError

flags.adopt_module_key_flags(cli)  # --help shows the main module's only


def main():
  _refuse_flags()
  kinds.refuse_other_kinds("repair")
  outputs = meaning.outputs(_likely)
  # Only now: a wrong flag is told before all of it is imported.
  from bnexport import sources
  from bnexport.checks import repair
  from bnexport.exporting import delivery, export
  from bnexport.sources import files

  request = _request(outputs)
  path = meaning.destination(request.source, ".repaired", request.checkpoint)
  feeds = meaning.feeds()
  options = meaning.options()
  found = repair.check(request, options)
  model = sources.open(request)
  try:
    options = repair.applied(found, request, options)
    made = export.export(model, options, process.progress)
  except Error:
    # They may say why, and what to choose.
    for said in (*model.warnings, *repair.choices(found, request)):
      process.warn(said)
    raise
  data = None
  if made.is_unchanged:
    made.model.history = ["none: the graph is fine, and written as it is"]
    if request.source.endswith(".pbtxt") == cli.AS_TEXT.value:
      data = [files.read(request.source, "the graph")]
  done = delivery.deliver(made, meaning.delivery(path, feeds=feeds, data=data))
  outcome = repair.outcome(found, made, options, done.path)
  return result.report(made, done, outcome)


def _likely():
  """What may be meant as output of the graph, mended where it has to be.

  Raises:
    Error: the graph can't be read.
  """
  from bnexport import sources

  return meaning.likely(sources.open(_request(())).graph)


def _refuse_flags():
  if not cli.GRAPH_DEF.value:
    raise SourceError("repair", "no graph is given", "pass --graph_def=FILE.pb")
  if cli.MODEL.value or cli.INPUT.value:
    spec = cli.MODEL.value or "FILE.py:FUNCTION"
    raise SourceError(
      "use --model to repair a graph",
      "with the model's code there is nothing to mend",
      f"run python -m bnexport.freeze --model={spec}",
    )


def _request(outputs):
  """The Request of the frozen graph, with what it was frozen from."""
  from bnexport.model.prefixes import find_prefix
  from bnexport.model.request import Request
  from bnexport.tf1 import tf1

  given, training = cli.CHECKPOINT.value, cli.META_GRAPH.value
  prefix = find_prefix(given) if given else None
  if prefix and tf1.gfile.Exists(prefix + ".meta"):
    training = training or prefix + ".meta"
  return Request(
    "frozen_graph",
    cli.GRAPH_DEF.value,
    prefix,
    tuple(outputs),
    tuple(meaning.inputs()),
    training=training,
    scope_map=meaning.scope_map(),
  )


if __name__ == "__main__":
  process.run(main)
