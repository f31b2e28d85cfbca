# SPDX-License-Identifier: Apache-2.0
"""Flags, exit statuses and progress lines of the commands.

Importing it does not import TensorFlow, so `--help` answers at once.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from absl import app, flags

from bnexport.errors import Error, SourceError, printable

DONE = 0
NOT_PROVEN = 2
REFUSED = 3

# Seconds that an interrupted command takes at most to clear up.
_LONGEST_ENDING = 10.0

CHECKPOINT = flags.DEFINE_string(
  "checkpoint",
  None,
  "Checkpoint to take the variables from: the prefix that Saver.save returned,"
  " or a directory (its latest). freeze takes several, with commas between "
  "them, and patterns such as runs/*/model.ckpt-*.",
)
JOBS = flags.DEFINE_integer(
  "jobs",
  None,
  "How many processes export several checkpoints; default: one for each "
  "processor.",
  lower_bound=1,
)
RESUME = flags.DEFINE_bool(
  "resume",
  False,
  "Leave out checkpoints whose export is done, with the same flags, and which "
  "have not changed since. GRAPH.bnexport.json, written beside each graph of "
  "several, tells it.",
)
RUNNER = flags.DEFINE_string(
  "runner",
  None,
  "Export several checkpoints on this runner of Apache Beam's, such as "
  "DirectRunner, PortableRunner, FlinkRunner or DataflowRunner; "
  "pip install bnexport[beam].",
)
BEAM_OPTIONS = flags.DEFINE_string(
  "beam_options",
  "",
  "Options of --runner, as on a command line: "
  "--beam_options='--direct_num_workers=2'.",
)
SUMMARY = flags.DEFINE_string(
  "summary",
  None,
  "Also write what became of several checkpoints: FILE.json, with counts, the "
  "slowest, and those refused by reason.",
)
OUTPUT_NODE = flags.DEFINE_list(
  "output_node", [], "Nodes or tensors to export; `name:0` is accepted."
)
MODEL = flags.DEFINE_string(
  "model",
  None,
  "Rebuild the model: package.module:function or file.py:function. It is "
  "called with is_training=False in a fresh graph.",
)
MODEL_KWARGS = flags.DEFINE_string(
  "model_kwargs", "{}", "Further arguments of --model, as a JSON object."
)
INPUT = flags.DEFINE_multi_string(
  "input",
  [],
  "Placeholder to make and hand to --model, in order: name:dtype:dim,dim,... "
  "with ? for an open dimension. May be repeated.",
)
META_GRAPH = flags.DEFINE_string(
  "meta_graph",
  None,
  "Training graph (.meta); default: the one beside the checkpoint.",
)
GRAPH_DEF = flags.DEFINE_string(
  "graph_def", None, "Training graph as a GraphDef, .pb or .pbtxt."
)
SAVED_MODEL = flags.DEFINE_string(
  "saved_model", None, "SavedModel directory, with its variables."
)
HUB_MODULE = flags.DEFINE_string(
  "hub_module",
  None,
  "TF1 Hub module's directory; --tags=train takes its training graph.",
)
KERAS = flags.DEFINE_string(
  "keras", None, "Keras file with the whole model, .keras or .h5."
)
TAGS = flags.DEFINE_list(
  "tags", [], "Tags of the SavedModel's graph; default: serve, or the only one."
)
SIGNATURE = flags.DEFINE_string(
  "signature", None, "Signature of the SavedModel that names its ends."
)
OUTPUT_GRAPH = flags.DEFINE_string(
  "output_graph",
  None,
  "File to write; default: CHECKPOINT.frozen.pb beside the checkpoint. For "
  "several checkpoints a directory, or a path with {name}, {run} or {dir} in "
  "it: a checkpoint's name, its directory's name, its directory.",
)
INPUT_NODE = flags.DEFINE_list(
  "input_node",
  [],
  "Tensors to feed; inner ones, such as a queue's output, become "
  "placeholders. Default: the placeholders that the outputs need.",
)
SET = flags.DEFINE_list(
  "set",
  [],
  "name=value of placeholders and flags, where the graph leaves open what "
  "means inference: --set=mode=2,keep_prob=1.0",
)
MOVING_AVERAGES = flags.DEFINE_bool(
  "moving_averages",
  False,
  "Export the exponential moving averages of the weights, where they exist.",
)
AVERAGE_NAME = flags.DEFINE_string(
  "average_name",
  None,
  "How the names of the moving averages end that are meant, where weights have "
  "several; --moving_averages goes without saying then.",
)
SCOPE_MAP = flags.DEFINE_list(
  "scope_map",
  [],
  "old/=new/ where the checkpoint has variables below another scope than the "
  "graph has them; it is read both ways. Either may be empty.",
)
KEEP_BATCH_STATISTICS = flags.DEFINE_list(
  "keep_batch_statistics",
  [],
  "Scopes of norms that are meant to use the batch's statistics.",
)
KEEP_RANDOM = flags.DEFINE_list(
  "keep_random",
  [],
  "Random ops, or their scopes, that are part of the model at inference, such "
  "as a sampler.",
)
FOLD_BATCH_NORMS = flags.DEFINE_bool(
  "fold_batch_norms",
  True,
  "Take norms into the kernels of the convolutions beside them, where that is "
  "exact.",
)
DATA_FORMAT = flags.DEFINE_enum(
  "data_format",
  None,
  ["NHWC"],
  "Rewrite an NCHW graph so that it runs on CPUs.",
)
ENGINE = flags.DEFINE_enum(
  "engine",
  "auto",
  ["auto", "session", "stream"],
  "How variables become constants: in a session, by TensorFlow; or read from "
  "the checkpoint straight into the file, one at a time. auto: in a session "
  "where --model rebuilds the model, the stream elsewhere.",
)
TRANSFORMS = flags.DEFINE_string(
  "transforms",
  None,
  "Transforms to apply: 'NAME(PARAMETER=VALUE) NAME'; help lists them, "
  "help(NAME) prints a page.",
)
TARGET_TF = flags.DEFINE_string(
  "target_tf",
  None,
  "Write nothing that this version of TensorFlow does not know, such as 1.4.",
)
CALIBRATION_DATA = flags.DEFINE_string(
  "calibration_data",
  None,
  "Compute statistics of norms from data: FILE.npz with arrays by input name, "
  "or a directory of such files.",
)
RECALIBRATE = flags.DEFINE_list(
  "recalibrate",
  ["broken"],
  "Norms whose statistics --calibration_data gives: all, broken, or names and "
  "scopes of norms.",
)
SAVED_MODEL_OUT = flags.DEFINE_string(
  "saved_model_out",
  None,
  "Write a SavedModel there instead of a graph: its variables stay variables, "
  "so that it may be of any size.",
)
VALIDATE = flags.DEFINE_bool(
  "validate",
  True,
  "Import the written graph again and prove it: --validate is --proof=full, "
  "--validate=false is --proof=none.",
)
PROOF = flags.DEFINE_enum(
  "proof",
  "auto",
  ["auto", "full", "quick", "none"],
  "How much to do to prove the written graph. quick: import it again and "
  "compare it with a reference. full: also solve for the fixed point of the "
  "training graph's updates. none: nothing. auto: full up to 128 MiB of "
  "weights, quick up to 512, above that only import it.",
)
PROOF_TIMEOUT = flags.DEFINE_float(
  "proof_timeout",
  300.0,
  "Seconds that the runs of the proof take at most; what has not been proven "
  "by then is NOT PROVEN.",
  lower_bound=0.001,
)
FEEDS = flags.DEFINE_string(
  "feeds",
  None,
  "File.npz with arrays by input name to prove with; default: made up.",
)
REPORT = flags.DEFINE_string(
  "report",
  None,
  "Also write it: FILE.html, FILE.json or FILE.md. For several checkpoints "
  "with {name}, {run} or {dir} in it, as in --output_graph.",
)
FORMAT = flags.DEFINE_enum(
  "format", "text", ["text", "json"], "How to print what is found."
)
ALLOW_UNSAFE_OPS = flags.DEFINE_bool(
  "allow_unsafe_ops",
  False,
  "Run graphs also where their ops touch files, run Python or open sockets.",
)
AS_TEXT = flags.DEFINE_bool("as_text", False, "Write a text GraphDef.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace files that exist.")
DENYLIST = flags.DEFINE_list(
  "variable_names_denylist", [], "Variables that stay variables."
)
INITIALIZER_NODES = flags.DEFINE_list(
  "initializer_nodes",
  [],
  "Nodes to keep that are run once after the import; what fills the lookup "
  "tables of the outputs is kept without being named.",
)

# The names that TensorFlow's freeze_graph has for the same.
for _old, _new in (
  ("input_checkpoint", "checkpoint"),
  ("input_meta_graph", "meta_graph"),
  ("input_graph", "graph_def"),
  ("output_node_names", "output_node"),
  ("input_saved_model_dir", "saved_model"),
  ("saved_model_tags", "tags"),
  ("variable_names_blacklist", "variable_names_denylist"),
  # And those of the Graph Transform Tool.
  ("in_graph", "graph_def"),
  ("out_graph", "output_graph"),
  ("inputs", "input_node"),
  ("outputs", "output_node"),
  ("output_as_text", "as_text"),
):
  flags.DEFINE_alias(_old, _new)
# Accepted, so that old scripts run; files tell by themselves what they are.
flags.DEFINE_bool("input_binary", False, "Accepted; has no effect.")
flags.DEFINE_bool(
  "clear_devices", True, "Accepted; devices are always cleared."
)
flags.DEFINE_string("input_saver", "", "Accepted; has no effect.")
flags.DEFINE_integer("checkpoint_version", 2, "Accepted; has no effect.")
flags.DEFINE_string("restore_op_name", "", "Accepted; has no effect.")
flags.DEFINE_string("filename_tensor_name", "", "Accepted; has no effect.")


# What names a source, each by the flag of its kind.
SOURCES = (MODEL, META_GRAPH, GRAPH_DEF, SAVED_MODEL, KERAS, HUB_MODULE)
# Those that hold values of their variables, and name their outputs.
WHOLE = (SAVED_MODEL, KERAS, HUB_MODULE)


def run(main: Callable[[], Optional[int]]) -> None:
  """Runs a command's main as the process; see `status_of`."""
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, _interrupt)
  try:
    app.run(lambda argv: status_of(main, argv))
  except KeyboardInterrupt:
    sys.exit(_interrupted())


def _interrupt(number, frame):
  """Ends the process as Ctrl-C does; its clearing up is not interrupted."""
  for again in (signal.SIGINT, signal.SIGTERM):
    signal.signal(again, signal.SIG_IGN)
  # What is interrupted may swallow it, as what runs in a callback does.
  ending = threading.Timer(_LONGEST_ENDING, lambda: os._exit(_interrupted()))
  ending.daemon = True
  ending.start()
  raise KeyboardInterrupt


def _interrupted():
  """Takes away what is half done, and says so; returns the status."""
  # Without that module nothing was begun, and importing it takes seconds.
  writing = sys.modules.get("bnexport.exporting.writing")
  if writing is not None:
    writing.remove_parts()
  return fail(
    Error("finish", "interrupted", "nothing was written, run it again")
  )


def status_of(
  main: Callable[[], Optional[int]], argv: Sequence[str]
) -> Optional[int]:
  """Calls main; an expected failure is one line on stderr and status 3."""
  if len(argv) > 1:
    return fail(
      SourceError(
        f"use argument '{argv[1]}'",
        "every argument is a --flag=value",
        "see --help",
      )
    )
  try:
    _refuse_undecodable()
    return _printed(main)
  except Error as error:
    return fail(error)
  except MemoryError:
    return fail(
      Error(
        "finish",
        "it takes more memory than there is",
        "cut large parts away with --input_node, or run it where there is more",
      )
    )
  except KeyboardInterrupt:
    return _interrupted()


def _printed(main: Callable[[], Optional[int]]) -> Optional[int]:
  """Calls main, and sees to it that what it printed has gone out.

  Raises:
    Error: nobody takes it, as where a disk is full or a pipe is closed.
  """
  try:
    status = main()
    sys.stdout.flush()
    return status
  except OSError as error:
    if error.errno not in (errno.EPIPE, errno.ENOSPC):
      raise
    # Python flushes once more as it ends, and is not to complain again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise Error(
      "print the report",
      error.strerror,
      "what was written is whole; give stdout somewhere to go",
    ) from error


def _refuse_undecodable() -> None:
  """Raises SourceError where an argument is no text, such as a file's name."""
  for name, value in flags.FLAGS.flag_values_dict().items():
    for part in value if isinstance(value, list) else [value]:
      try:
        str(part).encode()
      except UnicodeEncodeError:
        raise SourceError(
          f"use --{name}={part}",
          "it is not written in UTF-8, and TensorFlow opens no such files",
          "rename the file",
        ) from None


def fail(error: Error) -> int:
  _tell(" ".join(str(error).split()))
  return REFUSED


def progress(text: str) -> None:
  """Says on stderr what is being done."""
  _tell(text)
  sys.stderr.flush()


def warn(text: str) -> None:
  _tell(f"warning: {text}")


def _tell(text: str) -> None:
  sys.stderr.write(f"bnexport: {printable(text)}\n")


def settings() -> Dict[str, str]:
  """The --set flag as a dict.

  Raises:
    SourceError: an item is no name=value.
  """
  found = {}
  for item in SET.value:
    name, equals, value = item.partition("=")
    if not equals or not name:
      raise SourceError(
        f"read --set item '{item}'",
        "its form is another",
        "write NAME=VALUE",
      )
    found[_without_port(name)] = value
  return found


def scope_map() -> Tuple[Tuple[str, str], ...]:
  """The --scope_map flag as pairs.

  Raises:
    SourceError: an item is no old=new.
  """
  found = []
  for item in SCOPE_MAP.value:
    old, equals, new = item.partition("=")
    if not equals:
      raise SourceError(
        f"read --scope_map item '{item}'",
        "its form is another",
        "write OLD/=NEW/",
      )
    found.append((old, new))
  return tuple(found)


def model_kwargs() -> Dict[str, Any]:
  """The --model_kwargs flag as a dict.

  Raises:
    SourceError: it is no JSON object.
  """
  try:
    kwargs = json.loads(MODEL_KWARGS.value)
  except ValueError as error:
    raise SourceError(
      "read --model_kwargs",
      error,
      "write a JSON object, like '{\"depth\": 50}'",
    ) from error
  if not isinstance(kwargs, dict):
    raise SourceError(
      "use --model_kwargs",
      "it is no JSON object",
      "write one, like '{\"depth\": 50}'",
    )
  return kwargs


def feeds() -> Optional[Dict[str, Any]]:
  """The arrays of --feeds, or None.

  Raises:
    SourceError: the file is no npz.
  """
  if FEEDS.value is None:
    return None
  from bnexport.sources import arrays

  return arrays.read(FEEDS.value, "feeds")


def proof() -> str:
  """How much is to be proven: --proof, or --validate as another word for it.

  Raises:
    SourceError: the two say different things.
  """
  if not flags.FLAGS["validate"].present:
    return PROOF.value
  said = "full" if VALIDATE.value else "none"
  if flags.FLAGS["proof"].present and PROOF.value != said:
    raise SourceError(
      f"take --proof={PROOF.value}",
      f"--validate={str(VALIDATE.value).lower()} means --proof={said}",
      "pass one",
    )
  return said


def _without_port(name: str) -> str:
  return name[:-2] if name.endswith(":0") else name


def named_outputs() -> List[str]:
  """The --output_node flag, which may name none."""
  return [name for name in OUTPUT_NODE.value if name]


def outputs(likely: Callable[[], Sequence[str]] = tuple) -> List[str]:
  """The --output_node flag.

  Args:
    likely: finds names to offer where the flag names none.

  Raises:
    SourceError: it names none.
  """
  names = named_outputs()
  if names:
    return names
  found = list(likely())
  if not found:
    step = (
      "pass --output_node=NAME; python -m bnexport.inspect lists the likely "
      "ones"
    )
  else:
    step = f"pass --output_node={found[0]}"
    if found[1:]:
      step += f", or what else is likely: {', '.join(found[1:4])}"
  raise SourceError("export", "no output is named", step)


def inputs() -> List[str]:
  """The --input_node flag."""
  return [name for name in INPUT_NODE.value if name]


def destination(source, extension, prefix):
  """The path of the graph to write; no file that exists or is read.

  Args:
    source: what the graph is named for where the user gives no name.
    extension: is put behind that, with .pb or .pbtxt.
    prefix: of the checkpoint, or None.

  Raises:
    SourceError: a graph or a report can't be written there.
  """
  from bnexport import report
  from bnexport.exporting import saved_model, writing

  if REPORT.value is not None:
    report.writer(REPORT.value)
    writing.refuse_existing(REPORT.value, OVERWRITE.value)
  if SAVED_MODEL_OUT.value:
    saved_model.refuse_directory(SAVED_MODEL_OUT.value, OVERWRITE.value)
    return SAVED_MODEL_OUT.value
  kind = ".pbtxt" if AS_TEXT.value else ".pb"
  path = OUTPUT_GRAPH.value or source.rstrip("/") + extension + kind
  writing.refuse_existing(path, OVERWRITE.value)
  read = [flag.value for flag in (*SOURCES[1:], FEEDS, CALIBRATION_DATA)]
  for written in filter(None, (path, REPORT.value)):
    writing.refuse_source(written, prefix, *read)
  if REPORT.value is not None:
    writing.refuse_source(REPORT.value, None, path)
  return path


def options():
  """The flags that say what a user may ask of an export."""
  from bnexport.calibration import data
  from bnexport.exporting.export import Options

  population = None
  if CALIBRATION_DATA.value is not None:
    population = data.read_data(CALIBRATION_DATA.value)
  return Options(
    settings=settings(),
    keep_batch_statistics=tuple(KEEP_BATCH_STATISTICS.value),
    keep_random=tuple(KEEP_RANDOM.value),
    moving_averages=MOVING_AVERAGES.value,
    average_name=AVERAGE_NAME.value or "",
    data_format=DATA_FORMAT.value,
    denylist=tuple(DENYLIST.value),
    initializers=tuple(INITIALIZER_NODES.value),
    engine=ENGINE.value,
    fold_batch_norms=FOLD_BATCH_NORMS.value,
    transforms=TRANSFORMS.value or "",
    keep_variables=bool(SAVED_MODEL_OUT.value),
    target_tf=TARGET_TF.value,
    calibration_data=population,
    recalibrate=tuple(RECALIBRATE.value),
    allow_unsafe_ops=ALLOW_UNSAFE_OPS.value,
  )


def refuse_two_sources():
  """Returns the flags that name a source, one or none.

  Raises:
    SourceError: there are two.
  """
  named = [flag for flag in SOURCES if flag.value]
  if len(named) > 1:
    raise SourceError(
      "take the graph from two sources",
      f"--{named[0].name} and --{named[1].name} are given",
      "pass one",
    )
  return named


def request(checkpoint=None, outputs=(), **more):
  """The Request that the flags mean; without a source, the `.meta` beside.

  Args:
    checkpoint: prefix of the checkpoint, or None.
    outputs: names of the tensors to keep.
    **more: other attributes of Request.

  Raises:
    SourceError: two sources are named.
  """
  from bnexport.model.request import Request

  beside = more.get("training")  # --meta_graph, beside a graph
  named = [flag for flag in SOURCES if flag.value and flag.value != beside]
  kind, source = "meta_graph", checkpoint and checkpoint + ".meta"
  if named:
    kind, source = named[0].name, named[0].value
  return Request(
    kind,
    source,
    checkpoint,
    tuple(outputs),
    tuple(inputs()),
    tuple(TAGS.value),
    SIGNATURE.value,
    placeholders=tuple(INPUT.value),
    kwargs=model_kwargs(),
    moving_averages=MOVING_AVERAGES.value,
    average_name=AVERAGE_NAME.value,
    scope_map=scope_map(),
    **more,
  )


def delivery(path, is_said=True, **more):
  """The Delivery that the flags mean; the attributes stand in `more` too."""
  from bnexport.exporting.delivery import Delivery

  return Delivery(
    path,
    as_text=AS_TEXT.value,
    overwrite=OVERWRITE.value,
    proof=proof(),
    proof_timeout=PROOF_TIMEOUT.value,
    **({"progress": progress} if is_said else {}),
    **more,
  )


def report(export, delivered, outcome=None):
  """Prints and writes the report of what was written; returns the status.

  Args:
    export: the Export.
    delivered: what became of it, a Delivered.
    outcome: of the findings about a graph that was repaired, or None.
  """
  from bnexport import report

  path, proof = delivered.path, delivered.proof
  print(report.text(export, proof, path, outcome))
  if REPORT.value is not None:
    progress("looking tensor by tensor, for the report")
    report.write(REPORT.value, export, proof, path, outcome)
  for warning in export.model.warnings:
    warn(warning)
  for doubt in delivered.doubts:
    warn(doubt)
  return DONE if delivered.holds else NOT_PROVEN
