# SPDX-License-Identifier: Apache-2.0
"""The Graph Transform Tool of TF 1.15 as the oracle; elsewhere, its record.

  PYTHONPATH=.:tests .venv37/bin/python tests/judges/graph_transform_tool.py

runs the tests that ask it under TF 1.15, and writes graph_transform_tool.npz:
what the tool made, by what it was given.
"""

import collections
import functools
import hashlib
import os
import re
import sys

import numpy as np
import pytest

from bnexport.tf1 import tf1

try:
  from tensorflow.tools import graph_transforms
except ImportError:
  graph_transforms = None

PATH = os.path.splitext(os.path.abspath(__file__))[0] + ".npz"
# TF 1.15 does not have these attributes; nobody sets them here.
NEWER = ("explicit_paddings", "exponential_avg_factor", "grad_a", "grad_b")
# What the tool was asked in this process.
ASKED = {}
TESTS = (
  "test_conv_transforms.py",
  "test_fold_batch_norms.py::test_ops_are_those_of_the_old_tool",
  "test_numeric_transforms.py",
  "test_quantize_nodes.py",
  "test_transform_defects.py",
  "test_transform_oracle.py",
)


def old_tool(graph_def, spec, outputs=("y",), inputs=()):
  """The GraphDef that the old tool makes, or made where there is none.

  Raises:
    ToolError: it says that it can't.
  """
  key = _key(graph_def, spec, outputs, inputs)
  if graph_transforms is not None:
    ASKED[key] = _ask(graph_def, spec, outputs, inputs)
  elif key not in _record():
    pytest.fail("it is not recorded: see %s" % os.path.basename(__file__))
  said = ASKED[key] if key in ASKED else _record()[key].tobytes()
  if said.startswith(_ERROR):
    raise ToolError(said[len(_ERROR) :].decode())
  return tf1.GraphDef.FromString(said)


class ToolError(Exception):
  """What the tool said instead of making a graph."""


# No GraphDef begins so: a field's number is never 0.
_ERROR = b"\0"


def _ask(graph_def, spec, outputs, inputs):
  try:
    made = graph_transforms.TransformGraph(
      graph_def, list(inputs), list(outputs), [spec]
    )
  except (tf1.errors.OpError, ValueError) as error:
    return _ERROR + str(error).encode()
  return made.SerializeToString(deterministic=True)


def _key(graph_def, spec, outputs, inputs):
  """What the tool is given, in a form that is the same in all versions."""
  nodes = [
    (
      name,
      op,
      [t[:-2] if t.endswith(":0") else t for t in refs],
      sorted(item for item in attrs.items() if item[0] not in NEWER),
    )
    for name, (op, refs, attrs) in sorted(by_name(graph_def).items())
  ]
  spec = re.sub(r'(?<=min_max_log_file=")[^"]*', _content, spec)
  said = repr((nodes, spec, tuple(outputs), tuple(inputs)))
  return hashlib.sha1(said.encode()).hexdigest()


def _content(found):
  with open(found.group()) as f:
    return f.read()


@functools.lru_cache(maxsize=None)
def _record():
  with np.load(PATH) as stored:
    return {key: stored[key] for key in stored.files}


def by_name(graph_def):
  """Op, inputs and stated attributes by node; values as arrays."""
  found = {}
  for node in graph_def.node:
    attrs = {}
    for key, attr in node.attr.items():
      if attr.HasField("tensor"):
        attrs[key] = tf1.make_ndarray(attr.tensor).tolist()
      else:
        attrs[key] = attr.SerializeToString(deterministic=True)
    found[node.name] = (node.op, list(node.input), attrs)
  return found


def histogram(graph_def):
  """How many nodes of each op there are."""
  return collections.Counter(node.op for node in graph_def.node)


def main():
  # Tests import this file by its name, and ask that module.
  from judges import graph_transform_tool

  folder = os.path.join(os.path.dirname(os.path.dirname(PATH)), "transforms")
  status = pytest.main(["-q"] + [os.path.join(folder, t) for t in TESTS])
  if status:
    sys.exit(status)
  np.savez_compressed(
    PATH,
    **{
      key: np.frombuffer(said, np.uint8)
      for key, said in sorted(graph_transform_tool.ASKED.items())
    },
  )


if __name__ == "__main__":
  main()
