# SPDX-License-Identifier: Apache-2.0
"""Rewrites a graph as the Graph Transform Tool did.

  python -m bnexport.transform --in_graph=model.pb --out_graph=small.pb
      --inputs=x --outputs=logits
      --transforms='strip_unused_nodes(shape="1,224,224,3") fold_constants'

Transforms are run one after another. These list them, and print one's page:

  python -m bnexport.transform --transforms=help
  python -m bnexport.transform --transforms='help(fold_constants)'

Where the graph
still has variables, --checkpoint gives their values to transforms that ask for
them. --in_graph may also be a SavedModel: its signatures tell inputs and
outputs where these are not given. A SavedModel is made of it, with its tags,
its signatures and its files, where --out_graph does not end in .pb or .pbtxt.

What was done goes to stdout. Exit status: 0 done, 2 written but this
TensorFlow does not import it, nor what it was made of, or does not know an op
of it, 3 can't be done.
"""

from __future__ import annotations

import dataclasses
import re

from absl import flags

from bnexport import cli
from bnexport.cli import meaning, process, result
from bnexport.errors import SourceError, TransformError

_HELP = re.compile(r"\s*help\s*(?:\(\s*(\w*)\s*\))?\s*")

flags.adopt_module_key_flags(cli)  # --help shows the main module's only


def main():
  specs = cli.TRANSFORMS.value
  asked = _HELP.fullmatch(specs or "")
  if asked:
    from bnexport.transforms import table

    name = asked.group(1)
    print(table.help_text(name) if name else table.help_list())
    return process.DONE
  _refuse_missing(specs)
  # Only now: a wrong flag is told before all of it is imported.
  from bnexport import sources
  from bnexport.exporting import delivery
  from bnexport.transforms import table

  transforms = table.parse(specs)
  request, path = _request()
  model = sources.open(request)
  before = len(model.graph)
  table.apply_specs(model, transforms, process.progress)
  reason = None
  with delivery.written(
    model, path, cli.AS_TEXT.value, is_served=request.is_served
  ) as file:
    if meaning.proof() != "none":
      process.progress("importing it again")
      reason = file.reason_against()
      if reason is not None:
        _refuse_worse(request, model.graph, path, reason)
  _show(model, path, before)
  if reason is not None:
    process.warn(f"this TensorFlow does not import the graph: {reason}")
    return process.NOT_PROVEN
  return process.DONE


def _show(model, path, before):
  """Prints what was done to a graph that had so many nodes before."""
  from bnexport.cli import printing
  from bnexport.report import facts, screen, terminal

  said = facts.transformation_facts(model, path, before)
  printing.show(
    lambda width: screen.transformation(said, width),
    lambda: terminal.transformation(said),
  )
  result.tell(model.warnings)


def _refuse_worse(request, graph, path, reason):
  """Raises TransformError where transforms made a graph that can't be used.

  One with ops that this TensorFlow does not know is for another program, and
  one that came in broken may be on its way to be mended.
  """
  from bnexport import sources
  from bnexport.exporting import delivery
  from bnexport.proof import comparison

  if comparison.unknown_op(graph) is not None:
    return
  before = delivery.Written(lambda: sources.read(request).graph_def)
  if before.reason_against() is None:
    raise TransformError(
      f"write '{path}'",
      f"TensorFlow does not import what the transforms made: {reason}",
      "leave out the one that did it, or pass --novalidate",
    )


def _refuse_missing(specs):
  if not (specs or "").strip():
    raise TransformError(
      "transform",
      "no transform is named",
      "pass --transforms='NAME NAME', --transforms=help lists them",
    )
  for flag, value in (
    ("in_graph", cli.GRAPH_DEF.value or cli.SAVED_MODEL.value),
    ("out_graph", cli.OUTPUT_GRAPH.value or cli.SAVED_MODEL_OUT.value),
  ):
    if not value:
      raise SourceError(
        "transform",
        f"no --{flag} is given",
        f"pass --{flag}=FILE.pb",
      )


def _request():
  """The Request of the graph, and the path of what is made of it."""
  from bnexport import sources
  from bnexport.exporting import saved_model, writing

  path = cli.SAVED_MODEL_OUT.value or cli.OUTPUT_GRAPH.value
  source = cli.SAVED_MODEL.value or cli.GRAPH_DEF.value
  found = sources.recognise(source, cli.CHECKPOINT.value or None)
  if cli.SAVED_MODEL.value:
    found = dataclasses.replace(found, kind="saved_model")
  is_served = bool(
    cli.SAVED_MODEL_OUT.value
    or (found.kind == "saved_model" and not writing.is_graph(path))
  )
  writing.refuse_source(path, found.checkpoint, source)
  if is_served:
    saved_model.refuse_directory(path, cli.OVERWRITE.value)
  else:
    writing.refuse_existing(path, cli.OVERWRITE.value)
  is_named = found.kind == "saved_model"  # its signature names outputs

  def likely():
    return meaning.likely(sources.open(found).graph)

  outputs = meaning.named_outputs() if is_named else meaning.outputs(likely)
  request = dataclasses.replace(
    found,
    outputs=tuple(outputs),
    inputs=tuple(meaning.inputs()),
    tags=tuple(cli.TAGS.value),
    signature=cli.SIGNATURE.value,
    is_served=is_served,
    flags=("--outputs", "--inputs"),
  )
  return request, path


if __name__ == "__main__":
  process.run(main)
