# SPDX-License-Identifier: Apache-2.0
"""Facts in short, one screen for any network; `terminal` has them in full.

The verdict comes first. What is alike is said once, with its number.
"""

from __future__ import annotations

import collections

from bnexport.batchnorm.health import OK
from bnexport.proof.verdict import DIFFERS, PROVEN
from bnexport.report import grouping, sentences, terminal
from bnexport.report.escaping import escaped
from bnexport.report.layout import (
  BAD,
  DOUBTFUL,
  GOOD,
  WIDTH,
  Line,
  Section,
  fitted,
  more,
  size_of,
  table,
  wrapped,
)

# Groups in a section; fewer are shown where there is no room.
_MOST = 8
_MOST_STEPS = 10
_MOST_ENDS = 4
_MOST_OPS = 8
_MOST_OF_ONE_FIX = 4
_STYLES = {"error": BAD, "warning": DOUBTFUL, "note": ""}


def export(said, width=WIDTH):
  """The report of an export as Lines; see `facts.export_facts`."""
  said = escaped(said, is_cut=True)
  proof = said["proof"]
  size = "" if said["size"] is None else f"{size_of(said['size'])}, "
  contents = f"{said['nodes']:,} nodes, {said['parameters']:,} parameters"
  head = _verdict(proof, width)
  head += _wrote(said["file"], size + contents, width)
  head += _ends("input", said["inputs"], width)
  head += _ends("output", said["output_ends"], width)
  sections = [
    _norms(said["batch_norms"], width),
    steps(said["steps"], width),
    _prose("warnings", said["warnings"], width, DOUBTFUL, rank=2),
  ]
  if said["findings"] is not None:
    sections.append(_outcome(said["findings"], width))
  if proof is not None:
    sections.append(_prose("proof", _details(proof), width))
  return fitted(head, sections)


def _wrote(path, contents, width):
  """The file, whose path stays whole so that it can be copied."""
  line = f"wrote {path}: {contents}"
  if len(line) <= width:
    return [Line(line)]
  return [Line(f"wrote {path}:"), *wrapped(contents, width, start="  ")]


def _verdict(proof, width):
  """The verdict, and how far off the graph is."""
  if proof is None:
    said = "WRITTEN; a proof was not looked for: --novalidate"
    return wrapped(said, width, style=DOUBTFUL)
  verdict, style = proof["verdict"], DOUBTFUL
  if verdict == PROVEN:
    style, says = GOOD, _how_far(proof["outputs"])
  elif verdict == DIFFERS:
    style, says = BAD, "; ".join(_against(proof))
  else:
    says = proof["not_proven_because"] or "it was not run"
  return wrapped(f"{verdict}: {says}", width, style=style)


def _how_far(outputs):
  """The largest difference, as a part of what is allowed."""
  worst = max(outputs, key=sentences.share)
  of_all = f", the worst of {len(outputs)}," if outputs[1:] else ""
  return (
    f"'{worst['name']}'{of_all} is {worst['largest_difference']:.2g} off, "
    f"where {worst['limit']:.2g} is allowed"
  )


def _against(proof):
  """All that a right graph would not do."""
  apart = [one for one in proof["outputs"] if not one["holds"]]
  if apart:
    yield _how_far(apart)
  for holds, line in sentences.reruns(proof):
    if not holds:
      yield line
  if proof["fixed_point"] is not None and not proof["fixed_point"]["holds"]:
    yield "it is not what the fixed point of the training graph's updates is"


def _details(proof, after_outputs=()):
  """The lines of a proof that its verdict does not say."""
  outputs = sorted(
    proof["outputs"], key=lambda d: (d["holds"], -sentences.share(d))
  )
  short = dict(proof, outputs=outputs[:_MOST_ENDS])
  lines = sentences.proof(short, after_outputs, most_blind=None)[1:]
  left = len(outputs) - _MOST_ENDS
  if left > 0:
    where = lines.index(sentences.difference(outputs[_MOST_ENDS - 1])) + 1
    lines.insert(where, f"and {left} outputs that are less far off")
  return [line for line in lines if line != proof["not_proven_because"]]


def _prose(title, texts, width, style="", rank=0):
  """A Section of texts, those that are alike said once."""
  found = grouping.lines(texts, _MOST)
  return Section(
    title,
    [
      wrapped(line, width - 2, style=_style_of(line) or style)
      for line, _ in found
    ],
    [count for _, count in found],
    rank=rank,
  )


def _style_of(line):
  """What a line of a proof is emphasized by."""
  if "DIFFERENTLY" in line or "<- differs" in line or "FAILS" in line:
    return BAD
  return DOUBTFUL if line.startswith("DOUBTFUL") else ""


def steps(said, width):
  """The Section of what was done, step by step."""
  texts = [(one["transform"], one["text"]) for one in said]
  found = grouping.lines(
    texts, _MOST_STEPS, lambda pair: pair[1], lambda pair: pair[0]
  )
  return Section(
    "changes",
    [wrapped(line, width - 2) for line, _ in found],
    [count for _, count in found],
  )


def _ends(what, said, width):
  """Inputs or outputs below each other."""
  groups = grouping.groups(said, _MOST_ENDS, lambda end: end["name"], _kind_of)
  rows = [
    (str(group), count_of(group, what), *_kind_of(group.items[0]))
    for group in groups[:_MOST_ENDS]
  ]
  left = sum(len(group.items) for group in groups[_MOST_ENDS:])
  lines = [Line(f"  {what:6}  {line}") for line in table(rows, width - 10)] + [
    Line("  " + line) for line in (more(left) if left else [])
  ]
  return lines


def count_of(group, what):
  """How many a group has, where it has more than one."""
  count = len(group.items)
  return f"{count} {what}s" if count > 1 else ""


def _kind_of(end):
  return end["dtype"] or "?", end["shape"]


# Batch norms.


def _norms(norms, width):
  """The Section of norms, doubtful ones first."""
  groups = grouping.groups(norms, _MOST, lambda norm: norm["name"], _norm_kind)
  groups.sort(key=lambda group: _is_well(group.items[0]))
  rows = [
    (
      str(group),
      count_of(group, "norm"),
      *filter(None, (one["form"], one["statistics"])),
      _channels(group.items),
      # The rest of it says how that is told.
      (one["health"] or "").partition(":")[0],
    )
    for group in groups
    for one in group.items[:1]
  ]
  styles = ["" if _is_well(group.items[0]) else DOUBTFUL for group in groups]
  return Section(
    f"batch norms: {len(norms)}",
    [[line] for line in table(rows, width - 2, styles)],
    [len(group.items) for group in groups],
    rank=1,
  )


def _norm_kind(norm):
  return norm["form"], norm["statistics"], norm["health"]


def _is_well(norm):
  return norm["health"] in (None, OK)


def _channels(norms):
  """The channels of norms of an examination, or nothing."""
  known = [norm["channels"] for norm in norms if norm.get("channels")]
  if not known:
    return ""
  least, most = min(known), max(known)
  return f"{least if least == most else f'{least} to {most}'} channels"


# A graph that is inspected.


def examination(said, width=WIDTH):
  """The overview of a graph and its findings; see `terminal.examination`."""
  said = escaped(said, is_cut=True)
  head = [
    Line(line)
    for text in (terminal.title(said), terminal.counts(said))
    for line in wrapped(text, width)
  ]
  variables = said["variables"]
  sections = [
    _listed("likely inputs", said["inputs"], terminal.input_cells, width),
    _listed("likely outputs", said["outputs"], terminal.output_cells, width),
    _norms(said["batch_norms"], width),
    _variables(variables, width),
    _ops(said["ops"], width),
    _findings(said["findings"], width),
  ]
  return fitted(head, sections)


def _listed(title, ends, cells, width):
  rows = table(map(cells, ends), width - 2)
  return Section(title, [[row] for row in rows], most=_MOST_ENDS)


def _variables(variables, width):
  """The Section of variables, those that the checkpoint lacks first."""

  def is_absent(variable):
    return variable["in_checkpoint"] is False

  groups = grouping.groups(
    variables,
    _MOST_ENDS,
    lambda variable: variable["name"],
    lambda variable: (is_absent(variable), variable["dtype"]),
  )
  groups.sort(key=lambda group: not is_absent(group.items[0]))
  rows, styles = [], []
  for group in groups:
    *cells, absent = terminal.variable_cells(group.items[0])
    if group.items[1:]:
      cells = [str(group), cells[1], count_of(group, "variable")]
    rows.append((*cells, absent))
    styles.append(BAD if absent else "")
  return Section(
    f"variables: {len(variables)}",
    [[line] for line in table(rows, width - 2, styles)],
    [len(group.items) for group in groups],
    rank=-1,
  )


def _ops(ops, width):
  """The Section of the most frequent ops, in one paragraph."""
  shown = [f"{count} {op}" for op, count in list(ops.items())[:_MOST_OPS]]
  if len(ops) > len(shown):
    shown.append(f"and {len(ops) - len(shown)} other kinds")
  entries = [wrapped(", ".join(shown), width - 2)] if ops else []
  return Section(f"ops: {len(ops)} kinds", entries, rank=-1)


def _findings(found, width):
  """The Section of findings, each command below all that it mends."""
  if not found:
    return Section("findings: none", [[]])
  entries, counts = _by_fix(found, width)
  explain = f"explained by --explain={min(one['code'] for one in found)}"
  title = f"findings: {len(found)}; {explain}"
  return Section(title, entries, counts, rank=2)


def _outcome(said, width):
  """The Section of findings that a repair cleared and left."""
  title, _ = sentences.outcome(said)
  cleared = grouping.lines(
    [f"cleared {one['code']} '{one['node']}'" for one in said["cleared"]],
    _MOST,
  )
  entries, counts = _by_fix(said["left"], width, "left ")
  return Section(
    title,
    [wrapped(line, width - 2) for line, _ in cleared] + entries,
    [count for _, count in cleared] + counts,
  )


def _by_fix(found, width, start=""):
  """Entries of findings that one command mends each, the worst first.

  Returns:
    Lists of lines, and how many findings each is about.
  """
  by_fix = collections.OrderedDict()
  for one in sorted(
    found, key=lambda one: terminal.SEVERITIES.index(one["severity"])
  ):
    by_fix.setdefault(one["fix"], []).append(one)
  entries = [_mended(fix, ones, width, start) for fix, ones in by_fix.items()]
  return entries, list(map(len, by_fix.values()))


def _mended(fix, found, width, start):
  """Lines of findings that one command mends, and the command."""
  said = grouping.lines(
    found,
    _MOST_OF_ONE_FIX,
    lambda one: (
      f"{one['code']} {one['severity']} '{one['node']}' {one['message']}"
    ),
  )
  lines = [
    line
    for text, _ in said[:_MOST_OF_ONE_FIX]
    for line in wrapped(
      start + text, width - 2, style=_STYLES[text.split(" ", 2)[1]]
    )
  ]
  left = sum(count for _, count in said[_MOST_OF_ONE_FIX:])
  if left:
    lines += more(left)
  return lines + wrapped(fix, width - 2, start="    ")


# A graph that is validated.


def validation(said, width=WIDTH):
  """The verdict on a graph; see `facts.validation_facts`."""
  said = escaped(said, is_cut=True)
  if said["not_imported"] is not None:
    return wrapped(
      f"DIFFERS: TensorFlow does not import it: {said['not_imported']}",
      width,
      style=BAD,
    ) + wrapped(
      f"{said['graph']}; python -m bnexport.inspect says what is wrong with "
      "it, python -m bnexport.repair mends it",
      width,
    )
  proof = said["proof"]
  head = _verdict(proof, width) + wrapped(
    f"{said['graph']}: {said['nodes']:,} nodes, imported again", width
  )
  note = ""
  if said["outputs_are_guessed"]:
    note = " (an end of it; --output_node names others)"
  for group in grouping.groups(said["outputs"], _MOST_ENDS):
    count = count_of(group, "output")
    said_of = f"{group} {count}".strip() + note
    head += wrapped(said_of, width, start="  output  ")
  parted = sentences.first_difference(
    said["first_difference"], said["batch_norms"]
  )
  top_1 = [terminal.top_1(one) for one in said["top_1"]]
  looked = terminal.distances(said["statistics_of_data"])
  for one in said["consumers"]:
    looked += terminal.consumer(one)
  return fitted(
    head,
    [
      _norms([dict(norm, health=None) for norm in said["batch_norms"]], width),
      _prose("proof", _details(proof, parted + top_1), width),
      _prose("looked at as well", looked, width),
    ],
  )


# A graph that is transformed.


def transformation(said, width=WIDTH):
  """The file that transforms wrote, and what each of them did."""
  said = escaped(said, is_cut=True)
  head = _wrote(said["file"], terminal.made_of(said), width)
  head += _ends("input", said["inputs"], width)
  head += _ends("output", said["output_ends"], width)
  return fitted(head, [steps(said["steps"], width)])
