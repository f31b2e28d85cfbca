# SPDX-License-Identifier: Apache-2.0
"""The benchmark's parts, tiny: what they write, not how fast it was."""

import os
import re
import subprocess
import sys

import pytest
from judges.commands import ROOT
from judges.shapes import COMMANDS, SHAPES

sys.path.insert(0, os.path.join(ROOT, "scripts"))

from benchmarks import __main__ as bench  # noqa: E402
from benchmarks import growth, proving, results, startup, timing  # noqa: E402

pytestmark = pytest.mark.newest(
  "what a benchmark writes hangs on no TensorFlow"
)


def tables(markdown):
  """Tables as lists of rows, rows as lists of cells."""
  found = []
  for block in re.findall(r"(?:^\|.*\|\n)+", markdown, re.M):
    lines = [line[2:-2].split(" | ") for line in block.splitlines()]
    assert all(set(cell) <= set("-:") for cell in lines[1]), block
    assert len({len(line) for line in lines}) == 1, block
    found.append([lines[0]] + lines[2:])
  return found


def write_and_return(monkeypatch, capsys, *arguments):
  """Runs the benchmark in this process; returns its stdout."""
  monkeypatch.setattr(sys, "argv", ["bench", "--small"] + list(arguments))
  # TensorFlow is asked for its version in a process.
  monkeypatch.setattr(
    bench, "run_python", lambda *_: timing.Run(0.0, 0, "2.0\n")
  )
  bench.main()
  return capsys.readouterr().out


def test_growth_is_written_with_goals(monkeypatch, capsys, tmp_path):
  monkeypatch.setattr(growth, "_SIZES_SMALL", (100, 200, 400))
  path = tmp_path / "bench.md"
  out = write_and_return(
    monkeypatch, capsys, "--only=growth", "--out=%s" % path
  )
  assert path.read_text() in out
  steps, goals = tables(out)
  assert steps[0][0] == "step" and steps[0][-1] == "growth"
  names = [row[0] for row in steps[1:]]
  assert names[0] == "**all steps**"
  assert {"`decide`", "`use_stored_statistics`", "write the graph"} < set(names)
  assert all(float(cell) >= 0 for row in steps[1:] for cell in row[1:])
  assert goals[0] == ["goal", "limit", "ratio", "verdict"]
  assert "growth of **all steps**" in [row[0] for row in goals[1:]]


def test_steps_do_not_count_twice():
  clock = growth._Clock()
  with clock.step(growth._WHOLE):
    with clock.step("outer"):
      with clock.step("inner"):
        pass
  parts = clock.seconds["outer"] + clock.seconds["inner"]
  assert parts <= clock.seconds[growth._WHOLE]


def test_startup_is_written_with_goals(monkeypatch):
  def run_python(*arguments, statuses=(0,)):
    takes = "import" in arguments[-1]
    return timing.Run(10.0 if takes else 1.0, 100 if takes else 1, "")

  monkeypatch.setattr(startup, "run_python", run_python)
  times, goals = tables(startup.measure(is_small=True).markdown())
  assert times[1:][0][:4] == ["`python -c pass`", "1.00", "1.00", "0.10"]
  assert len(goals) == 11 and {row[-1] for row in goals[1:]} == {"holds"}


def test_proving_is_written_with_ratios(monkeypatch):
  def networks_of(is_small, image):
    return {"small": built["small"]}

  built = proving._networks(is_small=True, image=32)
  monkeypatch.setattr(proving, "_networks", networks_of)
  times, goals = tables(proving.measure(is_small=True).markdown())
  assert times[0][1:4] == ["none", "quick", "full"]
  assert times[1][0] == "small" and all(float(c) > 0 for c in times[1][1:])
  assert goals[1][0] == "full over none, at worst: small"


def test_shapes_are_written_with_each_command():
  paths = [os.path.join(ROOT, name) for name in ("", "scripts", "tests")]
  some = dict.fromkeys(("names", "norms"))
  script = (
    "from benchmarks import shapes; from judges.shapes import SHAPES\n"
    f"for name in set(SHAPES) - {set(some)}: del SHAPES[name]\n"
    "print(shapes.measure(True).markdown())"
  )
  out = subprocess.run(
    [sys.executable, "-c", script],
    stdout=subprocess.PIPE,
    universal_newlines=True,
    check=True,
    env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths)),
  ).stdout
  costs, goals = tables(out)
  assert costs[0] == ["shape", "nodes", *COMMANDS]
  rows = costs[1:]
  assert {row[0] for row in rows} == set(some) < set(SHAPES)
  for i, pattern in enumerate([r"\d+ lines", r"\d+ lines", r"\d+ ms \d+ MB"]):
    cells = [cell for row in rows[i::3] for cell in row[2:]]
    assert all(re.match(pattern + "( refused)?$", cell) for cell in cells)
  assert [row[0] for row in goals[1:]] == [
    f"growth on {s}" for s in SHAPES if s in some
  ]


@pytest.mark.parametrize(
  "is_least, verdict",
  [
    (False, "**does not hold**"),
    (True, "holds"),
  ],
)
def test_goal_says_whether_it_holds(is_least, verdict):
  goal = results.Goal("speed", 3.0, 2.0, is_least)
  assert goal.row()[-1] == verdict
  assert results.Goal("speed", 2.0, 2.0, is_least).holds


def test_processes_are_timed_and_weighed():
  script = """
from benchmarks import timing
small = timing.run_python("-c", "print(1)")
large = timing.run_python("-c", "x = b'x' * (1 << 28)")
print(small.out.strip(), small.seconds > 0, large.peak - small.peak)
"""
  # By a process that is small itself, as the benchmark is.
  out, is_timed, more = timing.run_python("-c", script).out.split()
  assert (out, is_timed) == ("1", "True")
  assert 0.9 * (1 << 28) < int(more) < 1.2 * (1 << 28)


def test_failing_process_ends_the_benchmark():
  with pytest.raises(SystemExit, match="status 3:\nno"):
    timing.run_python("-c", "import sys; sys.stderr.write('no'); sys.exit(3)")
  assert timing.run_python("-c", "import sys; sys.exit(3)", statuses=(3,))


def test_runs_take_turns():
  order = []
  runs = {name: (lambda name=name: order.append(name)) for name in "abc"}
  timing.interleave(runs, 3)
  assert "".join(order) == "abcbcacab"


def test_plot_is_drawn(tmp_path):
  pytest.importorskip("matplotlib")
  from benchmarks import plot

  chart = results.Chart("t", "s", ["a", "b"], {"x": [1.0, 2.0], "y": [2, 3]})
  plot.write(str(tmp_path / "bench.svg"), [chart, chart])
  assert "<svg" in (tmp_path / "bench.svg").read_text()


def test_unknown_part_is_refused(monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["bench", "--only=speed"])
  with pytest.raises(SystemExit):
    bench.main()
  assert "there is no part 'speed'" in capsys.readouterr().err
