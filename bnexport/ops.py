"""What the rewriting has to know about TensorFlow's ops, as tables.

Ops are told apart by what they do to a value, never by a node's name.
"""

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
UPDATES = ASSIGN | ASSIGN_ADD | ASSIGN_SUB

FUSED_NORMS = frozenset(
  (
    "FusedBatchNorm",
    "FusedBatchNormV2",
    "FusedBatchNormV3",
  )
)

SWITCHES = frozenset(("Switch", "RefSwitch"))
MERGES = frozenset(("Merge", "RefMerge"))
ENTERS = frozenset(("Enter", "RefEnter"))
EXITS = frozenset(("Exit", "RefExit"))

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

# What brings data into a graph: an answer that depends on one of these
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
# They begin like the ones above and draw nothing.
_NOT_RANDOM = frozenset(
  (
    "StatelessIf",
    "StatelessWhile",
    "StatelessCase",
    "StatefulPartitionedCall",
    "RandomDataset",
  )
)


def is_random(op):
  """Whether the op draws random numbers."""
  return op.startswith(_RANDOM_PREFIXES) and op not in _NOT_RANDOM


def is_data_source(op):
  """Whether the op brings in values from outside the graph."""
  return (
    op in PLACEHOLDERS
    or op in DATA_SOURCES
    or op.startswith(_DATA_SOURCE_PREFIXES)
  )
