# SPDX-License-Identifier: Apache-2.0
"""Passes over calibration data on Apache Beam, shard by shard."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os

import apache_beam
import numpy as np

from bnexport.calibration.moments import Moments
from bnexport.errors import ComparisonError, first_line
from bnexport.exporting import writing
from bnexport.exporting.beam import pipeline_options
from bnexport.proof.runs import ImportedGraph
from bnexport.sources import files
from bnexport.tf1 import tf1


class MergeMoments(apache_beam.CombineFn):
  """Merges lists of Moments, element by element.

  Counts, means and sums of squared distances are float64: another order of
  merging changes rounding only.
  """

  def create_accumulator(self):
    return []

  def add_input(self, accumulator, moments):
    return self.merge_accumulators([accumulator, moments])

  def merge_accumulators(self, accumulators):
    merged = []
    for moments in accumulators:
      merged = merged or [Moments() for _ in moments]
      for one, other in zip(merged, moments):
        one.merge(other)
    return merged

  def extract_output(self, accumulator):
    return accumulator


@dataclasses.dataclass(frozen=True)
class BeamPasses:
  """Makes passes on a runner of Beam's; see calibration.passes.Passes.

  Attributes:
    runner: its name.
    options: its options, as on a command line.
    folder: where graph and moments are exchanged; all workers see it.
  """

  runner: str
  options: str
  folder: str

  @contextlib.contextmanager
  def __call__(self, graph_def, initializers):
    options = pipeline_options(self.runner, self.options)
    with writing.part(os.path.join(self.folder, "passes")) as folder:
      tf1.gfile.MakeDirs(folder)
      graph = os.path.join(folder, "graph.pb")
      with writing.whole_file(graph, [graph_def.SerializeToString()]):
        pass
      yield lambda one: self._run(
        one, _Gather(graph, tuple(initializers), one), folder, options
      )

  def _run(self, one, gather, folder, options):
    """The Moments of a Pass.

    Raises:
      ComparisonError: the runner gave up, as where the graph does not run.
    """
    answer = os.path.join(folder, "moments.npz")
    pipeline = apache_beam.Pipeline(options=options)
    (
      pipeline
      | "shards" >> apache_beam.Create(one.data.files)
      | apache_beam.Reshuffle()
      | "gather" >> apache_beam.ParDo(gather)
      | "merge" >> apache_beam.CombineGlobally(MergeMoments())
      | "answer" >> apache_beam.Map(_write, answer)
    )
    try:
      pipeline.run().wait_until_finish()
    except Exception as error:  # runners raise of all kinds
      raise ComparisonError(
        f"gather statistics on {self.runner}",
        first_line(error) or type(error).__name__,
        "leave out --runner to see why",
      ) from error
    return _read(answer, len(one.kept))


class _Gather(apache_beam.DoFn):
  """From a file to the Moments of each group of a Pass."""

  def __init__(self, graph, initializers, one):
    self._graph = graph
    self._initializers = initializers
    self._one = one
    self._runner = None

  def setup(self):
    graph_def = files.read_proto(self._graph, tf1.GraphDef, "the graph")
    self._runner = ImportedGraph(graph_def, (), self._initializers)

  def process(self, file):
    yield self._one.gather(self._runner, [file])

  def teardown(self):
    if self._runner is not None:
      self._runner.close()


def _write(gathered, path):
  """Writes Moments as arrays, whole or not at all."""
  held = io.BytesIO()
  np.savez(
    held,
    **{
      f"{i}/{name}": value
      for i, moments in enumerate(gathered)
      for name, value in moments.state.items()
    },
  )
  with writing.whole_file(path, [held.getvalue()]):
    pass


def _read(path, count):
  """The Moments that `_write` wrote."""
  with tf1.gfile.GFile(path, "rb") as f:
    with np.load(io.BytesIO(f.read()), allow_pickle=False) as arrays:
      states = [{} for _ in range(count)]
      for key in arrays.files:
        i, _, name = key.partition("/")
        states[int(i)][name] = arrays[key]
  return [Moments.of_state(state) for state in states]
