# SPDX-License-Identifier: Apache-2.0
"""Nouns as HTML for notebooks: small, whatever the size of what is shown.

It takes no library, and nothing of a graph is run.
"""

from __future__ import annotations

import collections
import html as markup
from typing import Any, Callable, Dict, Iterable, List, Sequence, Tuple

from bnexport.checks.rule import ERROR, NOTE, WARNING, Finding, Findings
from bnexport.errors import printable
from bnexport.exporting.export import Export
from bnexport.graph import Graph, ops
from bnexport.graph.nodes import op_histogram
from bnexport.model import Model
from bnexport.proof.comparison import DIFFERS, NOT_PROVEN, PROVEN, Comparison
from bnexport.report import facts, sentences
from bnexport.report.grouping import groups, lines
from bnexport.report.overview import kind_of
from bnexport.report.terminal import SEVERITIES

# Rows of a table, and of what may be long.
_MOST = 12
_MOST_LINES = 40
# White is read on all of these, and they are seen on white and on black.
_GOOD, _DOUBT, _BAD, _PLAIN = "#176b36", "#7a5600", "#b3261e", "#57606a"
_TONES = {
  PROVEN: _GOOD,
  NOT_PROVEN: _DOUBT,
  DIFFERS: _BAD,
  ERROR: _BAD,
  WARNING: _DOUBT,
  NOTE: _PLAIN,
}
_STYLE = (
  "<style>.bnexport{line-height:1.45;max-width:60em}"
  ".bnexport b.tag{color:#fff;border-radius:1em;padding:.1em .7em}"
  ".bnexport table{border-collapse:collapse;margin:.4em 0}"
  ".bnexport td,.bnexport th{text-align:left!important;vertical-align:top;"
  "padding:.15em 1em .15em 0;overflow-wrap:break-word}"
  ".bnexport th{font-weight:normal;opacity:.75;white-space:nowrap}"
  ".bnexport summary{cursor:pointer}</style>"
)


def html(shown: Any) -> str:
  """HTML of a Graph, Model, Export, Comparison, Finding or Findings."""
  for kind, write in _WRITERS:
    if isinstance(shown, kind):
      return f'{_STYLE}<div class="bnexport">{write(shown)}</div>'
  raise TypeError(f"a {type(shown).__name__} has no HTML")


# Parts.


def _text(value: object) -> str:
  """A text in which nothing is markup, on one line, its long words cut."""
  return markup.escape(printable(value))


def _title(tag: str, words: str, tone: str = _PLAIN) -> str:
  return (
    f'<p><b class="tag" style="background:{tone}">{_text(tag)}</b> '
    f"{_text(words)}</p>"
  )


def _table(rows: Iterable[Sequence[object]]) -> str:
  """Rows of cells, of which the first is a heading."""
  made = [
    f'<tr><th scope="row">{_text(first)}</th>'
    + "".join(f"<td>{_text(cell)}</td>" for cell in cells)
    + "</tr>"
    for first, *cells in rows
  ]
  return f"<table>{''.join(made)}</table>" if made else ""


def _folded(title: str, told: Sequence[object]) -> str:
  """A list that opens, cut where it is long."""
  if not told:
    return ""
  items = "".join(f"<li>{_text(line)}</li>" for line in told[:_MOST_LINES])
  return (
    f"<details><summary>{_text(title)}</summary><ul>{items}</ul>"
    f"{_more(len(told) - _MOST_LINES)}</details>"
  )


def _alike(noun: str, told: Sequence[str]) -> str:
  """A list of lines that opens, those alike once."""
  return _folded(
    _count(len(told), noun), [line for line, _ in lines(told, _MOST)]
  )


def _more(count: int) -> str:
  return f"<p>and {count} more</p>" if count > 0 else ""


def _count(number: int, noun: str) -> str:
  return f"{number:,} {noun}{'' if number == 1 else 's'}"


# Graphs and models.


def _graph(graph: Graph) -> str:
  return (
    _title(kind_of(graph), _count(len(graph), "node"))
    + _table(_contents(graph))
    + _scopes(graph)
  )


def _contents(graph: Graph) -> List[Tuple[str, str]]:
  """Inputs, ends and ops of a graph, those that there are."""
  fed = [node.name for node in graph if node.op in ops.PLACEHOLDERS]
  ends = [name for name in graph.names() if not graph.readers(name)]
  counted = collections.Counter(op_histogram(graph, graph.library.values()))
  frequent = [f"{count} {op}" for op, count in counted.most_common(_MOST)]
  rows = [
    ("placeholders", _few(fed)),
    ("read by none", _few(ends)),
    ("ops", _few(frequent, len(counted))),
    ("functions", _few(list(graph.library))),
  ]
  return [(title, words) for title, words in rows if words]


def _few(names: Sequence[str], count: int = 0) -> str:
  """The first of many names, and how many more there are."""
  left_out = (count or len(names)) - min(len(names), _MOST)
  return ", ".join(names[:_MOST]) + (f" and {left_out} more" * (left_out > 0))


def _scopes(graph: Graph) -> str:
  """How many nodes the outermost scopes have."""
  counted: Dict[str, int] = collections.Counter()
  for name in graph.names():
    scope, slash, _ = name.partition("/")
    counted[scope if slash else ""] += 1
  scopes = [scope for scope in counted if scope]
  found = [
    f"{group}/: {_count(sum(counted[name] for name in group.names), 'node')}"
    for group in groups(scopes, _MOST_LINES)
  ]
  return _folded(_count(len(scopes), "scope"), found)


def _model(model: Model) -> str:
  graph = model.graph
  rows = [
    ("from", model.origin),
    ("inputs", _few([str(ref) for ref in model.inputs])),
    ("outputs", _few([str(ref) for ref in model.outputs])),
    *_contents(graph),
  ]
  return (
    _title(kind_of(graph), _count(len(graph), "node"))
    + _table((title, words) for title, words in rows if words)
    + _scopes(graph)
    + _alike("change", model.history)
    + _alike("warning", model.warnings)
  )


# Exports and proofs.


def _export(export: Export) -> str:
  model = export.model
  ends = [
    *(("input", name) for name in model.placeholders()[:_MOST]),
    *(("output", str(ref)) for ref in model.outputs[:_MOST]),
  ]
  return (
    _title("export", f"{_count(len(model.graph), 'node')}, from {model.origin}")
    + _table(ends)
    + _norms(export)
    + _alike("change", model.history)
    + _alike("warning", model.warnings)
    + "<p><code>.prove()</code> compares it with its reference, "
    "<code>.write(path)</code> does so too and writes it.</p>"
  )


def _norms(export: Export) -> str:
  """The norms of an export, those alike in one row."""

  def state(norm):
    return norm.statistics, export.health.get(norm.name) or ""

  if not export.norms:
    return "<p>no batch norms</p>"
  found = groups(export.norms, _MOST, lambda norm: norm.name, state)
  rows = [
    (str(group), _count(len(group.items), "norm"), *state(group.items[0]))
    for group in found[:_MOST_LINES]
  ]
  return (
    f"<p>{_count(len(export.norms), 'batch norm')}</p>{_table(rows)}"
    f"{_more(len(found) - _MOST_LINES)}"
  )


def _comparison(proof: Comparison) -> str:
  said = facts.proof_facts(proof)
  words = proof.reference or proof.missing
  told = sentences.proof(dict(said, outputs=[]))
  rows = [
    (
      one.output,
      f"largest difference {one.largest:.2g}",
      f"limit {one.limit:.2g}",
      "holds" if one.holds else "DIFFERS",
    )
    for one in sorted(proof.differences, key=lambda one: one.holds)
  ]
  return (
    _title(proof.verdict, f"compared with {words}", _TONES[proof.verdict])
    + _table(rows[:_MOST])
    + _more(len(rows) - _MOST)
    + _folded("what was looked at", told[1:])
  )


# Findings.


def _finding(found: Finding) -> str:
  return _group(found, found.node)


def _group(found: Finding, where: str, count: int = 1) -> str:
  """Findings that are alike, of which one is given."""
  tag = found.code if count == 1 else f"{count} times {found.code}"
  rows = [("where", where), ("fix", found.fix.command())]
  return _title(tag, found.message, _TONES[found.severity]) + _table(
    (title, words) for title, words in rows if words
  )


def _same(found: Finding) -> Tuple[str, str]:
  """What tells apart findings that are never shown as one."""
  return found.code, found.fix.command()


def _findings(found: Findings) -> str:
  if not found:
    return _title("no findings", "nothing stands against this", _GOOD)
  ranked = sorted(found, key=lambda one: SEVERITIES.index(one.severity))
  counted = collections.Counter(one.code for one in found)
  told = ", ".join(f"{n} {code}" for code, n in counted.most_common(_MOST))
  alike = groups(ranked, 1, lambda one: one.node, _same)
  shown = [
    _group(one.items[0], str(one), len(one.items)) for one in alike[:_MOST]
  ]
  return (
    _title(_count(len(found), "finding"), told, _TONES[ranked[0].severity])
    + "".join(shown)
    + _more(sum(len(one.items) for one in alike[_MOST:]))
  )


_WRITERS: Tuple[Tuple[type, Callable], ...] = (
  (Graph, _graph),
  (Model, _model),
  (Export, _export),
  (Comparison, _comparison),
  (Finding, _finding),
  (Findings, _findings),
)
