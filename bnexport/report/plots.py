# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG that takes its colours from the page around it.

Only numbers and words of this module are written, so nothing is to escape.
"""

from __future__ import annotations

import math

import numpy as np

# Dots of one plot; more are thinned, those far from the rest last.
_MOST_DOTS = 160
# Values further apart than this are drawn on a logarithmic axis.
_WIDE = 50
# A scatter plot: its side, and the room for numbers left and below.
_SIDE, _LEFT, _BELOW, _ABOVE = 168, 46, 34, 8
# A plot over the network: its width, and the room for numbers.
_LONG, _HIGH = 900, 120


class _Axis:
  """Values to pixels, linear or logarithmic."""

  def __init__(self, low, high, start, end, is_log=False):
    self.is_log = is_log
    if is_log:
      low, high = math.log10(low), math.log10(high)
    room = 0.06 * (high - low) or abs(0.1 * low) or 0.5
    self.low, self.high = low - room, high + room
    self.start, self.end = start, end

  def __call__(self, values):
    values = np.asarray(values, np.float64)
    if self.is_log:
      values = np.log10(values)
    share = (values - self.low) / (self.high - self.low)
    return self.start + share * (self.end - self.start)

  def ticks(self):
    """Up to four round numbers."""
    if self.is_log:
      low, high = math.ceil(self.low), math.floor(self.high)
      step = max(1, -(-(high - low) // 3))
      powers = [10.0**p for p in range(low, high + 1, step)]
      if len(powers) > 1:
        return powers
      span = [f * 10.0**p for p in range(low - 2, high + 2) for f in (1, 2, 5)]
      found = [v for v in span if self.low <= math.log10(v) <= self.high]
      return found[:: max(1, len(found) // 3)]
    size = 10.0 ** math.floor(math.log10(self.high - self.low))
    for step in (size * f for f in (0.2, 0.5, 1, 2, 5)):
      first, last = math.ceil(self.low / step), math.floor(self.high / step)
      if last - first < 4:
        return [i * step for i in range(first, last + 1)]
    return []


def _number(value):
  return f"{value:.3g}"


def _text(x, y, text, anchor="middle", more=""):
  return (
    f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{more}>{text}</text>'
  )


def _dots(x, y, kind):
  """Dots as strokes without length, in one path."""
  places = dict.fromkeys(zip(np.rint(x).astype(int), np.rint(y).astype(int)))
  moves = "".join(f"M{a} {b}h0" for a, b in places)
  return f'<path class="dots {kind}" d="{moves}"/>'


def _svg(label, width, height, parts):
  return (
    f'<svg class="plot" role="img" aria-label="{label}" '
    f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    + "".join(parts)
    + "</svg>"
  )


# One norm.


def statistics_plot(one):
  """SVG of one NormStatistics: its mean, and its variance.

  Where statistics before are known, a dot stands for each channel, right of
  the others where its stored value is larger and above them where the one
  before is; on the diagonal both are equal. Elsewhere the stored values are
  sorted from left to right.
  """
  drawn = []
  for what, stored, before in (
    ("mean", one.mean, one.mean_before),
    ("variance", one.variance, one.variance_before),
  ):
    draw = _sorted if before is None else _scatter
    drawn.append(draw(what, stored, before))
  return "".join(drawn)


def _scatter(what, stored, before):
  kept = np.isfinite(stored) & np.isfinite(before)
  stored, before = stored[kept], before[kept]
  label = f"{what}: {len(stored)} channels, stored against before"
  width, height = _LEFT + _SIDE + 8, _ABOVE + _SIDE + _BELOW
  if not len(stored):
    return _svg(label, width, height, [_nothing(width, height)])
  both = np.concatenate([stored, before])
  low, high = both.min(), both.max()
  is_log = bool(what == "variance" and 0 < low * _WIDE < high)
  across = _Axis(low, high, _LEFT, _LEFT + _SIDE, is_log)
  up = _Axis(low, high, _ABOVE + _SIDE, _ABOVE, is_log)
  few = _thinned(across(stored), up(before))
  parts = [
    _frame(_LEFT, _ABOVE, _SIDE, _SIDE),
    f'<path class="rule" d="M{_LEFT} {_ABOVE + _SIDE}l{_SIDE} -{_SIDE}"/>',
    *_numbers(across, up),
    _dots(few[0], few[1], "before"),
    _text(_LEFT + _SIDE / 2, height - 4, f"stored {what}"),
    _upright(11, _ABOVE + _SIDE / 2, f"{what} before"),
  ]
  return _svg(label, width, height, parts)


def _sorted(what, stored, before):
  kept = np.sort(stored[np.isfinite(stored)])
  label = f"{what}: {len(kept)} channels, sorted"
  width, height = _LEFT + _SIDE + 8, _ABOVE + _SIDE + _BELOW
  if not len(kept):
    return _svg(label, width, height, [_nothing(width, height)])
  is_log = bool(what == "variance" and 0 < kept[0] * _WIDE < kept[-1])
  up = _Axis(kept[0], kept[-1], _ABOVE + _SIDE, _ABOVE, is_log)
  few = kept[np.unique(np.linspace(0, len(kept) - 1, 120).astype(int))]
  x = np.linspace(_LEFT + 4, _LEFT + _SIDE - 4, len(few))
  parts = [
    _frame(_LEFT, _ABOVE, _SIDE, _SIDE),
    *_numbers(None, up),
    _dots(x, up(few), "after"),
    _text(_LEFT + _SIDE / 2, height - 4, "channels, sorted"),
    _upright(11, _ABOVE + _SIDE / 2, f"stored {what}"),
  ]
  return _svg(label, width, height, parts)


def _thinned(x, y):
  """At most so many dots: those furthest from the diagonal, and some others."""
  if len(x) <= _MOST_DOTS:
    return x, y
  away = np.argsort(-np.abs((x - _LEFT) + (y - _ABOVE - _SIDE)), kind="stable")
  half = _MOST_DOTS // 2
  rest = away[half:]
  some = rest[np.linspace(0, len(rest) - 1, half).astype(int)]
  kept = np.concatenate([away[:half], some])
  return x[kept], y[kept]


def _frame(x, y, width, height):
  return f'<path class="frame" d="M{x} {y}v{height}h{width}"/>'


def _upright(x, y, text):
  turned = f' transform="rotate(-90 {x:.0f} {y:.0f})"'
  return _text(x, y, text, more=turned)


def _nothing(width, height):
  return _text(width / 2, height / 2, "no finite values")


def _numbers(across, up):
  """The numbers of both axes of a scatter plot."""
  bottom = _ABOVE + _SIDE
  for value in across.ticks() if across else ():
    yield _text(float(across(value)), bottom + 14, _number(value))
  for value in up.ticks():
    yield _text(_LEFT - 5, float(up(value)) + 4, _number(value), "end")


# The whole network.


def norms_plot(distances):
  """SVG of how far norms' statistics of the batch are from the stored ones.

  Args:
    distances: the facts of each norm in order of data flow, with `shift`,
      `ratio` and whether it `is_marked`; None where nothing is known.
  """
  x = np.linspace(_LEFT + 8, _LONG - 10, max(len(distances), 2))
  drawn = []
  for key, words, equal in (
    ("shift", "means apart, in standard deviations", 0.0),
    ("ratio", "variance of the batch / stored variance", 1.0),
  ):
    known = [
      (place, one[key], one["is_marked"])
      for place, one in zip(x, distances)
      if one is not None and math.isfinite(one[key])
    ]
    if known:
      drawn.append(_strip(known, words, equal, key == "ratio"))
  return "".join(drawn)


def _strip(known, words, equal, is_ratio):
  values = np.array([value for _, value, _ in known])
  is_log = bool(is_ratio and values.min() > 0)
  reach = np.append(values, [equal, 2 * equal or 0.5, equal / 2])
  bottom = _HIGH - 22
  up = _Axis(reach.min(), reach.max(), bottom, 22, is_log)
  level = float(up(equal))
  parts = [
    _frame(_LEFT, 22, _LONG - _LEFT, bottom - 22),
    f'<path class="rule" d="M{_LEFT} {level:.0f}H{_LONG}"/>',
    *(
      _text(_LEFT - 5, float(up(v)) + 4, _number(v), "end") for v in up.ticks()
    ),
    _text(_LEFT, 12, words, "start"),
    _text(_LEFT, _HIGH - 6, "first norm", "start"),
    _text(_LONG, _HIGH - 6, "last", "end"),
  ]
  for kind, is_marked in (("after", False), ("doubt", True)):
    few = [(p, v) for p, v, marked in known if marked == is_marked]
    if few:
      few = _evenly(few)
      parts.append(_dots([p for p, _ in few], up([v for _, v in few]), kind))
  return _svg(f"{words}, norm by norm", _LONG, _HIGH, parts)


def _evenly(items, most=600):
  """At most so many of some items, the first and the last among them."""
  if len(items) <= most:
    return items
  return [items[i] for i in np.linspace(0, len(items) - 1, most).astype(int)]


def walks_plot(layers, training):
  """SVG of two walks over tensors: differences relative to their limits.

  The walk against the reference is a line, that against training dots.
  """
  top, bottom, high = 26, 160, 182
  ratios = {
    name: [_ratio(one) for one in walk["tensors"]]
    for name, walk in (("training", training), ("layers", layers))
  }
  shown = ratios["training"] + ratios["layers"]
  up = _Axis(min(shown) / 2, max(max(shown), 1) * 2, bottom, top, is_log=True)
  limit = float(up(1))
  parts = [
    _frame(_LEFT, top, _LONG - _LEFT, bottom - top),
    *(
      _text(_LEFT - 5, float(up(v)) + 4, _number(v), "end") for v in up.ticks()
    ),
    _text(_LEFT, 14, "largest difference / limit of rounding", "start"),
    f'<path class="rule" d="M{_LEFT} {limit:.0f}H{_LONG}"/>',
    _text(_LEFT, high - 6, "input", "start"),
    _text(_LONG, high - 6, "output", "end"),
  ]
  for name, kind in (("training", "before"), ("layers", "after")):
    x = np.linspace(_LEFT + 4, _LONG - 4, max(len(ratios[name]), 2))
    points = _evenly(list(zip(x, ratios[name])))
    if points:
      y = up([ratio for _, ratio in points])
      parts.append(_dots([place for place, _ in points], y, kind))
      if name == "layers":
        line = "L".join(f"{p:.0f} {b:.0f}" for (p, _), b in zip(points, y))
        parts.append(f'<path class="line after" d="M{line}"/>')
  return _svg("differences from the input to the output", _LONG, high, parts)


def _ratio(difference):
  """Difference / limit, cut to 1e-4 and 1e6."""
  if not difference["largest_difference"]:
    return 1e-4
  if not difference["limit"]:
    return 1e6
  ratio = difference["largest_difference"] / difference["limit"]
  # A maximum with NaN first is NaN.
  return float(min(max(1e-4, ratio), 1e6)) if ratio == ratio else 1e6
