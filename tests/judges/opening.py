# SPDX-License-Identifier: Apache-2.0
"""Requests as the commands make them, and Models of what they name."""

from bnexport import sources
from bnexport.model.prefixes import find_prefix
from bnexport.model.request import Request


def trained(prefix, outputs, inputs=()):
  """The Model of the training graph beside a checkpoint."""
  return sources.open(
    Request(
      "meta_graph", prefix + ".meta", prefix, tuple(outputs), tuple(inputs)
    )
  )


def asked(graph_def=None, checkpoint=None, outputs=(), target_tf=None):
  """What `examination.look` is given for the flags of these names."""
  prefix = None if checkpoint is None else find_prefix(checkpoint)
  kind, source = "graph_def", graph_def
  if graph_def is None:
    kind, source = "meta_graph", prefix + ".meta"
  return Request(kind, source, prefix, tuple(outputs)), target_tf
