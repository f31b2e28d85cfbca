# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG that takes its colours from the page around it."""

from __future__ import annotations

import io
import re

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter

# Plots are drawn in these colours, which the page's own replace, so that light
# and dark pages both can be read.
_INK, _BEFORE, _AFTER = "#010203", "#010204", "#010205"
_COLOURS = {
  _INK: "currentColor",
  _BEFORE: "var(--before)",
  _AFTER: "var(--after)",
}
_STYLE = {
  "svg.fonttype": "none",
  # Simplifying drops strokes without length, and the dots are such.
  "path.simplify": False,
  "font.family": "sans-serif",
  "font.size": 9,
  "axes.edgecolor": _INK,
  "axes.labelcolor": _INK,
  "axes.titlesize": 9,
  "axes.titlecolor": _INK,
  "axes.linewidth": 0.5,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "xtick.color": _INK,
  "ytick.color": _INK,
  "xtick.labelsize": 8,
  "ytick.labelsize": 8,
}
# More channels than this are drawn in groups.
_MOST_BARS = 64
# At most this many groups are drawn with larger dots.
_FEW = 24
# Variances further apart than this are drawn on a logarithmic axis.
_WIDE = 50


def statistics_plot(one):
  """SVG of one NormStatistics: mean and variance of each channel.

  Channels are sorted by the values that the norm uses now, which are a line.
  The values before are a dot for each channel. Many channels are drawn in
  groups, each a bar from its least value to its largest.
  """
  with matplotlib.rc_context(dict(_STYLE, **{"svg.hashsalt": one.norm})):
    figure = Figure(figsize=(6.4, 1.7))
    left, right = figure.subplots(1, 2)
    _one(left, "mean", one.mean, one.mean_before)
    _one(right, "variance", one.variance, one.variance_before)
    # Not tight_layout: it measures every text, which takes most of the time.
    figure.subplots_adjust(0.08, 0.14, 0.995, 0.86, wspace=0.2)
    return _svg(figure)


def _one(axes, title, after, before):
  axes.set_title(title, loc="left")
  order = np.argsort(after, kind="stable")
  groups = np.array_split(order, min(len(order), _MOST_BARS))
  x = np.arange(len(groups))
  axes.set_xticks([])
  values = after if before is None else np.concatenate([after, before])
  width = 5 if len(groups) <= _FEW else 2.4
  if np.isfinite(values).all():
    _ranges(axes, x, before, groups, _BEFORE, width)
    if len(order) > 1:
      middle = [np.median(after[group]) for group in groups]
      axes.add_patch(_stroke(list(zip(x, middle)), _AFTER, 1.6, joined=True))
    _ranges(axes, x, after, groups, _AFTER, 0.6 * width)
    if title == "variance" and 0 < values.min() * _WIDE < values.max():
      axes.set_yscale("log")
      axes.set_ylim(values.min() / 1.5, values.max() * 1.5)
      _plain_ticks(axes)
    else:
      margin = 0.06 * float(np.ptp(values)) or 0.5
      axes.set_ylim(values.min() - margin, values.max() + margin)
      axes.locator_params(axis="y", nbins=4)
  axes.set_xlim(-0.7, len(groups) - 0.3)


def _plain_ticks(axes):
  """Writes powers of ten as numbers; logarithmic formatters take long."""
  axes.minorticks_off()
  axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def _ranges(axes, x, values, groups, colour, width):
  """A bar from the least to the largest value of each group, or a dot."""
  if values is None:
    return
  ends = []
  for place, group in zip(x, groups):
    ends += [(place, values[group].min()), (place, values[group].max())]
  axes.add_patch(_stroke(ends, colour, width))


def _stroke(points, colour, width, joined=False):
  """Strokes as one path, which keeps the page small."""
  codes = [Path.LINETO] * len(points)
  codes[0] = Path.MOVETO
  if not joined:
    codes[::2] = [Path.MOVETO] * len(codes[::2])
  return PathPatch(
    Path(points, codes),
    fill=False,
    edgecolor=colour,
    linewidth=width,
    capstyle="round",
    joinstyle="round",
    clip_on=False,
  )


def walks_plot(layers, training):
  """SVG of two walks over tensors: differences relative to their limits.

  The walk against the reference is a line, that against training dots.
  """
  with matplotlib.rc_context(dict(_STYLE, **{"svg.hashsalt": "walks"})):
    figure = Figure(figsize=(6.4, 1.9))
    axes = figure.subplots()
    shown = []
    for walk, colour, joined in (
      (training, _BEFORE, False),
      (layers, _AFTER, True),
    ):
      ratios = [_ratio(d) for d in walk["tensors"]]
      if ratios:
        x = np.linspace(0, 1, len(ratios))
        points = [(a, b) for a, b in zip(x, ratios) for _ in range(2)]
        width = 1.6 if joined else 4 if len(x) <= _MOST_BARS else 2.4
        axes.add_patch(_stroke(points, colour, width, joined))
        shown += ratios
    axes.set_yscale("log")
    axes.set_ylim(min(shown) / 3, max(max(shown), 1) * 3)
    _plain_ticks(axes)
    axes.set_xlim(-0.01, 1.01)
    axes.set_xticks([0, 1])
    axes.set_xticklabels(["input", "output"])
    axes.get_xticklabels()[0].set_ha("left")
    axes.get_xticklabels()[1].set_ha("right")
    axes.axhline(1, color=_INK, linewidth=0.8, linestyle="--")
    axes.set_title("largest difference / limit of rounding", loc="left")
    figure.subplots_adjust(0.08, 0.16, 0.995, 0.88)
    return _svg(figure)


def _ratio(difference):
  """Difference / limit, cut to 1e-4 and 1e6."""
  if not difference["largest_difference"]:
    return 1e-4
  if not difference["limit"]:
    return 1e6
  ratio = difference["largest_difference"] / difference["limit"]
  return float(min(max(ratio, 1e-4), 1e6))


def _svg(figure):
  out = io.StringIO()
  figure.patch.set_visible(False)
  for axes in figure.axes:
    axes.patch.set_visible(False)
  figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
  text = out.getvalue()
  text = text[text.index("<svg") :]
  # The style sheet would hold for the whole page.
  text = re.sub(
    r"<style.*?</style>|<metadata>.*?</metadata>", "", text, flags=re.S
  )
  text = re.sub(r"<!--.*?-->| xmlns(:\w+)?=\"[^\"]*\"", "", text, flags=re.S)
  # Ids that end in a number repeat on a page; ticks refer to others.
  text = re.sub(r' id="[\w.]*_\d+"', "", text.replace("xlink:href", "href"))
  for drawn, wanted in _COLOURS.items():
    text = text.replace(drawn, wanted)
  # A tenth of a point is finer than a screen; labels have fewer digits.
  text = re.sub(r"(\d\.\d)\d{5}", r"\1", text)
  text = re.sub(r">\s+<", "><", text).replace(" \n", " ")
  return text.replace("<svg", '<svg class="plot" aria-hidden="true"', 1)
