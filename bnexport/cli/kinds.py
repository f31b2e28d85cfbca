# SPDX-License-Identifier: Apache-2.0
"""Files that are given by the flag of another kind, and the right command."""

from __future__ import annotations

from typing import Dict, Optional

from bnexport import cli
from bnexport.errors import Error, Offer, SourceError

# The flag that reads each kind of file.
_FLAGS = {
  "graph_def": "graph_def",
  "meta_graph": "meta_graph",
  "saved_model": "saved_model",
  "hub_module": "hub_module",
  "keras": "keras",
  "keras_weights": "keras",  # which says what is missing
  "checkpoint": "checkpoint",
}
# A Hub module is a SavedModel as well; of a checkpoint, any file will do.
_ALSO = {("saved_model", "hub_module"), ("checkpoint", "meta_graph")}


def refuse_other_kinds(command: str) -> None:
  """Raises SourceError where a flag names a file of another flag's kind.

  What nothing is known of passes: its reader tells.

  Args:
    command: its name.
  """
  named = [
    (flag.name, path)
    for flag in (cli.CHECKPOINT, *cli.SOURCES[1:])
    for path in [flag.value]
    if path
  ]
  if not named:
    return
  # Only now: what only says how it is used takes no NumPy.
  from bnexport.model.prefixes import is_several

  for flag, path in named:
    if not (flag == cli.CHECKPOINT.name and is_several(path)):
      _refuse_other_kind(command, flag, path)


def _refuse_other_kind(command, flag, path):
  from bnexport.sources import identity

  try:
    found = identity.identify(path)
  except Error:
    return
  right = _FLAGS.get(found.kind)
  if right == flag or (flag, found.kind) in _ALSO:
    return
  if found.kind in (identity.OTHER, identity.FOLDER):
    return
  from bnexport.report.guide import NAMES  # takes the rules of all findings

  offers, step = [], "give what TensorFlow saved"
  if found.kind == identity.MODEL and found.others:
    right, found = "model", found._replace(path=f"{path}:{found.others[0]}")
  if right:
    step = ""
    offers = [_offer(command, flag, right, found.path)]
  raise SourceError(
    f"use --{flag}={path}", f"it is {NAMES[found.kind]}", step, offers
  )


def _offer(command: str, wrong: str, right: str, path: str) -> Offer:
  """The command that takes a file by its right flag."""
  flags: Dict[str, Optional[str]] = {wrong: None, right: path}
  if right in ("keras", "hub_module", "saved_model", "model"):
    # They name their outputs, and have their values in them.
    command = "freeze" if command == "repair" else command
    if right != "model":
      flags["checkpoint"] = None
  elif right == "graph_def" and command == "freeze" and _is_frozen(path):
    command = "repair"
  elif command == "repair" and right != "graph_def":
    command = "freeze"
  from bnexport.model.prefixes import of_meta_graph

  beside = of_meta_graph(path) if right == "meta_graph" else None
  if beside and not cli.CHECKPOINT.value:  # the graph goes without saying
    flags = {wrong: None, "checkpoint": beside}
  return Offer(flags, command)


def refuse_no_values() -> None:
  """Raises SourceError where nothing gives values to a graph's variables."""
  graph, meta = cli.GRAPH_DEF.value, cli.META_GRAPH.value
  if graph and not cli.CHECKPOINT.value and _is_frozen(graph):
    raise SourceError(
      f"freeze '{graph}'",
      "it is frozen already, and repair makes it right where it is not",
      "",
      [Offer({}, "repair")],
    )
  from bnexport.model.prefixes import of_meta_graph

  beside = of_meta_graph(meta) if meta else None
  raise SourceError(
    "freeze",
    "no values are given for the variables",
    "" if beside else "pass --checkpoint=PREFIX_OR_DIRECTORY",
    [Offer({"meta_graph": None, "checkpoint": beside})] if beside else [],
  )


def _is_frozen(path: str) -> bool:
  from bnexport.graph import ops
  from bnexport.sources import files

  return not any(
    node.op in ops.VARIABLES for node in files.read_graph_def(path).node
  )
