"""Rewrites a graph as the Graph Transform Tool did.

  python -m bnexport.transform --in_graph=model.pb --out_graph=small.pb
      --inputs=x --outputs=logits
      --transforms='strip_unused_nodes(shape="1,224,224,3") fold_constants'

Transforms are run one after another. --transforms=help lists them, and
--transforms='help(fold_constants)' prints the page of one. Where the graph
still has variables, --checkpoint gives their values to transforms that ask for
them. What was done goes to stdout. Exit status: 0 done, 2 written but this
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
  from bnexport import checkpoint
  from bnexport.freezing import writing
  from bnexport.sources import plain_graph
  from bnexport.transforms import table

  transforms = table.parse(specs)
  prefix = None
  if cli.CHECKPOINT.value:
    prefix = checkpoint.find_prefix(cli.CHECKPOINT.value)
  path = cli.OUTPUT_GRAPH.value
  writing.refuse_existing(path, cli.OVERWRITE.value)
  writing.refuse_source(path, prefix, cli.GRAPH_DEF.value)
  model = plain_graph.load(
    cli.GRAPH_DEF.value, cli.outputs(), cli.inputs(), prefix
  )
  before = len(model.graph)
  table.apply_specs(model, transforms, cli.progress)
  data = writing.serialize(model, cli.AS_TEXT.value)
  with writing.whole_file(path, data) as written:
    reason = _reason_against(written) if cli.VALIDATE.value else None
  print("\n".join(model.history))
  print("wrote %s: %d nodes, there were %d" % (path, len(model.graph), before))
  for warning in model.warnings:
    cli.warn(warning)
  if reason is not None:
    cli.warn("this TensorFlow does not import the graph: %s" % reason)
    return cli.NOT_PROVEN
  return cli.DONE


def _refuse_missing(specs):
  if not (specs or "").strip():
    raise TransformError(
      "cannot transform: no transform is named; pass --transforms='NAME NAME', "
      "--transforms=help lists them"
    )
  for flag, value in (
    ("in_graph", cli.GRAPH_DEF.value),
    ("out_graph", cli.OUTPUT_GRAPH.value),
  ):
    if not value:
      raise SourceError(
        "cannot transform: no --%s is given; pass --%s=FILE.pb" % (flag, flag)
      )


def _reason_against(path):
  """Why TensorFlow does not import a graph, or None."""
  from bnexport.comparison import Runner
  from bnexport.errors import ComparisonError
  from bnexport.sources.files import read_proto
  from bnexport.tf1 import tf1

  cli.progress("importing it again")
  try:
    Runner(read_proto(path, tf1.GraphDef, "the graph"), ()).close()
  except ComparisonError as error:
    return str(error).partition(": ")[2]
  return None


if __name__ == "__main__":
  cli.run(main)
