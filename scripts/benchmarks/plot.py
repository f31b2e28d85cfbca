# SPDX-License-Identifier: Apache-2.0
"""Charts of the benchmark's results, in one picture."""

from __future__ import annotations

_BAR = 0.16  # inches
_GAP = 0.9


def write(path, charts):
  """Draws charts below each other.

  Args:
    path: FILE.svg, FILE.png or what else matplotlib writes.
    charts: results.Chart objects.
  """
  import matplotlib

  matplotlib.use("agg")
  from matplotlib import pyplot

  heights = [_BAR * len(c.labels) * (len(c.series) + 1) for c in charts]
  figure, axes = pyplot.subplots(
    len(charts),
    1,
    figsize=(9, sum(heights) + _GAP * len(charts)),
    gridspec_kw={"height_ratios": heights},
    squeeze=False,
    constrained_layout=True,
  )
  for chart, axis in zip(charts, axes[:, 0]):
    _draw(chart, axis)
  figure.savefig(path)


def _draw(chart, axis):
  """Bars from left to right, those of a label side by side."""
  thick = 1.0 / (len(chart.series) + 1)
  for i, (name, values) in enumerate(chart.series.items()):
    places = [place + i * thick for place in range(len(values))]
    bars = axis.barh(places, values, thick, label=name)
    for bar, value in zip(bars, values):
      axis.annotate(
        " %.3g" % value,
        (value, bar.get_y() + thick / 2),
        va="center",
        fontsize=6,
      )
  middle = (len(chart.series) - 1) * thick / 2
  axis.set_yticks([place + middle for place in range(len(chart.labels))])
  axis.set_yticklabels(chart.labels, fontsize=7)
  axis.invert_yaxis()
  axis.set_xlabel(chart.unit, fontsize=7)
  axis.set_title(chart.title, fontsize=9)
  if len(chart.series) > 1:
    axis.legend(fontsize=6)
