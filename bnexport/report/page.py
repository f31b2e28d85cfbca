# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML page that needs nothing else, and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import os

import jinja2

from bnexport.batchnorm.forms import find
from bnexport.graph import TensorRef
from bnexport.report import plots, sentences
from bnexport.report.answer import answer
from bnexport.report.blocks import Blocks
from bnexport.report.changed import changed
from bnexport.report.doubts import ranked
from bnexport.report.escaping import escaped
from bnexport.report.layout import size_of
from bnexport.report.neighbourhood import Neighbourhoods
from bnexport.report.network import Mark, Network

# Norms that have a part of their own, and those drawn before and after.
_MOST_NORMS = 60
_MOST_DRAWN = 20
# Rows of a table, and norms that are shown open.
_MOST_ROWS, _MOST_ENDS = 250, 12
_OPEN = 3


def page(export, said, evidence):
  """HTML of a report.

  Args:
    export: an export.Export.
    said: its facts.export_facts.
    evidence: an evidence.Evidence.
  """
  kinds = changed(said)
  norms = _Norms(export, said, evidence)
  said = escaped(said)
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(os.path.dirname(__file__)),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters["summary"] = sentences.summary
  environment.filters["why"] = sentences.why
  environment.filters["bytes"] = size_of
  environment.filters["sentence"] = _sentence
  style = environment.get_template("page.css.j2").render()
  return environment.get_template("page.html.j2").render(
    said=said,
    style=style,
    style_hash=_hash(style),
    title=os.path.basename(said["file"]),
    answer=_escaped_fields(answer(said, bool(norms.doubtful))),
    changes=[
      dict(_escaped_fields(kind), scopes=escaped(kind.scopes()))
      for kind in kinds
    ],
    health=sentences.health(said),
    outcome=said["findings"] and sentences.outcome(said["findings"]),
    agreement=sentences.agreement(said["layers"]),
    parting=sentences.parting(said["training_and_inference"], said["outputs"]),
    walks_plot=_walks_plot(said),
    norms=norms,
    most_rows=_MOST_ROWS,
    most_ends=_MOST_ENDS,
    open=_OPEN,
  )


def _escaped_fields(one):
  """The fields of a dataclass as plain values, with their texts escaped."""
  return {key: escaped(value) for key, value in vars(one).items()}


def _sentence(text):
  """A text with a capital and a full stop."""
  text = text.strip()
  end = "" if text.endswith((".", "!", "?")) else "."
  return text[:1].upper() + text[1:] + end


def _hash(style):
  """The source of a style sheet in a Content-Security-Policy."""
  digest = hashlib.sha256(style.encode("utf-8")).digest()
  return "sha256-" + base64.b64encode(digest).decode("ascii")


def _walks_plot(said):
  layers, training = said["layers"], said["training_and_inference"]
  if not layers["tensors"] and not training["tensors"]:
    return ""
  return plots.walks_plot(layers, training)


class _Norms:
  """The norms of a page, the worst first, and the network around them.

  Attributes:
    shown: pairs of escaped facts and the words of a doubt, the worst first.
    doubtful: how many have a doubt.
    plots: SVG of the statistics, by place in `shown`.
    drawings: Drawings before and after, by place in `shown`.
    alike: the place in `drawings` that looks the same, by place in `shown`.
    other_warnings: warnings that are about no norm with a part of its own.
    overview: SVG of all norms, or "".
    network: the Network, or None where nothing computes.
  """

  def __init__(self, export, said, evidence):
    proof = said["proof"]
    is_made_up = bool(proof and proof["fed_is_made_up"])
    norms = ranked(said["batch_norms"], is_made_up)
    self.shown = [
      (dict(escaped(norm), warnings=[]), escaped(words))
      for norm, words in norms
    ]
    self.doubtful = sum(bool(words) for _, words in norms)
    names = [norm["name"] for norm, _ in norms[:_MOST_NORMS]]
    self.most = len(names)
    statistics = evidence.statistics
    self.plots = {
      i: plots.statistics_plot(statistics[name])
      for i, name in enumerate(names)
      if name in statistics
    }
    self.other_warnings = self._place_warnings(said["warnings"], names)
    self.drawings, self.alike = _once(_drawings(export, said, names))
    self.overview = _overview(said, dict((n["name"], w) for n, w in norms))
    self.network = _network(export, said, norms)

  def _place_warnings(self, warnings, names):
    """Puts warnings about norms to these; returns the others."""
    places = {name: i for i, name in enumerate(names)}
    others = []
    for warning in warnings:
      place = places.get(getattr(warning, "node", None))
      lines = others if place is None else self.shown[place][0]["warnings"]
      lines.append(escaped(str(warning)))
    return others


def _once(drawings):
  """Drawings of which no two look alike; and the one that others look like."""
  seen, kept, alike = {}, {}, {}
  for place, pair in drawings.items():
    look = tuple(
      (tuple((box.title, box.kind, box.xy) for box in drawing.boxes))
      + tuple(line.path for line in drawing.lines)
      for drawing in pair
    )
    if look in seen:
      alike[place] = seen[look]
    elif len(kept) < _MOST_DRAWN:
      seen[look] = place
      kept[place] = pair
  return kept, alike


def _overview(said, doubts):
  distances = [
    norm["distance"]
    and dict(norm["distance"], is_marked=bool(doubts[norm["name"]]))
    for norm in said["batch_norms"]
  ]
  return plots.norms_plot(distances) if any(distances) else ""


def _network(export, said, norms):
  unfolded = export.before_folding().model
  parting = said["layers"]["first_real_difference"]
  at = "" if parting is None else TensorRef.parse(parting).node
  marks = {}
  for i, (norm, words) in enumerate(norms):
    kind = "doubt" if words else "good"
    link = f"norm-{i + 1}" if i < _MOST_NORMS else ""
    kind = "bad" if norm["name"] == at else kind
    marks[norm["name"]] = Mark(escaped(norm["name"]), kind, link)
  apart = [name for name in marks if name in unfolded.graph]
  blocks = Blocks(unfolded.graph, unfolded.needed(), apart)
  marks = {
    blocks.seen_at[n]: m for n, m in marks.items() if n in blocks.seen_at
  }
  if not blocks.order:
    return None
  outputs = tuple(ref.node for ref in unfolded.outputs)
  return Network(blocks, marks, outputs, at)


def _drawings(export, said, names):
  """Drawings before and after of norms that were changed, by their places."""
  is_changed = {n["name"] for n in said["batch_norms"] if n["changed"]}
  if export.original is None or not is_changed.intersection(names):
    return {}
  before = find(export.original.graph, export.original.outputs)
  around = Neighbourhoods(export.original, export.model, export.norms, before)
  return {i: around.of(n) for i, n in enumerate(names) if n in is_changed}
