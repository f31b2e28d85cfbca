# SPDX-License-Identifier: Apache-2.0
"""Facts as lines for a terminal: of an export, a graph, a validation."""

from __future__ import annotations

from bnexport.batchnorm.norm import STORED
from bnexport.report import sentences
from bnexport.report.escaping import escaped

# Longer lists are cut. Of norms far from the data the furthest come first.
_MOST_OPS = 12
_MOST_VARIABLES = 15
_MOST_NORMS = 60
_MOST_DISTANCES = 5

_SEVERITIES = ("error", "warning", "note")


def _section(title, lines):
  """A heading and indented lines; nothing where there are no lines."""
  lines = list(lines)
  return ["", title] + ["  " + line for line in lines] if lines else []


def _columns(rows):
  """Rows of cells as lines whose columns stand below each other."""
  rows = [[str(cell) for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*rows)]
  return [
    "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    for row in rows
  ]


def _abridged(lines, most):
  """The first lines, and how many more there are."""
  if len(lines) <= most + 1:
    return lines
  return lines[:most] + [f"and {len(lines) - most} more"]


# An export.


def export(said):
  """The report of an export; see `facts.export_facts`."""
  said = escaped(said, is_cut=True)
  norms = said["batch_norms"]
  lines = [
    f"wrote {said['file']}: {said['nodes']} nodes, {said['parameters']:,} "
    "parameters"
  ]
  for end in said["inputs"]:
    lines.append(f"  input   {end['name']}  {end['dtype']} {end['shape']}")
  lines += [f"  output  {name}" for name in said["outputs"]]
  lines += _section("changes", said["changes"])
  lines += _section(f"batch norms: {len(norms)}", map(_exported_norm, norms))
  lines += _section("warnings", said["warnings"])
  if said["findings"] is not None:
    lines += _section(*sentences.outcome(said["findings"]))
  lines += _section("proof", sentences.proof(said["proof"]))
  return "\n".join(lines)


def _exported_norm(norm):
  name, epsilon = f"{norm['name']} ({norm['form']})", f"{norm['epsilon']:.3g}"
  if norm["statistics"] != STORED:
    return f"{name}: {norm['statistics']} statistics, epsilon {epsilon}"
  return (
    f"{name}: '{norm['moving_mean']}' and '{norm['moving_variance']}', epsilon "
    f"{epsilon}, {norm['health']}"
  )


# A graph that is inspected.


def examination(said):
  """The overview of a graph, and the findings about it.

  Args:
    said: what `overview.overview` returned, with plain "findings".
  """
  findings = escaped(said["findings"], is_cut=True)
  return overview(said) + "\n\n" + _findings(findings)


def overview(said):
  """The contents of a graph, in a screen or two; see `overview.overview`."""
  said = escaped(said, is_cut=True)
  norms, variables = said["batch_norms"], said["variables"]
  lines = [_title(said), _counts(said)]
  lines += _section("likely inputs", _columns(map(_input, said["inputs"])))
  lines += _section("likely outputs", _columns(map(_output, said["outputs"])))
  lines += _section(
    f"batch norms: {len(norms)}",
    _abridged(_columns(map(_norm, norms)), _MOST_NORMS),
  )
  lines += _section(
    f"variables: {len(variables)}",
    _abridged(_columns(map(_variable, variables)), _MOST_VARIABLES),
  )
  ops = [(count, op) for op, count in said["ops"].items()]
  lines += _section("ops", _abridged(_columns(ops), _MOST_OPS))
  return "\n".join(lines)


def _title(said):
  title = said["kind"]
  if said["file"]:
    title = f"{said['file']}: {title}"
  if said["size"] is not None:
    title += f", {_bytes(said['size'])}"
  return title


def _bytes(count):
  units = ["GB", "MB", "KB", "bytes"]
  while count >= 1000 and len(units) > 1:
    count /= 1000.0
    units.pop()
  return f"{count:.3g} {units[-1]}"


def _counts(said):
  parts = [f"{said['nodes']:,} nodes", f"{said['parameters']:,} parameters"]
  if said["functions"]:
    parts.append(f"{said['functions']} functions")
  if said["control_flow"]:
    ops = [f"{count} {op}" for op, count in said["control_flow"].items()]
    parts.append(f"control flow ({', '.join(ops)})")
  parts.append(f"written for GraphDef version {said['producer']}")
  return ", ".join(parts)


def _shape(shape):
  if shape is None:
    return "unknown shape"
  sizes = ["?" if size is None else str(size) for size in shape]
  return f"[{', '.join(sizes)}]"


def _input(end):
  note = "setting" if end["role"] == "setting" else ""
  return end["name"], end["dtype"] or "?", _shape(end["shape"]), note


def _output(end):
  return end["name"], end["op"], end["dtype"] or "?", _shape(end["shape"])


def _norm(norm):
  return (
    norm["name"],
    norm["form"],
    norm["statistics"],
    f"epsilon {norm['epsilon']:.3g}",
    f"{norm['channels'] or '?'} channels",
    norm["health"] or "",
  )


def _variable(variable):
  absent = variable["in_checkpoint"] is False
  return (
    variable["name"],
    variable["dtype"],
    _shape(variable["shape"]),
    "NOT IN THE CHECKPOINT" if absent else "",
  )


def _findings(found):
  """Findings, worst first."""
  if not found:
    return "findings: none"
  lines = [f"findings: {len(found)}"]
  for one in sorted(found, key=lambda f: _SEVERITIES.index(f["severity"])):
    lines += [
      f"  {one['code']} {one['severity']} '{one['node']}' {one['message']}",
      f"      {one['fix']}",
    ]
  lines.append(f"explained by --explain={min(one['code'] for one in found)}")
  return "\n".join(lines)


# A graph that is validated.


def validation(said):
  """The verdict on a graph; see `facts.validation_facts`."""
  said = escaped(said, is_cut=True)
  if said["not_imported"] is not None:
    return "\n".join(
      [
        said["graph"],
        "  DIFFERS",
        f"  TensorFlow does not import it: {said['not_imported']}",
        "  python -m bnexport.inspect says what is wrong with it, python -m "
        "bnexport.repair mends it",
      ]
    )
  note = ""
  if said["outputs_are_guessed"]:
    note = " (an end of it; --output_node names others)"
  lines = [f"{said['graph']}: {said['nodes']} nodes, imported again"]
  lines += [f"  output  {name}{note}" for name in said["outputs"]]
  lines += _validated_norms(said["batch_norms"])
  found = sentences.proof(
    said["proof"],
    sentences.first_difference(said["first_difference"], said["batch_norms"])
    + [_top_1(one) for one in said["top_1"]],
  )
  found += _distances(said["statistics_of_data"])
  for one in said["consumers"]:
    found += _consumer(one)
  return "\n".join(lines + [""] + ["  " + line for line in found])


def _validated_norms(norms):
  if not norms:
    return []
  line = f"  batch norms: {len(norms)}"
  others = [norm["name"] for norm in norms if norm["statistics"] != STORED]
  if others:
    line += (
      f", of which {len(others)} use the batch's statistics, or choose: "
      f"'{others[0]}'"
    )
  return [line]


def _top_1(one):
  share = 100.0 * one["agree"] / one["rows"]
  return (
    f"top-1 of {one['output']}: the same in {one['agree']} of {one['rows']} "
    f"rows ({share:.4g}%)"
  )


def _distances(distances):
  if not distances:
    return []
  far = [one for one in distances if one["is_far"]]
  if far:
    title = (
      f"DOUBTFUL: stored statistics of {len(far)} of {len(distances)} norms "
      "are far from the data's; the data may be another's, or prepared in "
      "another way than in training"
    )
  else:
    title = f"stored statistics of {len(distances)} norms are near the data's"
  lines = [_distance(one) for one in (far or distances)[:_MOST_DISTANCES]]
  if len(far) > len(lines):
    lines.append(f"and {len(far) - len(lines)} more")
  return [title] + ["  " + line for line in lines]


def _distance(one):
  return (
    f"norm '{one['norm']}': means {one['shift']:.2g} standard deviations off "
    f"(at most {one['largest_shift']:.2g}), variances {one['ratio']:.2g} times "
    f"the stored (at most {one['extreme_ratio']:.2g})"
  )


def _consumer(one):
  if one["fault"] is not None:
    return [f"{one['version']}: FAILS: it {one['fault']}"]
  answers = "answers as TensorFlow" if one["holds"] else "answers DIFFERENTLY"
  return [
    f"{one['version']} loads it and {answers}",
    *map(sentences.difference, one["outputs"]),
  ]
