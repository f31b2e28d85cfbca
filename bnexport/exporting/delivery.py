# SPDX-License-Identifier: Apache-2.0
"""Writing an export, proven by what was written before it gets its name."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Callable, List, Mapping, Optional

from bnexport.errors import ComparisonError, GraphError
from bnexport.exporting import saved_model, writing
from bnexport.exporting.proving import AUTO, NONE, PROOF_TIMEOUT, prove
from bnexport.mending import faults
from bnexport.proof.runs import ImportedGraph
from bnexport.sources import files
from bnexport.tf1 import tf1

if TYPE_CHECKING:
  from bnexport.proof.verdict import Comparison


def _as_they_are(data):
  return data


def _in_silence(text):
  pass


@dataclasses.dataclass(frozen=True)
class Delivery:
  """The destination of an export, and what is asked of it there.

  Attributes:
    path: a file for a GraphDef, or a directory for a SavedModel.
    as_text: whether a GraphDef is written as text.
    overwrite: whether what is there may be replaced.
    proof: how much is done to prove it, one of proving.PROOFS.
    proof_timeout: seconds that the runs of the proof take at most.
    feeds: arrays by input name; made up where it is None.
    data: the graph's bytes, piece by piece; None for those of the export.
    watched: is handed the graph's bytes, and hands them on.
    progress: called with what is being done.
  """

  path: str
  as_text: bool = False
  overwrite: bool = False
  proof: str = AUTO
  proof_timeout: float = PROOF_TIMEOUT
  feeds: Optional[Mapping] = None
  data: Optional[object] = None
  watched: Callable = _as_they_are
  progress: Callable = _in_silence


@dataclasses.dataclass(frozen=True)
class Delivered:
  """A written export and its proof.

  Attributes:
    path: the file, or the directory of a SavedModel.
    proof: the Comparison; None where none was asked for.
  """

  path: str
  proof: Optional[Comparison]

  @property
  def holds(self) -> bool:
    """Whether nothing stands against it."""
    return self.proof is None or self.proof.holds

  @property
  def doubts(self) -> List[str]:
    """The verdict against it, in one line or none."""
    if self.proof is None or self.proof.holds:
      return []
    if self.proof.stands_against:
      return [
        "the exported graph does not answer as its reference; see the report "
        "above"
      ]
    return ["the exported graph is not proven; see the report above"]


@dataclasses.dataclass(frozen=True)
class Written:
  """A graph that is in its file, and has not got its name yet.

  Attributes:
    read: reads its GraphDef again.
    restore: gives a session's variables their values, or None.
  """

  read: Callable
  restore: Optional[Callable] = None

  def reason_against(self):
    """TensorFlow's reason not to import it, or None."""
    try:
      ImportedGraph(self.read(), (), restore=self.restore).close()
    except ComparisonError as error:
      return error.fact
    return None


@contextlib.contextmanager
def written(model, path, as_text=False, data=None, is_served=False):
  """Writes a model; it gets its name when the block has ended well.

  Args:
    model: a Model.
    path: the file, or the directory of a SavedModel.
    as_text: whether a GraphDef is written as text.
    data: the graph's bytes, piece by piece; None for those of the model.
    is_served: whether it becomes a SavedModel.

  Yields:
    A Written.

  Raises:
    SourceError: it can't be written. Nothing is left then.
  """
  if is_served:
    with saved_model.written(model, path) as (meta, prefix):
      restore = None
      if meta.HasField("saver_def"):
        restore = saved_model.restorer(meta, prefix)
      yield Written(lambda: meta.graph_def, restore)
    return
  if data is None:
    data = writing.serialize(model, as_text)
  with writing.whole_file(path, data) as part:
    yield Written(lambda: files.read_proto(part, tf1.GraphDef, "the graph"))


def deliver(export, delivery) -> Delivered:
  """Writes an export, and proves what was written.

  Args:
    export: an Export.
    delivery: a Delivery.

  Raises:
    SourceError: it can't be written, or something is there.
    ComparisonError: TensorFlow does not import it, or feeds do not fit it.
  """
  path, is_served = delivery.path, export.is_served
  if is_served:
    saved_model.refuse_directory(path, delivery.overwrite)
  else:
    writing.refuse_existing(path, delivery.overwrite)
  if delivery.proof == NONE:
    _refuse_faulty(export.model, path)
  data = None
  if not is_served:
    data = delivery.watched(
      delivery.data or writing.serialize(export.model, delivery.as_text)
    )
  proof = None
  with written(export.model, path, data=data, is_served=is_served) as file:
    if delivery.proof != NONE:
      delivery.progress("importing it again and comparing")
      proof = prove(
        export,
        file.read,
        delivery.feeds,
        file.restore,
        delivery.proof,
        delivery.proof_timeout,
      )
  return Delivered(path, proof)


def _refuse_faulty(model, path):
  """Raises GraphError where TensorFlow is sure not to import a graph.

  Where there is a proof, TensorFlow imports it.
  """
  for fault in faults.of_graph(model.graph, model.signatures):
    raise GraphError(
      f"write '{path}'",
      f"'{fault.node}' {fault.fact}",
      "give the training graph, or mend it with python -m bnexport.repair",
    )
