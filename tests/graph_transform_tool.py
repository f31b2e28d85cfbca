"""The Graph Transform Tool of TF 1.15, where there is one: the oracle."""

import collections

import pytest

from bnexport.tf1 import tf1


def old_tool(graph_def, spec, outputs=("y",), inputs=()):
  """The GraphDef that the old tool makes; skips where there is none."""
  tool = pytest.importorskip("tensorflow.tools.graph_transforms")
  return tool.TransformGraph(graph_def, list(inputs), list(outputs), [spec])


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
