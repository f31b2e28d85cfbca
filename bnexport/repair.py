# SPDX-License-Identifier: Apache-2.0
"""Mends a frozen TF1 graph that does not import, or answers wrongly.

With the checkpoint that it was frozen from, and its .meta beside it:

  python -m bnexport.repair --graph_def=broken.pb --checkpoint=run/model.ckpt
      --output_node=logits --output_graph=fixed.pb

The statistics of norms are taken from the file where it still holds them, so
--checkpoint may be left out then. The graph is written to --output_graph, what
was changed to stdout. A graph that is fine comes back unchanged. Exit status:
0 done and proven, 2 written but the proof does not hold, 3 can't be done.
"""

from __future__ import annotations

from absl import flags

from bnexport import cli
from bnexport.errors import Error, SourceError

flags.adopt_module_key_flags(cli)  # --help shows the main module's only


def main():
  outputs = cli.outputs()
  if not cli.GRAPH_DEF.value:
    raise SourceError(
      "repair",
      "no graph is given",
      "pass --graph_def=FILE.pb",
    )
  if cli.MODEL.value or cli.INPUT.value:
    raise SourceError(
      "use --model to repair a graph",
      "with the model's code there is nothing to mend",
      "run python -m bnexport.freeze "
      f"--model={cli.MODEL.value or 'FILE.py:FUNCTION'}",
    )
  # Only now: importing TensorFlow takes seconds.
  from bnexport.exporting import pipeline
  from bnexport.model import checkpoint
  from bnexport.sources import files, frozen_graph
  from bnexport.tf1 import tf1

  prefix = training = None
  if cli.CHECKPOINT.value:
    prefix = checkpoint.find_prefix(cli.CHECKPOINT.value)
    training = prefix + ".meta"
  if cli.META_GRAPH.value or not (training and tf1.gfile.Exists(training)):
    training = cli.META_GRAPH.value
  path = cli.destination(cli.GRAPH_DEF.value, ".repaired", prefix)
  feeds = cli.feeds()
  model = frozen_graph.load(
    cli.GRAPH_DEF.value, prefix, training, outputs, cli.inputs()
  )
  try:
    export = pipeline.mend_frozen_graph(model, cli.options(), cli.progress)
  except Error:
    for warning in model.warnings:  # they may say why
      cli.warn(warning)
    raise
  data = None
  if export.is_unchanged:
    export.model.history = ["none: the graph is fine, and written as it is"]
    if cli.GRAPH_DEF.value.endswith(".pbtxt") == cli.AS_TEXT.value:
      data = [files.read(cli.GRAPH_DEF.value, "the graph")]
  return cli.deliver(export, path, feeds, data)


if __name__ == "__main__":
  cli.run(main)
