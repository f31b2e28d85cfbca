# SPDX-License-Identifier: Apache-2.0
"""Tables of TensorFlow's ops, by what they do to values and state.

Ops are told apart by what they do to a value, never by a node's name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:  # importing TensorFlow takes seconds
  from bnexport.tf1 import tf1

VARIABLES = frozenset(("Variable", "VariableV2", "VarHandleOp"))
RESOURCE_READS = frozenset(("ReadVariableOp",))
PLACEHOLDERS = frozenset(
  (
    "Placeholder",
    "PlaceholderV2",
    "PlaceholderWithDefault",
  )
)

# The value an update leaves in its variable, from what was there and the
# value it is given.
ASSIGN = frozenset(("Assign", "AssignVariableOp"))
ASSIGN_ADD = frozenset(("AssignAdd", "AssignAddVariableOp"))
ASSIGN_SUB = frozenset(("AssignSub", "AssignSubVariableOp"))
# The same for rows of a variable that are told by their numbers, for elements
# that are told by their indices, and for a slice. How each changes what was
# there is the rest of its name.
ROW_UPDATES = frozenset(
  prefix + "Scatter" + change
  for prefix in ("", "Resource")
  for change in ("Update", "Add", "Sub", "Mul", "Div", "Min", "Max")
)
ELEMENT_UPDATES = frozenset(
  prefix + "ScatterNd" + change
  for prefix in ("", "Resource")
  for change in ("Update", "Add", "Sub", "Min", "Max")
)
SLICE_UPDATES = frozenset(("StridedSliceAssign", "ResourceStridedSliceAssign"))
PARTIAL_UPDATES = ROW_UPDATES | ELEMENT_UPDATES | SLICE_UPDATES
UPDATES = ASSIGN | ASSIGN_ADD | ASSIGN_SUB | PARTIAL_UPDATES
# Ops with which a Saver writes a checkpoint.
SAVES = frozenset(("SaveV2", "SaveSlices", "Save"))

# Calls of functions that are named in an attribute.
CALLS = frozenset(
  ("PartitionedCall", "StatefulPartitionedCall", "TPUPartitionedCall")
)

# Ops that give lookup tables their entries.
TABLE_INITIALIZERS = frozenset(
  (
    "InitializeTable",
    "InitializeTableV2",
    "InitializeTableFromTextFile",
    "InitializeTableFromTextFileV2",
    "LookupTableImport",
    "LookupTableImportV2",
  )
)
# Tables that a program fills while it runs; a checkpoint holds the entries.
MUTABLE_TABLES = frozenset(
  (
    "MutableHashTable",
    "MutableHashTableV2",
    "MutableHashTableOfTensors",
    "MutableHashTableOfTensorsV2",
    "MutableDenseHashTable",
    "MutableDenseHashTableV2",
    "AnonymousMutableHashTable",
    "AnonymousMutableHashTableOfTensors",
    "AnonymousMutableDenseHashTable",
  )
)

# What takes rows by their number, or marks them.
LOOKUPS = frozenset(
  (
    "Gather",
    "GatherV2",
    "GatherNd",
    "OneHot",
    "ResourceGather",
    "ResourceGatherNd",
  )
)
FUSED_NORMS = frozenset(
  (
    "FusedBatchNorm",
    "FusedBatchNormV2",
    "FusedBatchNormV3",
  )
)

# Ops that quantize within a range and give floats again; training learns, or
# averages, the range.
FAKE_QUANTS = frozenset(
  ("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
)

SWITCHES = frozenset(("Switch", "RefSwitch"))
MERGES = frozenset(("Merge", "RefMerge"))
ENTERS = frozenset(("Enter", "RefEnter"))
EXITS = frozenset(("Exit", "RefExit"))

CONTROL_FLOW = (
  SWITCHES
  | MERGES
  | ENTERS
  | EXITS
  | {"NextIteration", "RefNextIteration", "LoopCond"}
)

# First output equals first input, bit for bit.
IDENTITIES = frozenset(
  (
    "Identity",
    "RefIdentity",
    "StopGradient",
    "PreventGradient",
    "CheckNumerics",
    "EnsureShape",
    "Print",
    "DebugIdentity",
    "DebugIdentityV2",
    "Snapshot",
  )
)
# The same, carried into or out of a while loop's frame.
CARRIERS = IDENTITIES | ENTERS | EXITS | {"NextIteration", "RefNextIteration"}
# First output holds the first input's elements, in their order.
RESHAPES = frozenset(("Squeeze", "ExpandDims", "Reshape"))
# Ops that take one of two operands, by a predicate.
SELECTS = frozenset(("Select", "SelectV2"))
DIVISIONS = frozenset(("Div", "DivNoNan", "RealDiv"))

# Ops that bring data into a graph: an answer that depends on one of them
# depends on the batch.
DATA_SOURCES = frozenset(
  (
    "IteratorGetNext",
    "IteratorGetNextSync",
    "IteratorGetNextAsOptional",
    "ReadFile",
    "WholeFileReader",
    "PyFunc",
    "PyFuncStateless",
    "EagerPyFunc",
    "Unstage",
    "StagePeek",
    "RecvTPUEmbeddingActivations",
    "_Arg",
  )
)
_DATA_SOURCE_PREFIXES = (
  "QueueDequeue",
  "ReaderRead",
  "InfeedDequeue",
  "Unstage",
)

REDUCTIONS = frozenset(
  (
    "Mean",
    "Sum",
    "Max",
    "Min",
    "Prod",
    "EuclideanNorm",
  )
)
# Value of the output depends on the input's shape alone.
SHAPES = frozenset(("Shape", "ShapeN", "Size", "Rank", "VariableShape"))

_RANDOM_PREFIXES = (
  "Random",
  "TruncatedNormal",
  "ParameterizedTruncatedNormal",
  "Multinomial",
  "Stateless",
  "StatefulUniform",
  "StatefulStandardNormal",
  "StatefulTruncatedNormal",
  "StatefulRandom",
  "Bernoulli",
)
# Ops whose names begin like the ones above and which draw nothing.
_NOT_RANDOM = frozenset(
  (
    "StatelessIf",
    "StatelessWhile",
    "StatelessCase",
    "StatefulPartitionedCall",
    "RandomDataset",
  )
)


_OPTIMIZERS = re.compile(r"(Resource)?(Sparse)?Apply")
# Places outside of a graph that its ops reach; none is run by looking at it.
PYTHON = "Python"
FILES = "files"
NETWORK = "the network"
_REACHES = (
  (PYTHON, re.compile(r"^(Eager)?PyFunc(Stateless)?$")),
  (
    FILES,
    re.compile(
      r"^(Read|Write|Matching)Files?$|^(Save|Restore)(V2|Slice|Slices)?$"
      r"|^MergeV2Checkpoints$|^(Checkpoint|Load|Save|Snapshot|Cache)\w*Dataset"
      r"|Reader(V2)?$|^ReaderRead|^CheckpointExists$|^LoadAndRemapMatrix$"
      r"|^(TextLine|TFRecord|FixedLengthRecord|Sql|LMDB|MatchingFiles)\w*Dataset"
      r"|TableFromTextFile(V2)?$|^GenerateVocabRemapping$"
      r"|^Create(SummaryFile|SummaryDb)Writer$|^DumpIdentity"
    ),
  ),
  (
    NETWORK,
    re.compile(
      r"^(Try)?Rpc(Call|Client)?$|^Rpc(Server|Client|Call)|^DataService"
      r"|^RegisterDataset|^(Kafka|BigQuery|Bigtable|Kinesis|PubSub)"
      r"|^_(Host)?(Send|Recv)$"
    ),
  ),
)
# Attributes that make files or sockets of ops that need none.
_ADDRESSES = ("debug_urls", "output_stream")
_ADDRESS = re.compile(rb"^(file|grpc)://")


def reaches(node: tf1.NodeDef) -> Optional[str]:
  """The place outside of the graph that a node reaches, or None."""
  for what, pattern in _REACHES:
    if pattern.search(node.op):
      return what
  for key in _ADDRESSES:
    if key in node.attr:
      values = list(node.attr[key].list.s) + [node.attr[key].s]
      found = [_ADDRESS.search(value) for value in values]
      if any(found):
        scheme = next(filter(None, found)).group(1)
        return NETWORK if scheme == b"grpc" else FILES
  return None


def is_random(op: str) -> bool:
  """Tells whether an op draws random numbers."""
  return op.startswith(_RANDOM_PREFIXES) and op not in _NOT_RANDOM


def is_optimizer(op: str) -> bool:
  """Tells whether an op moves weights by a gradient."""
  return _OPTIMIZERS.match(op) is not None


def is_data_source(op: str) -> bool:
  """Tells whether an op brings in values from outside the graph."""
  return (
    op in PLACEHOLDERS
    or op in DATA_SOURCES
    or op.startswith(_DATA_SOURCE_PREFIXES)
  )
