# SPDX-License-Identifier: Apache-2.0
"""The report as Markdown."""

from __future__ import annotations

import os

from bnexport.report import sentences
from bnexport.report.escaping import escaped

# Marks of tables, tags, code and links; the first makes way for the others.
_MARKS = (
  ("&", "&amp;"),
  ("<", "&lt;"),
  ("`", "&#96;"),
  ("|", "\\|"),
  ("](", "]\\("),
)
_NORM = ("norm", "form", "statistics", "mean", "variance", "epsilon", "health")
_VALUES = (
  "norm",
  "before",
  "mean",
  "mean before",
  "variance",
  "variance before",
)


def markdown(said):
  """The report of an export as Markdown; see `facts.export_facts`."""
  said = escaped(said)
  lines = [f"# {_text(os.path.basename(said['file']))}", ""]
  lines += [f"**{said['verdict']['says']}.**", ""]
  lines += [
    f"- {_text(line)}"
    for line in sentences.proof(said["proof"], most_blind=None)
  ]
  lines += _section("Warnings", said["warnings"])
  lines += _section("What was changed and why", sentences.changes(said))
  if said["findings"] is not None:
    lines += _section(*sentences.outcome(said["findings"]))
  lines += ["", "## Batch norms", ""] + _table(_NORM, _norms(said))
  lines += ["", sentences.health(said)]
  values = [norm for norm in said["batch_norms"] if norm["values"]]
  if values:
    lines += ["", "Median (smallest to largest) of the channels; before was"]
    lines += ["what the column says.", ""]
    lines += _table(_VALUES, map(_values, values))
  lines += ["", "## Layer by layer", ""]
  lines += [_text(sentences.agreement(said["layers"])) + "."]
  lines += _tensors(said["layers"])
  lines += ["", "## Where training and inference part", ""]
  training = said["training_and_inference"]
  lines += [_text(sentences.parting(training, said["outputs"])) + "."]
  lines += _tensors(training)
  lines += _section("All changes", said["changes"])
  return "\n".join(lines) + "\n"


def _section(title, lines):
  if not lines:
    return []
  return ["", "## " + title, ""] + [f"- {_text(line)}" for line in lines]


def _text(text):
  """Text in which marks of Markdown stand for themselves."""
  for mark, instead in _MARKS:
    text = str(text).replace(mark, instead)
  return text


def _table(titles, rows):
  lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
  for row in rows:
    lines.append(f"| {' | '.join(map(_text, row))} |")
  return lines


def _norms(said):
  for norm in said["batch_norms"]:
    yield (
      norm["name"],
      norm["form"],
      norm["statistics"],
      norm["moving_mean"],
      norm["moving_variance"],
      f"{norm['epsilon']:.3g}",
      norm["health"],
    )


def _values(norm):
  values = norm["values"]
  return [norm["name"], values["before_is"] or ""] + [
    sentences.summary(values[key])
    for key in ("mean", "mean_before", "variance", "variance_before")
  ]


def _tensors(walk):
  if not walk["tensors"]:
    return []
  rows = [
    (
      tensor["name"],
      f"{tensor['largest_difference']:.2g}",
      f"{tensor['limit']:.2g}",
      "" if tensor["holds"] else "differs",
    )
    for tensor in walk["tensors"]
  ]
  return [""] + _table(("tensor", "largest difference", "limit", ""), rows)
