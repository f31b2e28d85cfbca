# SPDX-License-Identifier: Apache-2.0
"""The families of the zoo, in the order in which they are made."""

import importlib

FAMILIES = (
  "contrib_norms",
  "layers_norms",
  "phases",
  "phases_anywhere",
  "hand_averages",
  "hand_updates",
  "hand_formulas",
  "control_flow",
  "loops",
  "keras_norms",
  "dropouts",
  "noises",
  "noises_other",
  "decoys",
  "kept",
  "states",
  "weights",
  "saved_averages",
  "pipelines",
  "towers",
  "networks",
  "networks_other",
  "quantized",
  "tpu_programs",
  "functions",
  "answers",
  "refused",
  "inverted_averages",
  "shared_averages",
  "written_values",
)


def recipes():
  """All recipes; raises ValueError where a name is used twice."""
  rows = []
  for family in FAMILIES:
    rows.extend(importlib.import_module("tests.zoo." + family).RECIPES)
  names = [row.name for row in rows]
  twice = sorted({n for n in names if names.count(n) > 1})
  if twice:
    raise ValueError("used twice: %s" % ", ".join(twice))
  return rows
