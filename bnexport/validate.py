# SPDX-License-Identifier: Apache-2.0
"""Proves that a graph answers right, whoever made it.

Against the checkpoint that it was made from, another graph, or model code:

  python -m bnexport.validate --graph=frozen.pb --reference=run/model.ckpt
  python -m bnexport.validate --graph=small.pb --reference=frozen.pb
  python -m bnexport.validate --graph=frozen.pb --checkpoint=run/model.ckpt
      --model=my_net.py:build --input=x:float32:?,224,224,3

What is to load the graph is asked for its answers too:

  python -m bnexport.validate --graph=frozen.pb --consumers=tflite,onnx

The graph is imported and run: its outputs are compared, and where they differ
the first tensor that does is named; an answer must not depend on the rest of
its batch, and not change from run to run. With --feeds=FILE.npz, the stored
statistics of its norms are held against the data. Without a reference the rest
is looked at. Exit status: 0 it holds, 2 it does not, 3 can't be done.
"""

from __future__ import annotations

import dataclasses
import json

from absl import flags

from bnexport import cli
from bnexport.cli import meaning, process
from bnexport.errors import ComparisonError, SourceError
from bnexport.validation import consumers

flags.adopt_module_key_flags(cli)  # --help shows the main module's only

_GRAPH = flags.DEFINE_string(
  "graph",
  None,
  "Graph to prove: a GraphDef, .pb or .pbtxt, or a SavedModel's directory.",
)
_REFERENCE = flags.DEFINE_string(
  "reference",
  None,
  "What is right: another graph, a Keras file, or a checkpoint with its "
  "training graph.",
)
_SAMPLES = flags.DEFINE_integer(
  "samples", None, "How many rows of input to make up.", lower_bound=1
)
_ASKED = flags.DEFINE_list(
  "consumers",
  [],
  "What has to load the graph and answer as TensorFlow does: tflite, onnx (by "
  "tf2onnx and ONNX Runtime), opencv, openvino; pip install 'bnexport[onnx]' "
  "installs what onnx takes. Each runs in a process of its own.",
)


def main():
  _refuse_flags()
  consumers.refuse_missing(_ASKED.value)
  feeds = meaning.feeds()
  stated = meaning.settings()
  # Only now: a wrong flag is told before all of it is imported.
  from bnexport.cli import printing
  from bnexport.report import facts, screen, terminal
  from bnexport.validation import opening

  try:
    found = _validate(feeds, stated)
  except opening.NotImported as error:
    from bnexport.validation.questions import Validation

    found = Validation(_GRAPH.value, refused=error.fact)
  said = facts.validation_facts(found)
  if cli.FORMAT.value == "json":
    print(json.dumps(facts.finite(said), indent=2, allow_nan=False))
  else:
    printing.show(
      lambda width: screen.validation(said, width),
      lambda: terminal.validation(said),
    )
  return process.DONE if found.holds else process.NOT_PROVEN


def _refuse_flags():
  if not _GRAPH.value:
    raise SourceError(
      "validate",
      "no graph is given",
      "pass --graph=FILE",
    )
  if _REFERENCE.value and cli.MODEL.value:
    raise SourceError(
      "compare with two references",
      "--reference and --model are given",
      "pass one",
    )
  if cli.MODEL.value and not cli.CHECKPOINT.value:
    raise SourceError(
      f"rebuild --model={cli.MODEL.value}",
      "no values are given for its variables",
      "pass --checkpoint=PREFIX",
    )
  if cli.CHECKPOINT.value and not cli.MODEL.value:
    raise SourceError(
      "use --checkpoint",
      "it goes with --model, which is not given",
      f"pass --reference={cli.CHECKPOINT.value} to compare with its training "
      "graph",
    )
  if _SAMPLES.value and cli.FEEDS.value:
    raise SourceError(
      "make up input",
      "--samples and --feeds are given",
      "pass one",
    )


def _opened():
  """The Model of the graph, its GraphDef, and whether outputs are guessed."""
  from bnexport import sources
  from bnexport.validation import opening

  process.progress(f"reading {_GRAPH.value}")
  named = dataclasses.replace(
    sources.recognise(_GRAPH.value),
    outputs=tuple(meaning.named_outputs()),
    **_served(),
  )
  model, graph_def, is_guessed = opening.open_graph(named)
  opening.refuse_reaching_out(model, cli.ALLOW_UNSAFE_OPS.value)
  return model, graph_def, is_guessed


def _validate(feeds, stated):
  from bnexport.validation import opening
  from bnexport.validation.consumers import verdicts

  model, graph_def, is_guessed = _opened()
  if _ASKED.value:
    verdicts.refuse_variables(model)
  reference = _reference(model, stated, is_guessed)
  settings, notes = opening.settings_of(
    model, stated, {} if reference is None else reference.decided
  )
  if reference is not None:
    model.outputs = tuple(
      ref for ref in model.outputs if str(ref) not in reference.lost
    )
  process.progress("importing it again")
  try:
    runner = opening.imported(model, graph_def, settings)
  except ComparisonError as error:
    raise opening.NotImported(error.what, error.fact, error.step) from error
  with runner:
    found = _asked(model, runner, reference, feeds)
    if _ASKED.value:
      found.verdicts = verdicts.ask(
        _ASKED.value, model, graph_def, runner, found.batches, process.progress
      )
  found.is_guessed = is_guessed
  found.proof.notes[:0] = notes
  return found


def _asked(model, runner, reference, feeds):
  from bnexport.tf1 import time_limit
  from bnexport.validation import questions

  with time_limit(cli.PROOF_TIMEOUT.value):
    return questions.validate(
      model,
      runner,
      reference,
      feeds,
      _SAMPLES.value,
      bool(cli.KEEP_BATCH_STATISTICS.value),
      process.progress,
    )


def _served():
  return {"tags": tuple(cli.TAGS.value), "signature": cli.SIGNATURE.value}


def _reference(model, stated, is_guessed):
  """The reference that the flags name, or None."""
  from bnexport import sources
  from bnexport.model.prefixes import find_prefix
  from bnexport.validation import opening

  outputs = tuple(map(str, model.outputs))
  if cli.MODEL.value:
    process.progress(f"building {cli.MODEL.value}")
    request = meaning.request(find_prefix(cli.CHECKPOINT.value), outputs)
    request = dataclasses.replace(request, inputs=())
  elif _REFERENCE.value:
    request = dataclasses.replace(
      sources.recognise(_REFERENCE.value), outputs=outputs, **_served()
    )
    if request.kind == "meta_graph" and cli.META_GRAPH.value:
      request = dataclasses.replace(request, source=cli.META_GRAPH.value)
  else:
    return None
  return opening.reference_of(
    request,
    meaning.options(),
    stated,
    meaning.inputs() or model.placeholders(),
    cli.ALLOW_UNSAFE_OPS.value,
    process.progress,
    is_guessed,
  )


if __name__ == "__main__":
  process.run(main)
