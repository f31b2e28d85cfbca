"""Freezes a TF1 model with batch norm into a proven inference graph.

From the training graph beside a checkpoint:

  python -m bnexport.freeze --checkpoint=run/model.ckpt --output_node=logits

From the model's code:

  python -m bnexport.freeze --model=my_net.py:build --checkpoint=run/model.ckpt
      --input=x:float32:?,224,224,3 --output_node=logits

The graph is written to --output_graph, the report to stdout. Exit status: 0
done and proven, 2 written but the proof does not hold, 3 can't be done.
"""

from __future__ import annotations

from bnexport import cli
from bnexport.errors import SourceError


def main():
  outputs = [name for name in cli.OUTPUT_NODE.value if name]
  if not outputs:
    raise SourceError(
      "cannot freeze: no output is named; pass "
      "--output_node=NAME; inspect lists the likely ones"
    )
  _refuse_two_sources()
  # Only now: importing TensorFlow takes seconds.
  from bnexport import checkpoint, report
  from bnexport.freezing import writing

  prefix = None
  if cli.CHECKPOINT.value is not None:
    prefix = checkpoint.find_prefix(cli.CHECKPOINT.value)
  path = cli.OUTPUT_GRAPH.value or cli.default_output(
    prefix or cli.GRAPH_DEF.value or "model",
    ".pbtxt" if cli.AS_TEXT.value else ".pb",
  )
  writing.refuse_existing(path, cli.OVERWRITE.value)
  writing.refuse_source(path, prefix, cli.META_GRAPH.value, cli.GRAPH_DEF.value)
  feeds = cli.feeds()
  if cli.REPORT.value is not None:
    report.writer(cli.REPORT.value)
    writing.refuse_existing(cli.REPORT.value, cli.OVERWRITE.value)
  export = _export(prefix, outputs)
  proof = _write(export, path, feeds)
  print(report.text(export, proof, path))
  if cli.REPORT.value is not None:
    report.write(cli.REPORT.value, export, proof, path)
  for warning in export.model.warnings:
    cli.warn(warning)
  if proof is not None and not proof.holds:
    cli.warn(
      "the exported graph does not answer as its reference; see the "
      "report above"
    )
    return cli.NOT_PROVEN
  return cli.DONE


def _refuse_two_sources():
  named = [
    flag.name
    for flag in (cli.MODEL, cli.META_GRAPH, cli.GRAPH_DEF)
    if flag.value
  ]
  if len(named) > 1:
    raise SourceError(
      "cannot take the graph from two sources: --%s and --%s are given; pass "
      "one"
      % tuple(named[:2])
    )
  if cli.INPUT.value and not cli.MODEL.value:
    raise SourceError(
      "cannot use --input: it is handed to --model, which is not given; pass "
      "--input_node to name what a training graph is fed"
    )
  if cli.CHECKPOINT.value is None:
    raise SourceError(
      "cannot freeze: no values are given for the variables; pass "
      "--checkpoint=PREFIX_OR_DIRECTORY"
    )


def _export(prefix, outputs):
  """Loads the model as the flags say and rewrites it."""
  from bnexport.freezing import pipeline

  options = pipeline.Options(
    settings=cli.settings(),
    keep_batch_statistics=tuple(cli.KEEP_BATCH_STATISTICS.value),
    moving_averages=cli.MOVING_AVERAGES.value,
    data_format=cli.DATA_FORMAT.value,
    denylist=tuple(cli.DENYLIST.value),
    initializers=tuple(cli.INITIALIZER_NODES.value),
  )
  inputs = [name for name in cli.INPUT_NODE.value if name]
  if cli.MODEL.value:
    from bnexport.sources import builder

    cli.progress("building %s" % cli.MODEL.value)
    model, reference = builder.load(
      cli.MODEL.value,
      prefix,
      outputs,
      inputs,
      cli.INPUT.value,
      cli.model_kwargs(),
      cli.MOVING_AVERAGES.value,
    )
    return pipeline.export_frozen_graph(model, options, reference)
  if cli.GRAPH_DEF.value:
    from bnexport.sources import graph_def

    model = graph_def.load(cli.GRAPH_DEF.value, prefix, outputs, inputs)
  else:
    from bnexport.sources import meta_graph

    model = meta_graph.load(
      cli.META_GRAPH.value or prefix + ".meta", prefix, outputs, inputs
    )
  return pipeline.export_training_graph(model, options, cli.progress)


def _write(export, path, feeds):
  """Writes the graph; it gets its name once it has been proven importable."""
  from bnexport import comparison
  from bnexport.freezing import writing
  from bnexport.sources.files import read_proto
  from bnexport.tf1 import tf1

  graph_def = export.to_graph_def()
  proof = None
  with writing.whole_file(
    path, writing.serialize(graph_def, cli.AS_TEXT.value)
  ) as written:
    if cli.VALIDATE.value:
      cli.progress("importing it again and comparing")
      proof = comparison.prove(
        read_proto(written, tf1.GraphDef, "the graph"),
        export.model.outputs,
        export.reference,
        feeds,
        export.model.initializers,
        export.keeps_batch,
      )
  return proof


if __name__ == "__main__":
  cli.run(main)
