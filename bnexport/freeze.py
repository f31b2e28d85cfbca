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
  # A SavedModel's signature names its outputs.
  outputs = cli.outputs() if not cli.SAVED_MODEL.value else ()
  _refuse_two_sources()
  # Only now: importing TensorFlow takes seconds.
  from bnexport import checkpoint
  from bnexport.freezing import writing

  prefix = None
  if cli.CHECKPOINT.value is not None:
    prefix = checkpoint.find_prefix(cli.CHECKPOINT.value)
  path = cli.destination(prefix or cli.SAVED_MODEL.value, ".frozen", prefix)
  feeds = cli.feeds()
  export = _export(prefix, outputs)
  if cli.SAVED_MODEL_OUT.value:
    return cli.deliver_saved_model(export, path, feeds)
  data = writing.serialize(export.model, cli.AS_TEXT.value)
  return cli.deliver(export, path, feeds, data)


def _refuse_two_sources():
  named = [
    flag.name
    for flag in (cli.MODEL, cli.META_GRAPH, cli.GRAPH_DEF, cli.SAVED_MODEL)
    if flag.value
  ]
  if len(named) > 1:
    raise SourceError(
      "cannot take the graph from two sources: --%s and --%s are given; pass "
      "one" % tuple(named[:2])
    )
  if cli.INPUT.value and not cli.MODEL.value:
    raise SourceError(
      "cannot use --input: it is handed to --model, which is not given; pass "
      "--input_node to name what a training graph is fed"
    )
  if cli.CHECKPOINT.value is None and not cli.SAVED_MODEL.value:
    raise SourceError(
      "cannot freeze: no values are given for the variables; pass "
      "--checkpoint=PREFIX_OR_DIRECTORY"
    )


def _export(prefix, outputs):
  """Loads the model as the flags say and rewrites it."""
  from bnexport.freezing import pipeline

  options, inputs = cli.options(), cli.inputs()
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
    return pipeline.export_rebuilt_graph(
      model, options, reference, cli.progress
    )
  if cli.SAVED_MODEL.value:
    from bnexport.sources import saved_model

    model = saved_model.load(
      cli.SAVED_MODEL.value,
      prefix,
      cli.OUTPUT_NODE.value,
      inputs,
      cli.TAGS.value,
      cli.SIGNATURE.value,
    )
  elif cli.GRAPH_DEF.value:
    from bnexport.sources import graph_def

    model = graph_def.load(cli.GRAPH_DEF.value, prefix, outputs, inputs)
  else:
    from bnexport.sources import meta_graph

    model = meta_graph.load(
      cli.META_GRAPH.value or prefix + ".meta", prefix, outputs, inputs
    )
  return pipeline.export_training_graph(model, options, cli.progress)


if __name__ == "__main__":
  cli.run(main)
