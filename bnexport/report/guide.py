# SPDX-License-Identifier: Apache-2.0
"""What anything is that a path leads to, and the commands that it is for.

Nothing is run, and TensorFlow is not imported. A graph is examined as `inspect`
does; what is told here is what to do next.
"""

from __future__ import annotations

import os
import shlex
from typing import Dict, List, Sequence, Tuple

from bnexport.analysis import answer
from bnexport.errors import Error, SourceError
from bnexport.model.prefixes import of_meta_graph
from bnexport.model.request import Request
from bnexport.report import examination
from bnexport.report.escaping import escaped
from bnexport.report.layout import WIDTH, shape_of
from bnexport.report.pasting import Way, cut, heading, lines_of, run
from bnexport.sources import arrays, identity, keras_file
from bnexport.tf1 import tf1

# Lines of one answer, so that it fits a screen.
_MOST_ENDS, _MOST_CODES, _MOST_WAYS, _MOST_FILES = 4, 6, 4, 12

_WHOLE = ("saved_model", "hub_module")

NAMES = {
  identity.GRAPH_DEF: "a GraphDef",
  identity.META_GRAPH: "a training graph",
  identity.CHECKPOINT: "a checkpoint",
  identity.SAVED_MODEL: "a SavedModel",
  identity.HUB_MODULE: "a TF1 Hub module",
  identity.KERAS: "a Keras model",
  identity.KERAS_WEIGHTS: "the weights of a Keras model, without the model",
  identity.MODEL: "Python code",
  identity.TFLITE: "a TFLite model",
  identity.ONNX: "an ONNX model",
  identity.ARRAYS: "NumPy arrays",
  identity.RECORDS: "TFRecords",
  identity.EVENTS: "TensorBoard's events",
}


def guide(path: str) -> str:
  """The lines of an answer, at most 40, of 100 columns where paths allow.

  Raises:
    Error: there is nothing, it is damaged, or no command takes it.
  """
  found = identity.identify(path)
  if found.kind == identity.OTHER:
    raise SourceError(
      f"use '{path}'",
      f"it is {found.fact}",
      "give a graph, a checkpoint, a SavedModel or a Keras file",
    )
  lines, ways = _ANSWERS[found.kind](found)
  return "\n".join([*(cut(line) for line in lines), *lines_of(ways)])


# Graphs.


def _looked(request: Request):
  """The Examination, the lines about it, and the outputs that are likely."""
  looked = examination.look(request)
  said = escaped(looked.seen, is_cut=True)
  only = None
  if looked.subject.graph is not None and request.kind not in _WHOLE:
    only = answer.only_output(looked.subject.flow)
  if only is not None:
    said["outputs"] = [e for e in said["outputs"] if e["name"] == only]
  lines = [f"  {said['nodes']} nodes, {len(said['variables'])} variables"]
  for role in ("inputs", "outputs"):
    ends = said[role]
    for end in ends[:_MOST_ENDS]:
      what = role[:-1] if end.get("role") != "setting" else "setting"
      if role == "outputs" and only is None and request.kind not in _WHOLE:
        what = "likely output"
      kind = f"{end['dtype']} {shape_of(end['shape'])}"
      lines.append(f"  {what:13}  {end['name']}  {kind}")
    if ends[_MOST_ENDS:]:
      lines.append(f"  and {len(ends) - _MOST_ENDS} more {role}")
  lines.append(f"  {_norms(said['batch_norms'])}")
  names = [end["name"] for end in said["outputs"]]
  return looked, lines + _against(looked), names


def _norms(norms: Sequence[Dict]) -> str:
  if not norms:
    return "no batch norms"
  counts: Dict[str, int] = {}
  for norm in norms:
    counts[norm["statistics"]] = counts.get(norm["statistics"], 0) + 1
  told = ", ".join(f"{n} with {what} statistics" for what, n in counts.items())
  return f"{len(norms)} batch norms: {told}"


def _against(looked) -> List[str]:
  found: Dict[Tuple[str, str], int] = {}
  for finding in looked.stand_against:
    key = finding.code, finding.message
    found[key] = found.get(key, 0) + 1
  lines = [
    f"  {code} {message}" + (f", {n} times" if n > 1 else "")
    for (code, message), n in list(found.items())[:_MOST_CODES]
  ]
  if len(found) > _MOST_CODES:
    lines.append(f"  and {len(found) - _MOST_CODES} more findings")
  return lines


def _of_graph_def(found):
  looked, lines, names = _looked(Request("graph_def", found.path))
  title = heading(found.path, f"a {looked.seen['kind']}")
  one = names[0] if names else "NAME"
  look = Way("See all of it", run("inspect", graph_def=found.path))
  if looked.seen["variables"]:
    freeze = run(
      "freeze",
      graph_def=found.path,
      checkpoint=_beside(found.path) or "PREFIX",
      output_node=one,
    )
    return [title, *lines], [
      Way("Freeze it, with its checkpoint", freeze),
      look,
    ]
  if looked.stand_against:
    return [title, *lines], [*_mending(found.path, looked, one), look]
  return [title, *lines], [
    look,
    Way("Run it, and see what loads it", run("validate", graph=found.path)),
    Way(
      "Fold and tidy it",
      run(
        "transform",
        in_graph=found.path,
        out_graph=os.path.splitext(found.path)[0] + ".small.pb",
        outputs=one,
        transforms="strip_unused_nodes fold_constants fold_batch_norms",
      ),
    ),
  ]


def _beside(path: str) -> str:
  """The prefix of the checkpoint in a graph's directory, or nothing."""
  try:
    beside = identity.identify(os.path.dirname(path) or ".")
  except Error:
    return ""
  return beside.path if beside.kind == identity.CHECKPOINT else ""


def _mending(path: str, looked, output: str) -> List[Way]:
  """The commands that clear what stands against a frozen graph."""
  prefix = _beside(path)
  if prefix:
    command = run(
      "repair", graph_def=path, checkpoint=prefix, output_node=output
    )
    return [Way("Mend it, with the checkpoint beside it", command)]
  fixes = dict.fromkeys(
    finding.fix.command() for finding in looked.stand_against if finding.fix
  )
  return [Way("Mend it", command) for command in list(fixes)[:2]]


def _of_meta_graph(found):
  prefix = of_meta_graph(found.path)
  if prefix is not None:
    return _of_checkpoint(identity.Identity(identity.CHECKPOINT, prefix))
  _, lines, names = _looked(Request("meta_graph", found.path))
  return [
    heading(found.path, "a training graph", "its checkpoint is not beside it"),
    *lines,
  ], [
    Way("See all of it", run("inspect", meta_graph=found.path)),
    Way(
      "Freeze it, with its checkpoint",
      run(
        "freeze",
        meta_graph=found.path,
        checkpoint="PREFIX",
        output_node=names[0] if names else "NAME",
      ),
    ),
  ]


def _of_checkpoint(found):
  prefix, several = found.path, len(found.others) + 1
  title = heading(prefix, "a checkpoint")
  if found.others:
    title = heading(prefix, "a checkpoint", f"the latest of {several} there")
  source = _graph_of(prefix)
  if not source:
    keys = _keys(prefix)
    return [title, *keys, "  no training graph is beside it"], [
      Way(
        "Freeze it, with the code that builds its model",
        _rebuilt(checkpoint=prefix) + " --input=NAME:float32:?,224,224,3",
      )
    ]
  ((kind, path),) = source.items()
  _, lines, names = _looked(Request(kind, path, prefix))
  named = {} if kind == "meta_graph" else {kind: path}
  one = names[0] if names else "NAME"
  ways = [
    Way("See all of it", run("inspect", **named, checkpoint=prefix)),
    Way(
      "Freeze and prove it",
      run("freeze", **named, checkpoint=prefix, output_node=one),
    ),
  ]
  if found.others and kind == "meta_graph":
    every = ",".join(sorted((prefix, *found.others)))
    if len(every) > WIDTH // 2:
      every = os.path.join(os.path.dirname(prefix), "*")
    ways.append(
      Way("Freeze all", run("freeze", checkpoint=every, output_node=one))
    )
  return [title, *lines], ways


def _graph_of(prefix: str) -> Dict[str, str]:
  """The graph beside a checkpoint, by its kind of source."""
  if tf1.gfile.Exists(prefix + ".meta"):
    return {"meta_graph": prefix + ".meta"}
  path = os.path.join(os.path.dirname(prefix), "graph.pbtxt")
  return {"graph_def": path} if tf1.gfile.Exists(path) else {}


def _keys(prefix: str) -> List[str]:
  from bnexport.model.checkpoint import Checkpoint

  shapes = Checkpoint(prefix).shapes
  lines = [f"  {len(shapes)} tensors"]
  for key in sorted(shapes)[:_MOST_FILES]:
    lines.append(f"    {key}  {shapes[key]}")
  return lines


def _of_saved(found):
  kind = found.kind
  lines: List[str] = []
  if found.others:
    lines = [f"  the latest of {len(found.others) + 1} versions"]
  title = heading(found.path, NAMES[kind])
  try:
    _, said, _ = _looked(Request(kind, found.path))
  except Error as error:
    if not error.offers:
      raise
    return [title, *lines, f"  {error.fact}"], [
      Way("Freeze one", run("freeze", **{kind: found.path}, **offer.flags))
      for offer in error.offers[:_MOST_WAYS]
    ]
  return [title, *lines, *said], [
    Way("See all of it", run("inspect", **{kind: found.path})),
    Way("Freeze and prove it", run("freeze", **{kind: found.path})),
  ]


# Everything else.


def _rebuilt(model="FILE.py:FUNCTION", checkpoint="PREFIX", **more: str):
  """The command that freezes a model that its code builds."""
  return run(
    "freeze", model=model, checkpoint=checkpoint, **more, output_node="NAME"
  )


def _recomputing(path: str, **more: str) -> Way:
  command = run(
    "repair",
    graph_def="GRAPH.pb",
    output_node="NAME",
    calibration_data=path,
    **more,
  )
  return Way("Compute a graph's lost statistics from them", command)


def _of_keras(found):
  file = keras_file.describe(found.path)
  return [heading(found.path, NAMES[found.kind], f"of Keras {file.version}")], [
    Way("Freeze and prove it", run("freeze", keras=found.path)),
    Way("See all of it", run("inspect", keras=found.path)),
  ]


def _of_weights(found):
  return [heading(found.path, NAMES[found.kind])], [
    Way(
      "Load them where the model's code is, save a checkpoint of it with "
      "tf.compat.v1.train.Saver",
      _rebuilt(),
    )
  ]


def _of_code(found):
  functions = found.others or ("FUNCTION",)
  said = "  its functions that take is_training: " + ", ".join(found.others)
  if not found.others:
    said = "  no function of it takes is_training"
  return [heading(found.path, NAMES[found.kind]), said], [
    Way(
      "Rebuild the model and freeze it with its checkpoint",
      _rebuilt(
        f"{found.path}:{functions[0]}", input="NAME:float32:?,224,224,3"
      ),
    )
  ]


def _of_arrays(found):
  held = arrays.read(found.path, "arrays")
  names = sorted(held)
  lines = [
    f"  {name}  {held[name].dtype} {list(held[name].shape)}"
    for name in names[:_MOST_FILES]
  ]
  if names[_MOST_FILES:]:
    lines.append(f"  and {len(names) - _MOST_FILES} more")
  return [heading(found.path, NAMES[found.kind]), *lines], [
    Way(
      "Prove a graph with them, by the names of its inputs",
      run("validate", graph="GRAPH.pb", feeds=found.path),
    ),
    _recomputing(found.path),
  ]


def _of_records(found):
  return [heading(found.path, NAMES[found.kind])], [
    _recomputing(found.path, calibration_input="FILE.py:FUNCTION")
  ]


def _of_events(found):
  title = heading(found.path, NAMES[found.kind], "no command reads them")
  prefix = _beside(found.path)
  if not prefix:
    return [title], []
  return [title, "  there is a checkpoint beside them"], [
    Way("See that", f"python -m bnexport {shlex.quote(prefix)}")
  ]


def _of_others_format(found):
  return [
    heading(found.path, NAMES[found.kind], "no command reads it"),
    "  It can be made again of the graph that it was made of, once that is "
    "mended and proven.",
  ], [
    Way(
      "Ask what loads a graph, and whether it answers the same",
      run(
        "validate",
        graph="GRAPH.pb",
        consumers="tflite" if found.kind == identity.TFLITE else "onnx",
      ),
    )
  ]


def _of_folder(found):
  lines = []
  for path in found.others:
    try:
      inner = identity.identify(path)
    except Error:
      continue
    if inner.kind in NAMES:
      lines.append(f"  {path}: {NAMES[inner.kind]}")
  if not lines:
    raise SourceError(
      f"use '{found.path}'",
      "it is a directory that holds nothing of a model",
      "give the file or the directory that TensorFlow wrote",
    )
  most = lines[:_MOST_FILES]
  if lines[_MOST_FILES:]:
    most.append(f"  and {len(lines) - _MOST_FILES} more")
  first = next(path for path in found.others if f"  {path}:" in lines[0])
  return [f"{found.path}: a directory, with", *most], [
    Way("See one of them", f"python -m bnexport {shlex.quote(first)}")
  ]


_ANSWERS = {
  identity.GRAPH_DEF: _of_graph_def,
  identity.META_GRAPH: _of_meta_graph,
  identity.CHECKPOINT: _of_checkpoint,
  identity.SAVED_MODEL: _of_saved,
  identity.HUB_MODULE: _of_saved,
  identity.KERAS: _of_keras,
  identity.KERAS_WEIGHTS: _of_weights,
  identity.MODEL: _of_code,
  identity.TFLITE: _of_others_format,
  identity.ONNX: _of_others_format,
  identity.ARRAYS: _of_arrays,
  identity.RECORDS: _of_records,
  identity.EVENTS: _of_events,
  identity.FOLDER: _of_folder,
}
