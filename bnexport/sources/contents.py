# SPDX-License-Identifier: Apache-2.0
"""The contents of a source, as read, before they are made a Model."""

from __future__ import annotations

import dataclasses
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from bnexport.graph import Graph
from bnexport.graph.nodes import Signatures
from bnexport.graph.soundness import refuse_unsound
from bnexport.graph.void_attributes import drop_void_attributes
from bnexport.model import Model
from bnexport.model.checkpoint import Checkpoint
from bnexport.proof.runs import Run
from bnexport.tf1 import tf1


@dataclasses.dataclass
class Contents:
  """One graph with what its source says of it.

  Making one raises GraphError where the graph can't be worked with, see
  `graph.soundness`.

  Attributes:
    graph_def: the GraphDef, without what only a newer TensorFlow knows and
      changes nothing; the one that is given stays as it is. Or Parts of one,
      for `open` alone.
    signatures: OpDefs, those the source brings along included.
    origin: names the source in messages.
    outputs: names of the tensors to keep; none where nothing says them.
    inputs: names of the tensors to feed; none for all placeholders.
    label: what an overview calls it, where the graph alone does not tell.
    checkpoint: the checkpoint with the variables, or None.
    saver: the tensor that the MetaGraph's own Saver saves with, or None.
    held: TensorProtos by variable, of what the source itself holds.
    input_keys: what a signature calls inputs, by node name.
    output_keys: what it calls the outputs, in their order.
    assets: paths of files by the name of the tensor that is fed them.
    prepare: makes the Graph that is opened of the one that was read.
    finish: sets what else a Model of this source has.
    run: makes a Run of the source itself, as it was before it became a graph.
    changes: what was done to the graph to open it, a line each.
    doubts: what to tell the user about, a line each.
    has_training_graph: whether what only training needs is in the graph.
  """

  graph_def: tf1.GraphDef
  signatures: Signatures
  origin: str
  outputs: Tuple[str, ...] = ()
  inputs: Tuple[str, ...] = ()
  label: Optional[str] = None
  checkpoint: Optional[Checkpoint] = None
  saver: Optional[str] = None
  held: Mapping[str, tf1.TensorProto] = dataclasses.field(default_factory=dict)
  input_keys: Dict[str, str] = dataclasses.field(default_factory=dict)
  output_keys: Tuple[str, ...] = ()
  assets: Dict[str, str] = dataclasses.field(default_factory=dict)
  prepare: Optional[Callable[[Graph], Graph]] = None
  finish: Optional[Callable[[Model], None]] = None
  run: Optional[Callable[[Model], Optional[Run]]] = None
  changes: List[str] = dataclasses.field(default_factory=list)
  doubts: List[str] = dataclasses.field(default_factory=list)
  has_training_graph: bool = True

  def __post_init__(self):
    refuse_unsound(self.graph_def, self.signatures, f"'{self.origin}'")
    self.graph_def = drop_void_attributes(self.graph_def)


def saved_in(prefix) -> Optional[Checkpoint]:
  """The Checkpoint of a prefix, or None for none."""
  return None if prefix is None else Checkpoint(prefix)
