# SPDX-License-Identifier: Apache-2.0
"""Findings as a table for the README."""

from __future__ import annotations

from benchmarks.results import Table

_TITLES = {
  "newest": "newest TF",
  "saved_model": "SavedModel",
  "tflite": "TFLite",
  "onnx": "ONNX Runtime",
  "opencv": "OpenCV",
  "openvino": "OpenVINO",
  "tfjs": "TensorFlow.js",
  "coreml": "Core ML",
}


def markdown(rows):
  """Findings by network and place, with a note on each that does not hold."""
  notes, lines = [], []
  for network, row in rows.items():
    lines.append((network, *(_cell(one, notes) for one in row.values())))
  places = next(iter(rows.values()))
  titles = [_TITLES.get(place, "TF " + place) for place in places]
  text = Table(("network", *titles), lines).markdown()
  if notes:
    text += "\n" + "".join(
      "%d. %s\n" % (i + 1, note) for i, note in enumerate(notes)
    )
  return text


def _cell(finding, notes):
  if finding.fault is None and finding.off is None:
    return "converts"
  if finding.fault is None:
    off = "%.0e" % finding.off if finding.off else "0"
    return off if finding.holds else "**%s**" % off
  if finding.fault not in notes:
    notes.append(finding.fault)
  return "no (%d)" % (notes.index(finding.fault) + 1)
