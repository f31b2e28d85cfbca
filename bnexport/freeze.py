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

import dataclasses
import functools
import os

from absl import flags

from bnexport import cli
from bnexport.cli import kinds, meaning, process, result
from bnexport.errors import SourceError

flags.adopt_module_key_flags(cli)  # --help shows the main module's only

# Flags that do not affect the exported graph; --resume ignores them.
_BESIDE_THE_GRAPH = (
  "checkpoint",
  "output_graph",
  "report",
  "overwrite",
  "resume",
  "jobs",
  "runner",
  "beam_options",
  "summary",
  "proof_timeout",
)


def main():
  meaning.refuse_two_sources()
  kinds.refuse_other_kinds("freeze")
  _refuse_flags()
  outputs = _outputs()
  given = cli.CHECKPOINT.value
  if given is not None:
    # Only now: what only says how it is used takes no NumPy.
    from bnexport.model.prefixes import is_several

    is_spread = cli.RUNNER.value and not cli.CALIBRATION_DATA.value
    if cli.RESUME.value or is_spread or is_several(given):
      return _freeze_several(given, outputs)
  return _freeze(outputs)


def _outputs():
  # These name their outputs themselves.
  if any(flag.value for flag in cli.WHOLE):
    return meaning.named_outputs()
  return meaning.outputs(_likely)


def _likely():
  """What may be meant as output of the graph that the flags name.

  Model code is not run to ask; of several checkpoints, the first one's graph
  is looked at.

  Raises:
    Error: the graph can't be read.
  """
  if cli.MODEL.value:
    return meaning.Likely(None, ())
  from bnexport import sources
  from bnexport.model.prefixes import find_prefix, is_several

  given = cli.CHECKPOINT.value
  if is_several(given):
    from bnexport.exporting import batch

    given = batch.prefixes(given)[0]
  return meaning.likely(sources.open(meaning.request(find_prefix(given))).graph)


def _freeze(outputs):
  """Freezes what the flags name; returns the exit status."""
  from bnexport.model.prefixes import find_prefix

  given = cli.CHECKPOINT.value
  prefix = None if given is None else find_prefix(given)
  # Only now: a wrong path is told before NumPy is imported.
  from bnexport import sources

  request = meaning.request(prefix, outputs)
  path = meaning.destination(prefix or request.source, ".frozen", prefix)
  feeds = meaning.feeds()
  process.progress(f"opening {request.source}")
  model = sources.open(request)
  # Only now: an unknown output is told before all of it is imported.
  from bnexport.exporting import delivery, export

  options = meaning.options()
  if cli.RUNNER.value:
    options = dataclasses.replace(options, calibration_passes=_passes(path))
  made = export.export(model, options, process.progress)
  done = delivery.deliver(made, meaning.delivery(path, feeds=feeds))
  return result.report(made, done)


def _freeze_several(given, outputs):
  """Freezes all checkpoints that are meant; returns the worst exit status."""
  from bnexport import report
  from bnexport.exporting import batch, verdicts, writing

  if cli.SAVED_MODEL_OUT.value:
    raise SourceError(
      "write SavedModels of several checkpoints",
      "--saved_model_out is one directory",
      "export them one by one",
    )
  if cli.REPORT.value:
    report.writer(cli.REPORT.value)
  if cli.SUMMARY.value:
    writing.refuse_existing(cli.SUMMARY.value, cli.OVERWRITE.value)
  extension = ".frozen.pbtxt" if cli.AS_TEXT.value else ".frozen.pb"
  jobs = batch.plan(given, cli.OUTPUT_GRAPH.value, cli.REPORT.value, extension)
  task = _task(outputs)
  skipped = []
  if cli.RESUME.value:
    process.progress("looking at what is done")
    jobs, skipped = batch.resumed(jobs, task)
  if cli.RUNNER.value:
    tally = _beam().run(
      jobs, skipped, task, cli.RUNNER.value, cli.BEAM_OPTIONS.value
    )
  else:
    tally = batch.run(
      jobs,
      skipped,
      functools.partial(batch.export_one, task),
      cli.JOBS.value or _processors(),
    )
  if cli.SUMMARY.value:
    tally.write(cli.SUMMARY.value)
  if tally.counts[verdicts.REFUSED] or tally.counts[verdicts.FAILED]:
    return process.REFUSED
  return process.NOT_PROVEN if tally.counts[verdicts.DIFFERS] else process.DONE


def _passes(path):
  """The BeamPasses over calibration data on the runner that is named.

  Args:
    path: of the graph; what workers exchange goes beside it.
  """
  if not cli.CALIBRATION_DATA.value:
    raise SourceError(
      f"use --runner={cli.RUNNER.value}",
      "there is one model to export",
      "pass --checkpoint with a list or pattern, or --calibration_data",
    )
  _beam()
  from bnexport.exporting import beam_passes

  return beam_passes.BeamPasses(
    cli.RUNNER.value, cli.BEAM_OPTIONS.value, os.path.dirname(path) or "."
  )


def _beam():
  """The module that exports on Apache Beam.

  Raises:
    SourceError: Beam is not installed.
  """
  try:
    from bnexport.exporting import beam
  except ImportError as error:
    raise SourceError(
      f"use --runner={cli.RUNNER.value}",
      f"Apache Beam is not there ({error})",
      "pip install 'bnexport[beam]', or use --jobs instead",
    ) from error
  return beam


def _task(outputs):
  """The Task that the flags set for each checkpoint."""
  from bnexport import report
  from bnexport.exporting import batch

  options = meaning.options()
  shards = options.calibration_data.files if options.calibration_data else ()
  return batch.Task(
    meaning.request(outputs=outputs),
    options,
    meaning.delivery("", is_said=False, feeds=meaning.feeds()),
    _recorded_flags(),
    (cli.FEEDS.value, *shards),
    report.write,
  )


def _processors():
  if hasattr(os, "sched_getaffinity"):  # what a container leaves of them
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _recorded_flags():
  """Values of the flags that a user gave and that change a graph."""
  holders = [h for h in vars(cli).values() if isinstance(h, flags.FlagHolder)]
  return {
    holder.name: holder.value
    for holder in holders
    if holder.name not in _BESIDE_THE_GRAPH
    and holder.value != flags.FLAGS[holder.name].default
  }


def _refuse_flags():
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
  is_whole = any(flag.value for flag in cli.WHOLE)
  if cli.CHECKPOINT.value is None and not is_whole:
    kinds.refuse_no_values()


if __name__ == "__main__":
  process.run(main)
