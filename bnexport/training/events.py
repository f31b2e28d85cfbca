# SPDX-License-Identifier: Apache-2.0
"""Scalars and histograms in TensorBoard's event files."""

from __future__ import annotations

from typing import Mapping, Optional

import numpy as np

from bnexport.tf1 import tf1

_BUCKETS = 30


def write(
  directory: Optional[str],
  step: int,
  scalars: Mapping[str, float],
  histograms: Optional[Mapping[str, np.ndarray]] = None,
) -> None:
  """Adds values of one step to the event file of a directory.

  Args:
    directory: where TensorBoard looks; None writes nothing.
    step: the global step.
    scalars: numbers by tag.
    histograms: arrays by tag, of which the finite elements count.
  """
  if directory is None:
    return
  summary = tf1.Summary()
  for tag, number in scalars.items():
    summary.value.add(tag=tag, simple_value=float(number))
  for tag, array in (histograms or {}).items():
    finite = np.asarray(array, np.float64)[np.isfinite(array)]
    if finite.size:
      summary.value.add(tag=tag).histo.CopyFrom(_histogram(finite))
  with tf1.Graph().as_default():  # it refuses where TensorFlow runs eagerly
    writer = tf1.summary.FileWriterCache.get(directory)
  writer.add_summary(summary, step)
  writer.flush()


def _histogram(values):
  counts, edges = np.histogram(values, bins=_BUCKETS)
  return tf1.HistogramProto(
    min=values.min(),
    max=values.max(),
    num=values.size,
    sum=values.sum(),
    sum_squares=np.square(values).sum(),
    bucket_limit=edges[1:],
    bucket=counts,
  )
