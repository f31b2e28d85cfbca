# SPDX-License-Identifier: Apache-2.0
"""stdout and stderr of a command: colours, width, and TensorFlow's chatter."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from absl import flags
from absl.testing import flagsaver
from judges.commands import ROOT, run_process

from bnexport import text
from bnexport.cli import printing
from bnexport.report import layout

CASE = "layers_fused_literal"
GRAPH = """
x = Placeholder() {dtype=float, shape=[?,2]}
k = Const() {value=<float [2,2] 1 2 3 4>}
y = MatMul(x, k)
"""
COLOUR = re.compile("\x1b\\[[0-9;]*m")


@pytest.fixture
def case(cases):
  return cases(CASE)


def on_a_terminal(arguments, columns=100, **environment):
  """What a command prints on a terminal of so many columns."""
  ours, theirs = pty.openpty()
  size = struct.pack("HHHH", 40, columns, 0, 0)
  fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
  known = dict(os.environ, PYTHONPATH=ROOT, TERM="xterm-256color")
  for name in ("NO_COLOR", "COLUMNS", "LINES"):
    known.pop(name, None)
  known.update(environment)
  done = subprocess.Popen(
    [sys.executable, "-m", "bnexport", *arguments],
    stdout=theirs,
    stderr=subprocess.DEVNULL,
    env=known,
  )
  os.close(theirs)
  pieces = []
  while True:
    try:
      piece = os.read(ours, 1 << 16)
    except OSError:  # nobody has the other end any more
      break
    if not piece:
      break
    pieces.append(piece)
  os.close(ours)
  done.wait()
  return b"".join(pieces).decode().replace("\r\n", "\n")


@pytest.fixture
def graph(tmp_path):
  path = tmp_path / "graph.pb"
  path.write_bytes(text.loads(GRAPH).SerializeToString())
  return str(path)


# Colours and width.


@pytest.mark.newest("a terminal is none of TensorFlow's")
def test_a_terminal_has_colours(graph):
  pytest.importorskip("rich")
  given = ["inspect", f"--graph_def={graph}"]
  coloured = on_a_terminal(given)
  assert COLOUR.search(coloured)
  assert re.search("\x1b\\[1mlikely inputs\x1b\\[0m", coloured)
  plain = run_process("-m", "bnexport", *given)
  assert COLOUR.sub("", coloured) == plain.out
  assert "\x1b" not in plain.out


@pytest.mark.newest("a terminal is none of TensorFlow's")
@pytest.mark.parametrize(
  "environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str
)
def test_a_terminal_that_wants_no_colours(graph, environment):
  given = ["inspect", f"--graph_def={graph}"]
  assert "\x1b" not in on_a_terminal(given, **environment)


@pytest.mark.newest("a terminal is none of TensorFlow's")
def test_an_empty_no_color_is_none(graph):
  pytest.importorskip("rich")
  given = ["inspect", f"--graph_def={graph}"]
  assert COLOUR.search(on_a_terminal(given, NO_COLOR=""))


@pytest.mark.newest("a terminal is none of TensorFlow's")
def test_lines_are_as_wide_as_the_terminal(graph):
  given = ["inspect", f"--graph_def={graph}"]
  wide = COLOUR.sub("", on_a_terminal(given, 200)).splitlines()
  narrow = COLOUR.sub("", on_a_terminal(given, 62)).splitlines()
  path = len(graph) + len(": frozen graph,")
  assert max(map(len, narrow)) <= max(62, path)
  assert len(narrow) > len(wide)


def test_without_rich_it_is_plain(capsys, monkeypatch):
  known = printing.importlib.util.find_spec
  monkeypatch.setattr(
    printing.importlib.util,
    "find_spec",
    lambda name: None if name == "rich" else known(name),
  )
  monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
  monkeypatch.delenv("NO_COLOR", raising=False)
  monkeypatch.setenv("TERM", "xterm")
  with flagsaver.flagsaver():
    flags.FLAGS(["inspect"])
    printing.show(lambda _: [layout.Line("bad", layout.BAD)], lambda: "all")
  assert capsys.readouterr().out == "bad\n"


# TensorFlow's chatter.


def freeze(case, tmp_path, *more, **options):
  environment = dict(os.environ, PYTHONPATH=ROOT)
  for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
    environment.pop(name, None)  # as a user has it
  return subprocess.run(
    [
      *(sys.executable, "-m", "bnexport.freeze"),
      f"--checkpoint={case.prefix}",
      f"--output_node={case.output}",
      f"--output_graph={tmp_path}/made.pb",
      *more,
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    universal_newlines=True,
    env=environment,
    **options,
  )


def test_nothing_of_tensorflow_is_on_stderr(case, tmp_path):
  done = freeze(case, tmp_path)
  assert done.returncode == 0, done.stderr
  lines = done.stderr.splitlines()
  assert lines[-1] == "bnexport: importing it again and comparing"
  assert all(line.startswith("bnexport: ") for line in lines), done.stderr


# A stand-in for TensorFlow: it writes as its libraries do, then ends somehow.
CHATTER = """
import os, sys, warnings
from bnexport import silence
silence.ask()
warnings.warn("`tf.layers.dense` is deprecated and will be removed")
print("before", file=sys.stderr)
try:
  with silence.starting():
    os.write(2, b"chatter of a library\\n")
    print("said by Python", file=sys.stderr)
    {ends}
except ImportError as error:
  print("caught", error, file=sys.stderr)
with silence.starting():
  os.write(2, b"more chatter\\n")
os.write(2, b"an error later\\n")
print("after", file=sys.stderr)
"""


@pytest.mark.parametrize(
  "ends, status, said",
  [
    ("pass", 0, ["before", "said by Python", "an error later", "after"]),
    (
      "os.abort()",
      -6,
      ["before", "said by Python", "chatter of a library"],
    ),
    (
      "os.kill(os.getpid(), 9)",
      -9,
      ["before", "said by Python", "chatter of a library"],
    ),
    ("sys.exit(3)", 3, ["before", "said by Python"]),
    (
      "raise ImportError('no library')",
      0,
      [
        *("before", "said by Python", "chatter of a library"),
        *("caught no library", "an error later", "after"),
      ],
    ),
  ],
)
def test_chatter_is_shown_where_it_ends_the_process(ends, status, said):
  result = run_process("-c", CHATTER.format(ends=ends))
  assert result.status == status
  assert result.err.splitlines() == said


def test_a_library_leaves_stderr_alone():
  code = CHATTER.replace("silence.ask()\n", "").format(ends="pass")
  result = run_process("-c", code)
  assert "chatter of a library" in result.err and "more chatter" in result.err


def test_nobody_waits_for_what_holds_it():
  """A pipe's reader has its end when the command ends."""
  code = "import os\n" + CHATTER.format(ends="pass") + "print('out')\n"
  command = f'{sys.executable} -c "$CODE" 2>/dev/null | cat'
  environment = dict(os.environ, PYTHONPATH=ROOT, CODE=code)
  done = subprocess.run(
    ["sh", "-c", command],
    stdout=subprocess.PIPE,
    env=environment,
    timeout=60,
    universal_newlines=True,
  )
  assert done.stdout == "out\n"
