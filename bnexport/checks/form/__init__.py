# SPDX-License-Identifier: Apache-2.0
"""BN3xx: the form of the graph keeps it from being imported or run."""

from __future__ import annotations

# A longer list of nodes with one fault is told by its first.
_MOST = 10

# A sound example.
RELU = """
x = Placeholder() {shape=[?,3]}
y = Relu(x)
"""


def abridged(found):
  """Pairs (item, suffix); a long list is its first item, with a count."""
  if len(found) > _MOST:
    return [(found[0], f" (and so {len(found) - 1} more nodes)")]
  return [(item, "") for item in found]


def refusals(subject, *kinds, because=""):
  """Pairs (fault, message) for faults that keep a graph from being imported.

  Args:
    subject: a Subject.
    *kinds: kinds of faults, as `mending.faults` names them.
    because: what the fault comes from, to put into the message.
  """
  found = [fault for fault in subject.faults if fault.kind in kinds]
  for fault, more in abridged(found):
    yield (
      fault,
      f"{fault.fact}{more}: {because}TensorFlow refuses to import the graph",
    )


def feeding(subject, tensor):
  """The Fix that feeds a tensor where no training graph can restore it."""
  inputs = () if subject.request.training_graph else (tensor,)
  return subject.mend(inputs=inputs)
