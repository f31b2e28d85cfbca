# SPDX-License-Identifier: Apache-2.0
"""Freezes a TF1 model with batch norm into a proven inference graph.

From the training graph beside a checkpoint:

  python -m bnexport.freeze --checkpoint=run/model.ckpt --output_node=logits

From the model's code:

  python -m bnexport.freeze --model=my_net.py:build --checkpoint=run/model.ckpt
      --input=x:float32:?,224,224,3 --output_node=logits

The graph is written to --output_graph, the report to stdout. Exit status: 0
done and proven, 2 written but the proof does not hold, 3 can't be done.

Many checkpoints, in processes of their own:

  python -m bnexport.freeze --checkpoint='runs/*/model.ckpt-*'
      --output_node=logits

prints one line for each, `ok`, `differs`, `refused`, `failed` (its process
died) or `skipped` (--resume), and a summary. The exit status is the worst.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os

from absl import flags

from bnexport import cli
from bnexport.errors import Error, SourceError

flags.adopt_module_key_flags(cli)  # --help shows the main module's only

# What does not change a graph.
_BESIDE_THE_GRAPH = (
  "checkpoint",
  "output_graph",
  "report",
  "overwrite",
  "resume",
  "jobs",
)


def main():
  outputs = _outputs()
  _refuse_two_sources()
  given = cli.CHECKPOINT.value
  if given is not None:
    # Only now: importing TensorFlow takes seconds.
    from bnexport.exporting import batch

    if cli.RESUME.value or batch.is_several(given):
      return _freeze_several(given)
  return _freeze(outputs)


def _outputs():
  # These name their outputs themselves.
  if cli.SAVED_MODEL.value or cli.KERAS.value:
    return cli.named_outputs()
  return cli.outputs()


def _freeze(outputs, watched=lambda data: data):
  """Freezes one checkpoint as the flags say; returns the exit status.

  Args:
    outputs: names of the tensors to export.
    watched: is handed the graph's bytes, piece by piece, and hands them on.
  """
  from bnexport.model import checkpoint

  prefix = None
  if cli.CHECKPOINT.value is not None:
    prefix = checkpoint.find_prefix(cli.CHECKPOINT.value)
  named = prefix or cli.SAVED_MODEL.value or cli.KERAS.value
  path = cli.destination(named, ".frozen", prefix)
  feeds = cli.feeds()
  export = _export(prefix, outputs)
  return cli.deliver(export, path, feeds, watched=watched)


def _freeze_several(given):
  """Freezes all checkpoints that are meant; returns the worst exit status."""
  from bnexport import report
  from bnexport.exporting import batch

  if cli.SAVED_MODEL_OUT.value:
    raise SourceError(
      "write SavedModels of several checkpoints",
      "--saved_model_out is one directory",
      "export them one by one",
    )
  if cli.REPORT.value:
    report.writer(cli.REPORT.value)
  extension = ".frozen.pbtxt" if cli.AS_TEXT.value else ".frozen.pb"
  jobs = batch.plan(given, cli.OUTPUT_GRAPH.value, cli.REPORT.value, extension)
  skipped = []
  if cli.RESUME.value:
    cli.progress("looking at what is done")
    jobs, skipped = _resumed(jobs)
  counts = batch.run(
    jobs,
    skipped,
    functools.partial(_freeze_in_worker, _flags()),
    cli.JOBS.value or _processors(),
  )
  if counts[batch.REFUSED] or counts[batch.FAILED]:
    return cli.REFUSED
  return cli.NOT_PROVEN if counts[batch.DIFFERS] else cli.DONE


def _processors():
  if hasattr(os, "sched_getaffinity"):  # what a container leaves of them
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _flags():
  """Values of the flags by name, and whether a user has given them."""
  holders = [h for h in vars(cli).values() if isinstance(h, flags.FlagHolder)]
  return {h.name: (h.value, flags.FLAGS[h.name].present) for h in holders}


def _resumed(jobs):
  """Returns the jobs and those of them that are done.

  Jobs whose graphs were made from something else may replace them.
  """
  from bnexport.exporting import record
  from bnexport.model import checkpoint
  from bnexport.tf1 import tf1

  looked_at, skipped = [], []
  for job in jobs:
    reported = not job.report or tf1.gfile.Exists(job.report)
    # What can't be read is for the export to say.
    with contextlib.suppress(SourceError):
      origin = _origin(checkpoint.find_prefix(job.checkpoint))
      if reported and record.is_done(job.output, origin):
        skipped.append(job)
      elif record.is_own(job.output):
        job = job._replace(overwrite=True)
    looked_at.append(job)
  return looked_at, skipped


def _origin(prefix):
  """What the graph of a checkpoint is made from; see record.origin."""
  from bnexport.exporting import record

  named = (cli.MODEL, cli.GRAPH_DEF, cli.SAVED_MODEL, cli.META_GRAPH)
  read = [flag.value for flag in named]
  if not any(read):
    read = [prefix + ".meta"]
  model = (cli.MODEL.value or "").rpartition(":")[0]
  read[0] = model or read[0]
  changed = {
    name: value
    for name, (value, _) in _flags().items()
    if name not in _BESIDE_THE_GRAPH and value != flags.FLAGS[name].default
  }
  return record.origin(
    prefix, changed, *read, cli.FEEDS.value, cli.CALIBRATION_DATA.value
  )


def _freeze_in_worker(values, job):
  """Freezes one of several checkpoints; returns its batch.Verdict.

  Args:
    values: of `_flags`, in the process that the user started.
    job: a batch.Job.
  """
  from bnexport.exporting import batch, record
  from bnexport.model import checkpoint

  flags.FLAGS.mark_as_parsed()
  values = dict(values, checkpoint=(job.checkpoint, True))
  values.update(output_graph=(job.output, True), report=(job.report, True))
  if job.overwrite:
    values["overwrite"] = (True, True)
  for name, (value, present) in values.items():
    flags.FLAGS[name].value, flags.FLAGS[name].present = value, present
  said = io.StringIO()
  try:
    origin = _origin(checkpoint.find_prefix(job.checkpoint))
    with contextlib.redirect_stderr(said):
      status = _freeze(
        _outputs(),
        functools.partial(record.noted, job.output, origin),
      )
  except Error as error:
    record.clear(job.output)
    return batch.Verdict(batch.REFUSED, " ".join(str(error).split()))
  record.finish(job.output, status == cli.DONE)
  word = batch.OK if status == cli.DONE else batch.DIFFERS
  return batch.Verdict(word, "; ".join([job.output] + _warnings(said)))


def _warnings(said):
  """What a command has warned of on stderr; the first, and how many more."""
  start = "bnexport: warning: "
  lines = [x for x in said.getvalue().splitlines() if x.startswith(start)]
  more = [f"and {len(lines) - 1} more warnings"] if lines[1:] else []
  return ["warning: " + line[len(start) :] for line in lines[:1]] + more


def _refuse_two_sources():
  named = [
    flag.name
    for flag in (
      cli.MODEL,
      cli.META_GRAPH,
      cli.GRAPH_DEF,
      cli.SAVED_MODEL,
      cli.KERAS,
    )
    if flag.value
  ]
  if len(named) > 1:
    raise SourceError(
      "take the graph from two sources",
      f"--{named[0]} and --{named[1]} are given",
      "pass one",
    )
  if cli.INPUT.value and not cli.MODEL.value:
    raise SourceError(
      "use --input",
      "it is handed to --model, which is not given",
      "pass --input_node to name what a training graph is fed",
    )
  if cli.CHECKPOINT.value and cli.KERAS.value:
    raise SourceError(
      "use --checkpoint with --keras",
      "the file holds its weights",
      "leave one out",
    )
  if cli.CHECKPOINT.value is None and not (
    cli.SAVED_MODEL.value or cli.KERAS.value
  ):
    raise SourceError(
      "freeze",
      "no values are given for the variables",
      "pass --checkpoint=PREFIX_OR_DIRECTORY",
    )


def _export(prefix, outputs):
  """Loads the model as the flags say and rewrites it."""
  from bnexport.exporting import pipeline

  options, inputs = cli.options(), cli.inputs()
  if cli.MODEL.value:
    from bnexport.sources import builder

    cli.progress(f"building {cli.MODEL.value}")
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
  own = None
  if cli.KERAS.value:
    from bnexport.sources import keras_model

    cli.progress(f"loading {cli.KERAS.value}")
    model, own = keras_model.load(cli.KERAS.value, outputs, inputs)
  elif cli.SAVED_MODEL.value:
    from bnexport.sources import saved_model

    model = saved_model.load(
      cli.SAVED_MODEL.value,
      prefix,
      outputs,
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
  return pipeline.export_training_graph(model, options, cli.progress, own)


if __name__ == "__main__":
  cli.run(main)
