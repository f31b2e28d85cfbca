"""The report as lines for a terminal."""

from __future__ import annotations

from bnexport.report.facts import facts


def text(export, proof, path):
  """The report for a terminal."""
  said = facts(export, proof, path)
  lines = [
    "wrote %s: %d nodes, %s parameters"
    % (path, said["nodes"], "{:,}".format(said["parameters"]))
  ]
  for end in said["inputs"]:
    lines.append(
      "  input   %s  %s %s" % (end["name"], end["dtype"], end["shape"])
    )
  lines += ["  output  %s" % name for name in said["outputs"]]
  lines += _section("changes", said["changes"])
  lines += _section(
    "batch norms: %d" % len(said["batch_norms"]),
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
    return "%s (%s): '%s' and '%s', epsilon %.3g, %s" % (
      norm["name"],
      norm["form"],
      norm["moving_mean"],
      norm["moving_variance"],
      norm["epsilon"],
      norm["health"],
    )
  return "%s (%s): %s statistics, epsilon %.3g" % (
    norm["name"],
    norm["form"],
    norm["statistics"],
    norm["epsilon"],
  )


def proof_lines(proof):
  """The proof of the facts as lines."""
  if proof is None:
    return ["not looked for: --novalidate"]
  lines = [
    _verdict(proof),
    "compared with %s" % proof["compared_with"],
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
