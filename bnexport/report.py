"""What was done and what was proven, as text, JSON and Markdown."""

from __future__ import annotations

import json
import os

from bnexport.errors import SourceError
from bnexport.nodes import element_count
from bnexport.tf1 import tf1


def facts(export, proof, path):
  """Everything a report says, as one object of plain values."""
  graph = export.model.graph
  return {
    "file": path,
    "nodes": len(graph),
    "parameters": sum(
      element_count(node.attr["value"].tensor)
      for node in graph
      if node.op == "Const"
    ),
    "source": export.model.origin,
    "inputs": [_end(graph.node(name)) for name in export.model.placeholders()],
    "outputs": [str(ref) for ref in export.model.outputs],
    "batch_norms": [_norm(export, norm) for norm in export.norms],
    "changes": list(export.model.history),
    "warnings": list(export.model.warnings),
    "proof": _proof(proof),
  }


def _end(node):
  shape = "unknown shape"
  if "shape" in node.attr and not node.attr["shape"].shape.unknown_rank:
    shape = "[%s]" % ", ".join(
      "?" if dim.size < 0 else str(dim.size)
      for dim in node.attr["shape"].shape.dim
    )
  return {
    "name": node.name,
    "shape": shape,
    "dtype": tf1.as_dtype(node.attr["dtype"].type).name,
  }


def _norm(export, norm):
  return {
    "name": norm.name,
    "form": norm.form,
    "statistics": norm.statistics,
    "epsilon": norm.epsilon,
    "moving_mean": norm.moving_mean,
    "moving_variance": norm.moving_variance,
    "health": export.health.get(norm.name),
  }


def _proof(proof):
  if proof is None:
    return None
  return {
    "holds": proof.holds,
    "compared_with": proof.reference,
    "fed": {name: list(shape) for name, shape in proof.feeds.items()},
    "outputs": [
      {
        "name": d.output,
        "largest_difference": d.largest,
        "limit": d.limit,
        "holds": d.holds,
      }
      for d in proof.differences
    ],
    "one_row_answers_alone": proof.batch,
    "second_run_answers_the_same": proof.repeats,
    "notes": list(proof.notes),
  }


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
    "holds" if proof["holds"] else "DOES NOT HOLD",
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


def markdown(export, proof, path):
  """The report as Markdown."""
  said = facts(export, proof, path)
  lines = ["# %s" % os.path.basename(path), ""]
  lines += ["- %s" % line for line in proof_lines(said["proof"])]
  lines += [
    "",
    "| norm | form | statistics | mean | variance | epsilon | health |",
    "|---|---|---|---|---|---|---|",
  ]
  for norm in said["batch_norms"]:
    lines.append(
      "| %s | %s | %s | %s | %s | %.3g | %s |"
      % tuple(
        norm[key]
        for key in (
          "name",
          "form",
          "statistics",
          "moving_mean",
          "moving_variance",
          "epsilon",
          "health",
        )
      )
    )
  for title in ("changes", "warnings"):
    if said[title]:
      lines += ["", "## %s" % title.capitalize(), ""]
      lines += ["- %s" % line for line in said[title]]
  return "\n".join(lines) + "\n"


def _json(export, proof, path):
  return json.dumps(facts(export, proof, path), indent=2) + "\n"


_WRITERS = {".json": _json, ".md": markdown}


def writer(path):
  """The function that makes a report of the file's kind.

  Raises:
    SourceError: the extension is none of .json and .md.
  """
  extension = os.path.splitext(path)[1]
  if extension not in _WRITERS:
    raise SourceError(
      "cannot write report '%s': its kind is told by its "
      "extension; give FILE.json or FILE.md" % path
    )
  return _WRITERS[extension]


def write(path, export, proof, graph_path):
  """Writes the report to a file."""
  from bnexport.freezing.writing import whole_file

  data = writer(path)(export, proof, graph_path)
  with whole_file(path, data.encode("utf-8")):
    pass
