# SPDX-License-Identifier: Apache-2.0
"""An overview for people: aligned, and no longer than a screen or two."""

from __future__ import annotations

_MOST_OPS = 12
_MOST_VARIABLES = 15
_MOST_NORMS = 60


def text(said):
  """The overview as lines for a terminal.

  Args:
    said: what `overview.overview` returned.
  """
  lines = [_title(said), _counts(said)]
  lines += _section("likely inputs", _table(map(_input, said["inputs"])))
  lines += _section("likely outputs", _table(map(_output, said["outputs"])))
  lines += _section(
    f"batch norms: {len(said['batch_norms'])}", _norms(said["batch_norms"])
  )
  lines += _section(
    f"variables: {len(said['variables'])}", _variables(said["variables"])
  )
  lines += _section("ops", _ops(said["ops"]))
  return "\n".join(lines)


def _title(said):
  title = said["kind"]
  if said["file"]:
    title = f"{said['file']}: {title}"
  if said["size"] is not None:
    title += f", {_bytes(said['size'])}"
  return title


def _counts(said):
  parts = [
    "{:,} nodes".format(said["nodes"]),
    "{:,} parameters".format(said["parameters"]),
  ]
  if said["functions"]:
    parts.append(f"{said['functions']} functions")
  if said["control_flow"]:
    parts.append(
      "control flow (%s)"
      % ", ".join(f"{n} {op}" for op, n in said["control_flow"].items())
    )
  parts.append(f"written for GraphDef version {said['producer']}")
  return ", ".join(parts)


def _bytes(count):
  units = ["GB", "MB", "KB", "bytes"]
  while count >= 1000 and len(units) > 1:
    count /= 1000.0
    units.pop()
  return f"{count:.3g} {units[-1]}"


def _section(title, lines):
  lines = list(lines)
  return ["", title] + ["  " + line for line in lines] if lines else []


def _table(rows):
  """Rows of cells as lines whose columns stand below each other."""
  rows = [[str(cell) for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*rows)]
  return [
    "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    for row in rows
  ]


def _cut(lines, most):
  lines = list(lines)
  if len(lines) <= most + 1:
    return lines
  return lines[:most] + [f"and {len(lines) - most} more"]


def _shape(shape):
  if shape is None:
    return "unknown shape"
  return "[%s]" % ", ".join("?" if s is None else str(s) for s in shape)


def _input(entry):
  note = "setting" if entry["role"] == "setting" else ""
  return entry["name"], entry["dtype"] or "?", _shape(entry["shape"]), note


def _output(entry):
  return (
    entry["name"],
    entry["op"],
    entry["dtype"] or "?",
    _shape(entry["shape"]),
  )


def _norms(norms):
  rows = [
    (
      norm["name"],
      norm["form"],
      norm["statistics"],
      f"epsilon {norm['epsilon']:.3g}",
      f"{norm['channels'] or '?'} channels",
      norm["health"] or "",
    )
    for norm in norms
  ]
  return _cut(_table(rows), _MOST_NORMS)


def _variables(variables):
  rows = [
    (
      variable["name"],
      variable["dtype"],
      _shape(variable["shape"]),
      "NOT IN THE CHECKPOINT" if variable["in_checkpoint"] is False else "",
    )
    for variable in variables
  ]
  return _cut(_table(rows), _MOST_VARIABLES)


def _ops(histogram):
  rows = [(n, op) for op, n in histogram.items()]
  return _cut(_table(rows), _MOST_OPS)


def findings(found):
  """Findings as lines for a terminal, worst first.

  Args:
    found: Findings; see `checks`.
  """
  if not found:
    return "findings: none"
  lines = [f"findings: {len(found)}"]
  order = ("error", "warning", "note")
  for finding in sorted(found, key=lambda f: order.index(f.severity)):
    lines += [
      f"  {finding.code} {finding.severity} '{finding.node}' {finding.message}",
      f"      {finding.fix}",
    ]
  codes = sorted({finding.code for finding in found})
  lines.append(f"explained by --explain={codes[0]}")
  return "\n".join(lines)
