# SPDX-License-Identifier: Apache-2.0
"""The page of `--help`: flags by purpose, and those without effect last.

It takes no import of TensorFlow. `--helpfull` is absl's own list.
"""

from __future__ import annotations

import re
import sys
import textwrap
from typing import Any, Dict, Iterator, List, Tuple

from absl import flags

from bnexport import cli

HELP = frozenset("--help --helpshort -help -helpshort -h -?".split())

# Every flag stands in one of these, or in ACCEPTED.
GROUPS: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
  (
    "what to do",
    ("transforms", "explain", "show", "graph", "reference", "consumers"),
  ),
  (
    "the source, one of",
    (
      "meta_graph",
      "graph_def",
      "saved_model",
      "keras",
      "hub_module",
      "model",
    ),
  ),
  (
    "how it is read",
    ("tags", "signature", "model_kwargs", "input"),
  ),
  (
    "the checkpoint",
    (
      "checkpoint",
      "moving_averages",
      "average_name",
      "scope_map",
      "missing",
      "variable_names_allowlist",
      "variable_names_denylist",
    ),
  ),
  ("its ends", ("output_node", "input_node", "initializer_nodes")),
  (
    "what to decide",
    (
      "set",
      "keep_batch_statistics",
      "averages",
      "keep_random",
      "keep_control_flow",
    ),
  ),
  (
    "what is made of it",
    (
      "fold_batch_norms",
      "data_format",
      "target_tf",
      "engine",
    ),
  ),
  (
    "where it goes",
    ("output_graph", "saved_model_out", "as_text", "overwrite"),
  ),
  (
    "the proof",
    (
      "proof",
      "validate",
      "proof_timeout",
      "feeds",
      "samples",
      "allow_unsafe_ops",
    ),
  ),
  (
    "statistics from data",
    ("calibration_data", "calibration_input", "recalibrate"),
  ),
  (
    "many checkpoints",
    ("jobs", "resume", "summary", "runner", "beam_options"),
  ),
  ("the report", ("report", "verbose", "format")),
)
# Of TensorFlow's freeze_graph; files tell by themselves what they are.
ACCEPTED: Tuple[str, ...] = (
  "input_binary",
  "clear_devices",
  "input_saver",
  "checkpoint_version",
  "restore_op_name",
  "filename_tensor_name",
)

# Of the shared flags, those that a command does nothing with.
_MANY = ("jobs", "resume", "summary", "runner", "beam_options")
_CODE = ("model", "model_kwargs", "input")
_EXPORT = (
  *("averages", "keep_random", "keep_control_flow", "fold_batch_norms"),
  *("data_format", "engine", "variable_names_allowlist"),
  *("variable_names_denylist", "missing", "initializer_nodes"),
  *("calibration_data", "calibration_input", "recalibrate"),
  *("keep_batch_statistics", "set"),
)
_WRITTEN = ("output_graph", "saved_model_out", "as_text", "overwrite", "report")
UNREAD: Dict[str, Tuple[str, ...]] = {
  "freeze": ("format",),
  "inspect": (
    *(*_MANY, *_CODE, *_EXPORT, *_WRITTEN, "transforms"),
    *("proof", "validate", "proof_timeout", "feeds", "allow_unsafe_ops"),
  ),
  "repair": (
    *(*_MANY, *_CODE, "tags", "signature", "format"),
    *("saved_model", "keras", "hub_module"),
  ),
  "transform": (
    *(*_MANY, *_CODE, *_EXPORT, "moving_averages", "average_name"),
    *("format", "report", "meta_graph", "keras", "hub_module", "target_tf"),
    *("scope_map", "proof_timeout", "feeds", "allow_unsafe_ops"),
  ),
  "validate": (
    *(*_MANY, *_WRITTEN, "proof", "validate", "transforms", "target_tf"),
    *("engine", "fold_batch_norms", "initializer_nodes", "missing"),
    *("variable_names_allowlist", "variable_names_denylist"),
    *("graph_def", "saved_model", "keras", "hub_module"),
  ),
}

# What absl adds to a flag's words: the values of an enumeration, and that a
# flag may be repeated.
_OF_ABSL = re.compile(r"^<[^>]*>: |;\s+repeat this option.*$")

_WIDTH = 80
_NAME = 24


def page() -> str:
  """The page of the command that is the main module."""
  main = sys.modules["__main__"]
  own = flags.FLAGS.get_key_flags_for_module(main)
  assert main.__spec__ is not None  # commands are run as modules
  command = main.__spec__.name.rpartition(".")[2]
  return page_of(command, main.__doc__ or "", [flag.name for flag in own])


def page_of(command: str, doc: str, names: List[str]) -> str:
  """The page of a command.

  Args:
    command: its name.
    doc: the docstring of its module.
    names: of its flags, those that it shares with others included.
  """
  known = set(names) - set(UNREAD[command])
  lines = [doc.rstrip(), ""]
  for title, members in GROUPS:
    there = [name for name in members if name in known]
    if there:
      lines.append(f"{title}:")
      for name in there:
        lines += _described(flags.FLAGS[name])
      lines.append("")
  lines.append(
    "other names, as freeze_graph and the Graph Transform Tool have:"
  )
  lines += _paragraph(_aliases(known))
  lines.append("accepted, without effect:")
  unread = [name for name in UNREAD[command] if name in names]
  lines += _paragraph(f"--{name}" for name in (*ACCEPTED, *unread))
  lines.append("--helpfull lists all flags, with those of absl.")
  return "\n".join(lines)


def _described(flag: Any) -> List[str]:
  """A flag, its default and its meaning, in two columns."""
  value = "" if flag.boolean else "=..."
  if getattr(flag.parser, "enum_values", None):
    value = "=" + "|".join(flag.parser.enum_values)
  name = f"  --{flag.name}{value}"
  said = _OF_ABSL.sub("", flag.help)
  is_nothing = flag.default in (None, False, "", [], "{}")
  if not is_nothing and "default" not in said.lower():
    shown = flag.default_as_str.strip("'\"")
    said = f"{said} Default: {shown}."
  filled = textwrap.wrap(said, _WIDTH - _NAME, break_on_hyphens=False)
  if len(name) > _NAME - 2:
    filled.insert(0, "")
  column = [name, *[""] * len(filled)][: len(filled)]
  return [
    f"{left:{_NAME}}{right}".rstrip() if right else left
    for left, right in zip(column, filled)
  ]


def _paragraph(words: Any) -> List[str]:
  filled = textwrap.wrap(
    ", ".join(words),
    _WIDTH - 2,
    break_on_hyphens=False,
    initial_indent="  ",
    subsequent_indent="  ",
  )
  return [*filled, ""]


def _aliases(known: Any) -> Iterator[str]:
  """Other names of flags that a command reads."""
  for old, new in cli.ALIASES:
    if new in known:
      yield f"--{old} (--{new})"
