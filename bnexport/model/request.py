# SPDX-License-Identifier: Apache-2.0
"""Requests: the sources that a user names, and the flags that name them."""

from __future__ import annotations

import dataclasses
import os
import shlex
from typing import Mapping, Optional, Tuple

from bnexport.tf1 import tf1

# Kinds that are files, by the flag of the same name that names one.
FILES = ("graph_def", "meta_graph", "saved_model", "keras", "hub_module")


@dataclasses.dataclass(frozen=True)
class Request:
  """A source and the options of opening it; `sources.open` takes it.

  Attributes:
    kind: a key of `sources.KINDS`; the flag that names the source is called
      the same.
    source: a path, `file.py:function`, a proto, a tf.compat.v1.Graph or a
      function, as the kind has it.
    checkpoint: prefix of the checkpoint with values of the variables, or None.
    outputs: names of the tensors to keep.
    inputs: names of the tensors to feed; none where the source says them.
    tags: of a SavedModel's graph; none for the one that serves.
    signature: of a SavedModel; None for the one that serves.
    training: the MetaGraphDef's file that a frozen graph was made from.
    placeholders: `name:dtype:dims` of a model function's leading arguments.
    kwargs: a model function's other arguments.
    moving_averages: whether a rebuilt model's weights are their averages.
    average_name: of those averages, where a weight has several; or None.
    scope_map: pairs of a scope of variables and that of their keys.
    session: holds the values of a tf.compat.v1.Graph's variables.
    is_served: whether a SavedModel is made of it again: its files stay files,
      and where nobody names ends, all its signatures stay.
    flags: how the user calls outputs and inputs, for messages.
  """

  kind: str
  source: object
  checkpoint: Optional[str] = None
  outputs: Tuple[str, ...] = ()
  inputs: Tuple[str, ...] = ()
  tags: Tuple[str, ...] = ()
  signature: Optional[str] = None
  training: Optional[str] = None
  placeholders: Tuple[str, ...] = ()
  kwargs: Mapping[str, object] = dataclasses.field(default_factory=dict)
  moving_averages: bool = False
  average_name: Optional[str] = None
  scope_map: Tuple[Tuple[str, str], ...] = ()
  session: object = None
  is_served: bool = False
  flags: Tuple[str, str] = ("--output_node", "--input_node")

  def without_objects(self) -> Request:
    """A copy without the objects in memory: a proto, a graph, a session."""
    if isinstance(self.source, str):
      return self
    return dataclasses.replace(self, source=None, session=None)

  @property
  def _is_file(self) -> bool:
    return self.kind in FILES and isinstance(self.source, str)

  @property
  def training_graph(self) -> Optional[str]:
    """The training graph's file, or None where there is none."""
    if self.kind == "meta_graph" and self._is_file:
      return str(self.source)
    if self.training is not None:
      return self.training
    beside = self.checkpoint and self.checkpoint + ".meta"
    return beside if beside and tf1.gfile.Exists(beside) else None

  @property
  def size(self) -> Optional[int]:
    """Bytes of the graph's file; None where there is none."""
    if not self._is_file:
      return None
    path = str(self.source)
    if tf1.gfile.IsDirectory(path):
      path = os.path.join(path, "saved_model.pb")
    return tf1.gfile.Stat(path).length if tf1.gfile.Exists(path) else None

  def command(self, name: str, *more: str) -> str:
    """The shell command that runs a command on these files.

    Args:
      name: of the command, `freeze` or `repair`.
      *more: other flags.
    """
    flags = []
    if self._is_file and self.source != self._beside():
      flags.append(f"--{self.kind}={self.source}")
    elif not self._is_file:
      flags.append("--graph_def=GRAPH.pb")  # it has to be saved before
    if self.checkpoint is not None:
      flags.append(f"--checkpoint={self.checkpoint}")
    elif name == "freeze" and self.kind in ("graph_def", "meta_graph"):
      flags.append("--checkpoint=PREFIX")
    if self.training is not None:
      flags.append(f"--meta_graph={self.training}")
    for old, new in self.scope_map:
      flags.append(f"--scope_map={old}={new}")
    words = [f"python -m bnexport.{name}", *map(shlex.quote, (*flags, *more))]
    return " ".join(words)

  def _beside(self) -> Optional[str]:
    return self.checkpoint and self.checkpoint + ".meta"
