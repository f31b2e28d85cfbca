# SPDX-License-Identifier: Apache-2.0
"""Lines: their width, what is cut, and what stays whole."""

import shlex

import pytest

from bnexport.report import layout
from bnexport.report.layout import Line, Section, fitted, wrapped

NAME = "'" + "/".join(f"scope{i}" for i in range(40)) + "'"
PATH = "/".join(["folder"] * 30) + "/graph.pb"


@pytest.mark.parametrize("width", [40, 60, 100])
def test_prose_is_wrapped(width):
  text = "a norm and what it stands for; " * 20 + NAME
  lines = wrapped(text, width, start="  ")
  assert all(len(line) <= width for line in lines)
  assert lines[0].startswith("  a norm") and lines[1].startswith("    ")
  words = " ".join(lines).split()
  assert words[:-1] == text.split()[:-1]
  cut = words[-1]
  start, end = cut.split("...")
  assert NAME.startswith(start) and NAME.endswith(end)


def test_a_word_that_nobody_copies_is_cut():
  (line,) = wrapped("x" * 999, 60)
  assert len(line) <= 60 and "x...x" in line


def test_a_path_stays_whole():
  for text in (f"{PATH}: 3 nodes", f"python -m bnexport.freeze --x={PATH}"):
    assert PATH in " ".join(wrapped(text, 60))


@pytest.mark.parametrize("width", [50, 100])
def test_a_command_can_be_pasted(width):
  command = "python -m bnexport.freeze " + " ".join(
    f"--flag{i}='a b {i}' \"--other=it's\"" for i in range(9)
  )
  lines = wrapped(command, width, start="    ")
  assert all(len(line) <= width for line in lines)
  pasted = "\n".join(lines).replace("\\\n", "")
  assert shlex.split(pasted) == shlex.split(command)


def test_a_table_fits():
  rows = [
    [f"net/{'deep/' * 30}norm{i}", f"{i} norms", "", "ok"] for i in (1, 2)
  ]
  lines = layout.table(rows, 60, ["", layout.BAD])
  assert [len(line) for line in lines] == [60, 60]
  assert lines[0].startswith("net/deep") and lines[0].endswith("1 norms  ok")
  assert lines[1].style == layout.BAD and "norm2  2 norms" in lines[1]
  assert layout.table([["a", "b"]], 60) == ["a  b"]


def section(title, count, **more):
  entries = [[Line(f"{title} {i}")] for i in range(count)]
  return Section(title, entries, **more)


def test_what_has_room_is_shown_whole():
  assert fitted([Line("head")], [section("s", 3), section("t", 0)]) == [
    *("head", "", "s", "  s 0", "  s 1", "  s 2")
  ]


def test_the_longest_is_cut_first_and_counts_what_is_left():
  sections = [section("s", 3), section("t", 16, counts=[2] * 16)]
  lines = fitted([Line("head")], sections, height=20)
  assert len(lines) == 20
  assert "  s 2" in lines
  shown = [line for line in lines if line.startswith("  t ")]
  left = 2 * (16 - len(shown))
  assert lines[-1] == f"  and {left} more; --verbose shows all"


def test_what_is_to_stay_stays_longer():
  sections = [section("s", 9), section("t", 12, least=12)]
  lines = fitted([], sections, height=20)
  assert "  t 11" in lines and "  s 2" in lines and "  s 3" not in lines
  sections = [section("s", 3), section("t", 6, least=6, rank=1)]
  lines = fitted([], sections, height=12)
  assert "  t 5" in lines and "  s 0" in lines and "  s 2" not in lines
  lines = fitted([], sections, height=8)
  assert len(lines) <= 8 and "  t 0" in lines and "  s 0" in lines


def test_what_matters_least_keeps_its_title():
  sections = [section("s", 3, rank=-1), section("t", 3, rank=1)]
  lines = fitted([], sections, height=7)
  assert lines == ["", "s", "", "t", "  t 0", "  t 1", "  t 2"]


def test_a_section_has_a_most():
  lines = fitted([], [section("s", 9, most=4)])
  assert lines[-2:] == ["  s 3", "  and 5 more; --verbose shows all"]


def test_one_entry_of_each_stays_however_little_room_there_is():
  entries = [[Line("a"), Line("b"), Line("c")], [Line("d")]]
  lines = fitted([Line("head")], [Section("s", entries)], height=2)
  assert lines == [
    *("head", "", "s", "  a", "  b", "  c"),
    "  and 1 more; --verbose shows all",
  ]


def test_emphasis_stays_with_its_line():
  entries = [[Line("bad", layout.BAD)]]
  head = Line("good", layout.GOOD)
  lines = fitted([head], [Section("s", entries)])
  assert [line.style for line in lines] == [
    *(layout.GOOD, "", layout.TITLE, layout.BAD)
  ]


@pytest.mark.parametrize(
  "size, said",
  [(7, "7 bytes"), (1640, "1.64 KB"), (25e6, "25 MB"), (3e12, "3e+03 GB")],
)
def test_sizes(size, said):
  assert layout.size_of(size) == said
