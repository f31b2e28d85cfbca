# SPDX-License-Identifier: Apache-2.0
"""What commands cost is linear in a graph, whatever its shape is.

`scripts/bench --only=shapes` has graphs of 10,000 and 100,000 nodes.
"""

from __future__ import annotations

import pytest
from absl import flags
from absl.testing import flagsaver
from judges import shapes
from judges.commands import COMMANDS
from judges.counting import assert_linear

from bnexport.batchnorm import (
  averages,
  fixed_points,
  inverses,
  pieces,
  settling,
)
from bnexport.cli import process

SMALL, LARGE = 150, 600
# How far is looked back from an update; small, so that small graphs go beyond.
BOUNDS = (
  (averages, "MOST_BEHIND", 40),
  (settling, "MOST_BEHIND", 40),
  (pieces, "MOST_BEHIND", 40),
  (inverses, "_MOST_BEHIND", 10),
  (fixed_points, "_MOST_DEPTH", 10),
)
ASKED = sorted(shapes.COMMANDS)
# Every second is two commands of each shape, in turn.
PAIRS = [
  (shape, ASKED[(i + k) % len(ASKED)])
  for i, shape in enumerate(sorted(shapes.SHAPES))
  for k in range(len(ASKED))
]


@pytest.mark.part(2, 0)
@pytest.mark.parametrize("shape, command", PAIRS)
def test_cost_is_linear(tmp_path, capsys, monkeypatch, shape, command):
  for module, name, bound in BOUNDS:
    monkeypatch.setattr(module, name, bound)

  def prepare(count):
    path = str(tmp_path / f"{count}.pb")
    with open(path, "wb") as f:
      f.write(shapes.make(shape, count).SerializeToString())
    shapes.save(path + ".ckpt")

    def work():
      with flagsaver.flagsaver():
        argv = flags.FLAGS(shapes.arguments(command, path))
        status = process.status_of(COMMANDS[command].main, argv)
        assert status in (0, 2, 3)

    return work

  prepare(20)()  # what is imported and made once
  assert_linear(prepare, SMALL, LARGE)
