# SPDX-License-Identifier: Apache-2.0
"""The report as lines for a terminal."""

from __future__ import annotations

from bnexport.report.facts import facts


def text(export, proof, path):
  """The report for a terminal."""
  said = facts(export, proof, path)
  lines = [
    f"wrote {path}: {said['nodes']} nodes, "
    f"{'{:,}'.format(said['parameters'])} parameters"
  ]
  for end in said["inputs"]:
    lines.append(f"  input   {end['name']}  {end['dtype']} {end['shape']}")
  lines += [f"  output  {name}" for name in said["outputs"]]
  lines += _section("changes", said["changes"])
  lines += _section(
    f"batch norms: {len(said['batch_norms'])}",
    map(norm_line, said["batch_norms"]),
  )
  lines += _section("warnings", said["warnings"])
  lines += _section("proof", proof_lines(said["proof"]))
  return "\n".join(lines)


def _section(title, lines):
  lines = list(lines)
  return ["", title] + ["  " + line for line in lines] if lines else []


def norm_line(norm):
  """One norm of the facts as a line."""
  if norm["statistics"] == "stored":
    return (
      f"{norm['name']} ({norm['form']}): '{norm['moving_mean']}' and "
      f"'{norm['moving_variance']}', epsilon {norm['epsilon']:.3g}, "
      f"{norm['health']}"
    )
  return (
    f"{norm['name']} ({norm['form']}): {norm['statistics']} statistics, "
    f"epsilon {norm['epsilon']:.3g}"
  )


def proof_lines(proof):
  """The proof of the facts as lines."""
  if proof is None:
    return ["not looked for: --novalidate"]
  lines = [
    _verdict(proof),
    f"compared with {proof['compared_with']}",
  ]
  lines += [
    "  %s: largest difference %.2g, limit %.2g%s"
    % (
      d["name"],
      d["largest_difference"],
      d["limit"],
      "" if d["holds"] else "  <- differs",
    )
    for d in proof["outputs"]
  ]
  for key, yes, no in (
    (
      "one_row_answers_alone",
      "one row alone answers as within its batch",
      "one row alone answers DIFFERENTLY than within its batch",
    ),
    (
      "second_run_answers_the_same",
      "a second run answers the same",
      "a second run answers DIFFERENTLY",
    ),
  ):
    if proof[key] is not None:
      lines.append(yes if proof[key] else no)
  if proof["fed"]:
    lines.append(
      "fed: " + ", ".join("%s %s" % item for item in proof["fed"].items())
    )
  return lines + proof["notes"]


def _verdict(proof):
  if not proof["run"]:
    return "NOT PROVEN"
  return "holds" if proof["holds"] else "DOES NOT HOLD"
