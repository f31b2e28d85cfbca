# SPDX-License-Identifier: Apache-2.0
"""Facts in full as lines of text: of an export, a graph, a validation.

`screen` has them in short.
"""

from __future__ import annotations

from bnexport.batchnorm.norm import STORED
from bnexport.report import sentences
from bnexport.report.escaping import escaped
from bnexport.report.layout import columns, shape_of, size_of

SEVERITIES = ("error", "warning", "note")


def _section(title, lines):
  """A heading and indented lines; nothing where there are no lines."""
  lines = list(lines)
  return ["", title] + ["  " + line for line in lines] if lines else []


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
  proof = sentences.proof(said["proof"], most_blind=None)
  lines += _section("proof", proof)
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
  """The contents of a graph; see `overview.overview`."""
  said = escaped(said, is_cut=True)
  norms, variables = said["batch_norms"], said["variables"]
  lines = [title(said), counts(said)]
  lines += _section("likely inputs", columns(map(input_cells, said["inputs"])))
  lines += _section(
    "likely outputs", columns(map(output_cells, said["outputs"]))
  )
  lines += _section(f"batch norms: {len(norms)}", columns(map(_norm, norms)))
  lines += _section(
    f"variables: {len(variables)}", columns(map(variable_cells, variables))
  )
  ops = [(count, op) for op, count in said["ops"].items()]
  lines += _section("ops", columns(ops))
  return "\n".join(lines)


def title(said):
  """The file, its kind and its size."""
  line = said["kind"]
  if said["file"]:
    line = f"{said['file']}: {line}"
  if said["size"] is not None:
    line += f", {size_of(said['size'])}"
  return line


def counts(said):
  """How much there is in a graph."""
  parts = [f"{said['nodes']:,} nodes", f"{said['parameters']:,} parameters"]
  if said["functions"]:
    parts.append(f"{said['functions']} functions")
  if said["control_flow"]:
    ops = [f"{count} {op}" for op, count in said["control_flow"].items()]
    parts.append(f"control flow ({', '.join(ops)})")
  parts.append(f"written for GraphDef version {said['producer']}")
  return ", ".join(parts)


def input_cells(end):
  note = "setting" if end["role"] == "setting" else ""
  return end["name"], end["dtype"] or "?", shape_of(end["shape"]), note


def output_cells(end):
  return end["name"], end["op"], end["dtype"] or "?", shape_of(end["shape"])


def _norm(norm):
  return (
    norm["name"],
    norm["form"],
    norm["statistics"],
    f"epsilon {norm['epsilon']:.3g}",
    f"{norm['channels'] or '?'} channels",
    norm["health"] or "",
  )


def variable_cells(variable):
  absent = variable["in_checkpoint"] is False
  return (
    variable["name"],
    variable["dtype"],
    shape_of(variable["shape"]),
    "NOT IN THE CHECKPOINT" if absent else "",
  )


def _findings(found):
  """Findings, worst first."""
  if not found:
    return "findings: none"
  lines = [f"findings: {len(found)}"]
  for one in sorted(found, key=lambda f: SEVERITIES.index(f["severity"])):
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
    + [top_1(one) for one in said["top_1"]],
    most_blind=None,
  )
  found += distances(said["statistics_of_data"])
  for one in said["consumers"]:
    found += consumer(one)
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


def top_1(one):
  """How often the best class is the reference's."""
  share = 100.0 * one["agree"] / one["rows"]
  return (
    f"top-1 of {one['output']}: the same in {one['agree']} of {one['rows']} "
    f"rows ({share:.4g}%)"
  )


def distances(found):
  """How far the stored statistics are from the data's; the furthest first."""
  if not found:
    return []
  far = [one for one in found if one["is_far"]]
  if far:
    title = (
      f"DOUBTFUL: stored statistics of {len(far)} of {len(found)} norms "
      "are far from the data's; the data may be another's, or prepared in "
      "another way than in training"
    )
  else:
    title = f"stored statistics of {len(found)} norms are near the data's"
  return [title] + ["  " + _distance(one) for one in far or found]


def _distance(one):
  return (
    f"norm '{one['norm']}': means {one['shift']:.2g} standard deviations off "
    f"(at most {one['largest_shift']:.2g}), variances {one['ratio']:.2g} times "
    f"the stored (at most {one['extreme_ratio']:.2g})"
  )


def consumer(one):
  """The verdict of one consumer of frozen graphs."""
  if one["fault"] is not None:
    return [f"{one['version']}: FAILS: it {one['fault']}"]
  answers = "answers as TensorFlow" if one["holds"] else "answers DIFFERENTLY"
  return [
    f"{one['version']} loads it and {answers}",
    *map(sentences.difference, one["outputs"]),
  ]


# A graph that is transformed.


def transformation(said):
  """What transforms did; see `facts.transformation_facts`."""
  said = escaped(said)
  wrote = f"wrote {said['file']}: {made_of(said)}"
  return "\n".join([*(one["text"] for one in said["steps"]), wrote])


def made_of(said):
  """How large a transformed graph is, and was."""
  size = "" if said["size"] is None else f"{size_of(said['size'])}, "
  return f"{size}{said['nodes']:,} nodes, there were {said['nodes_before']:,}"
