# SPDX-License-Identifier: Apache-2.0
"""Says what is in a TF1 graph, and what is wrong with it.

Of a frozen graph, of a checkpoint with its training graph, a SavedModel or a
Keras file:

  python -m bnexport.inspect --graph_def=model.pb
  python -m bnexport.inspect --checkpoint=run/model.ckpt
  python -m bnexport.inspect --explain=BN101

Nothing of the graph is run; a Keras file is loaded by Keras. Inputs and outputs
are guessed where --output_node names none. Exit status: 0 nothing stands
against the graph, 2 findings do, 3 can't be done.
"""

from __future__ import annotations

import json

from absl import flags

from bnexport import cli
from bnexport.cli import kinds, meaning, process
from bnexport.errors import SourceError

flags.adopt_module_key_flags(cli)  # --help shows the main module's only

_EXPLAIN = flags.DEFINE_string(
  "explain", None, "Print the page of a finding's code, such as BN101."
)
_SHOW = flags.DEFINE_string(
  "show", None, "Print a node, or the nodes of a scope, as text."
)


def main():
  if _EXPLAIN.value is not None:
    from bnexport import checks

    print(checks.explain(_EXPLAIN.value))
    return process.DONE
  kinds.refuse_other_kinds("inspect")
  request = _request()
  # Only now: a wrong flag is told before all of it is imported.
  from bnexport.cli import printing
  from bnexport.report import examination

  looked = examination.look(request, cli.TARGET_TF.value)
  if _SHOW.value is not None:
    print(looked.show(_SHOW.value))
    return process.DONE
  if cli.FORMAT.value == "json":
    print(json.dumps(looked.facts(), indent=2))
  else:
    printing.show(looked.lines, looked.text)
  return process.NOT_PROVEN if looked.stand_against else process.DONE


def _request():
  """The Request of what the flags name.

  Raises:
    SourceError: they name nothing, or two sources.
  """
  given = [cli.GRAPH_DEF.value or cli.CHECKPOINT.value, cli.META_GRAPH.value]
  whole = [flag for flag in cli.WHOLE if flag.value]
  if len(whole) > 1 or (whole and any(given)):
    raise SourceError(
      "inspect two sources",
      f"--{whole[0].name} and another are given",
      "pass one",
    )
  if not whole and not any(given):
    raise SourceError(
      "inspect",
      "nothing is named",
      "pass --graph_def=FILE, --checkpoint=PREFIX, --saved_model=DIRECTORY, "
      "--hub_module=DIRECTORY or --keras=FILE",
    )
  from bnexport.model.prefixes import find_prefix

  prefix = find_prefix(cli.CHECKPOINT.value) if cli.CHECKPOINT.value else None
  outputs = [name.strip() for name in meaning.named_outputs()]
  training = cli.META_GRAPH.value if cli.GRAPH_DEF.value else None
  return meaning.request(prefix, outputs, training=training)


if __name__ == "__main__":
  process.run(main)
