# SPDX-License-Identifier: Apache-2.0
"""Rewrites a graph as the Graph Transform Tool did.

  python -m bnexport.transform --in_graph=model.pb --out_graph=small.pb
      --inputs=x --outputs=logits
      --transforms='strip_unused_nodes(shape="1,224,224,3") fold_constants'

Transforms are run one after another. --transforms=help lists them, and
--transforms='help(fold_constants)' prints the page of one. Where the graph
still has variables, --checkpoint gives their values to transforms that ask for
them. --in_graph may also be a SavedModel: its signatures tell inputs and
outputs where these are not given. A SavedModel is made of it, with its tags,
its signatures and its files, where --out_graph does not end in .pb or .pbtxt.

What was done goes to stdout. Exit status: 0 done, 2 written but this
TensorFlow does not import it, 3 can't be done.
"""

from __future__ import annotations

import re

from absl import flags

from bnexport import cli
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
    return cli.DONE
  _refuse_missing(specs)
  # Only now: importing TensorFlow takes seconds.
  from bnexport.transforms import table

  transforms = table.parse(specs)
  model, path, is_served = _open()
  before = len(model.graph)
  table.apply_specs(model, transforms, cli.progress)
  reason = (_write_saved_model if is_served else _write_graph)(model, path)
  print("\n".join(model.history))
  print(f"wrote {path}: {len(model.graph)} nodes, there were {before}")
  for warning in model.warnings:
    cli.warn(warning)
  if reason is not None:
    cli.warn(f"this TensorFlow does not import the graph: {reason}")
    return cli.NOT_PROVEN
  return cli.DONE


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


def _open():
  """A Model, where it goes, and whether it becomes a SavedModel there."""
  from bnexport.exporting import saved_model, writing
  from bnexport.model import checkpoint
  from bnexport.sources import opening, plain_graph, plain_saved_model

  source = cli.SAVED_MODEL.value or cli.GRAPH_DEF.value
  path = cli.SAVED_MODEL_OUT.value or cli.OUTPUT_GRAPH.value
  is_read_served = cli.SAVED_MODEL.value or opening.is_saved_model(source)
  is_served = bool(
    cli.SAVED_MODEL_OUT.value or (is_read_served and not writing.is_graph(path))
  )
  prefix = None
  if cli.CHECKPOINT.value:
    prefix = checkpoint.find_prefix(cli.CHECKPOINT.value)
  writing.refuse_source(path, prefix, source)
  if is_served:
    saved_model.refuse_directory(path, cli.OVERWRITE.value)
  else:
    writing.refuse_existing(path, cli.OVERWRITE.value)
  if not is_read_served:
    model = plain_graph.load(source, cli.outputs(), cli.inputs(), prefix)
    return model, path, is_served
  model = plain_saved_model.load(
    source,
    prefix,
    cli.named_outputs(),
    cli.inputs(),
    cli.TAGS.value,
    cli.SIGNATURE.value,
    is_served,
  )
  return model, path, is_served


def _write_graph(model, path):
  """Writes a GraphDef; returns why TensorFlow does not import it, or None."""
  from bnexport.exporting import writing
  from bnexport.sources.files import read_proto
  from bnexport.tf1 import tf1

  data = writing.serialize(model, cli.AS_TEXT.value)
  with writing.whole_file(path, data) as written:
    if not cli.VALIDATE.value:
      return None
    return _reason_against(read_proto(written, tf1.GraphDef, "the graph"))


def _write_saved_model(model, path):
  """Writes a SavedModel; returns why it does not restore, or None."""
  from bnexport.exporting import saved_model

  with saved_model.written(model, path) as (meta, prefix):
    if not cli.VALIDATE.value:
      return None
    restore = None
    if meta.HasField("saver_def"):
      restore = saved_model.restorer(meta, prefix)
    return _reason_against(meta.graph_def, restore)


def _reason_against(graph_def, restore=None):
  """Why TensorFlow does not import a graph, or None."""
  from bnexport.errors import ComparisonError
  from bnexport.proof.runs import ImportedGraph

  cli.progress("importing it again")
  try:
    ImportedGraph(graph_def, (), restore=restore).close()
  except ComparisonError as error:
    return error.fact
  return None


if __name__ == "__main__":
  cli.run(main)
