# SPDX-License-Identifier: Apache-2.0
"""The flags that the commands share, and the commands' dealings with them.

Importing it does not import TensorFlow, so `--help` answers at once.
"""

from __future__ import annotations

from absl import flags

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
AVERAGES = flags.DEFINE_list(
  "averages",
  [],
  "Moving averages that are meant, or their scopes, where a norm's statistic "
  "has several, or where a checkpoint is at hand without its training graph.",
)
KEEP_RANDOM = flags.DEFINE_list(
  "keep_random",
  [],
  "Random ops, or their scopes, that are part of the model at inference, such "
  "as a sampler.",
)
KEEP_CONTROL_FLOW = flags.DEFINE_bool(
  "keep_control_flow",
  False,
  "Leave conditionals and loops about data that only compute as they are, If, "
  "Case and While with functions; otherwise they become Switch, Merge and "
  "Enter, which every TF1 reads.",
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
  "a directory of such files, or a pattern of them, or of TFRecord files, such "
  "as data/train-*.",
)
CALIBRATION_INPUT = flags.DEFINE_string(
  "calibration_input",
  None,
  "What makes of a serialized record of --calibration_data the arrays of one "
  "row, by input name: package.module:function or file.py:function.",
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
VERBOSE = flags.DEFINE_bool(
  "verbose",
  False,
  "Print the report in full: every norm, change, variable and op by its name.",
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
ALLOWLIST = flags.DEFINE_list(
  "variable_names_allowlist",
  [],
  "Variables that become constants; all others stay variables. Default: all.",
)
MISSING = flags.DEFINE_enum(
  "missing",
  "refuse",
  ["refuse", "initialize"],
  "What becomes of variables that the checkpoint lacks. initialize: they have "
  "the values that the graph initializes them with, as in code that runs the "
  "initializers, then restores a part.",
)
INITIALIZER_NODES = flags.DEFINE_list(
  "initializer_nodes",
  [],
  "Nodes to keep that are run once after the import; what fills the lookup "
  "tables of the outputs is kept without being named.",
)

ALIASES = (
  # The names that TensorFlow's freeze_graph has for the same.
  ("input_checkpoint", "checkpoint"),
  ("input_meta_graph", "meta_graph"),
  ("input_graph", "graph_def"),
  ("output_node_names", "output_node"),
  ("input_saved_model_dir", "saved_model"),
  ("saved_model_tags", "tags"),
  ("variable_names_blacklist", "variable_names_denylist"),
  ("variable_names_whitelist", "variable_names_allowlist"),
  # And those of the Graph Transform Tool.
  ("in_graph", "graph_def"),
  ("out_graph", "output_graph"),
  ("inputs", "input_node"),
  ("outputs", "output_node"),
  ("output_as_text", "as_text"),
)
for _old, _new in ALIASES:
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
