# SPDX-License-Identifier: Apache-2.0
"""Names and words that would mean something to a terminal or a browser."""

from __future__ import annotations

import json

import pytest
from judges.commands import assert_refused, run

from bnexport import text
from bnexport.errors import printable
from bnexport.report import terminal
from bnexport.report.escaping import escaped
from bnexport.report.markdown import _text

HOSTILE = "red\x1b[31m line\nbreak right\u202eleft tab\t nul\0 lone\udc80"
PLAIN = r"red\x1b[31m line\nbreak right\u202eleft tab\t nul\x00 lone\udc80"


def test_what_is_no_text_is_escaped():
  assert printable(HOSTILE) == PLAIN
  assert printable(PLAIN) == PLAIN
  assert printable("é → 日本 − ok") == "é → 日本 − ok"


def test_long_words_are_cut_and_lines_are_not():
  cut = printable("'" + 5000 * "a" + "' is long " + 90 * "word ")
  assert len(cut) < 1000
  assert "...(4602 more)..." in cut and cut.endswith(90 * "word ")
  assert printable(5000 * "a", is_cut=False) == 5000 * "a"


def test_facts_are_escaped_whatever_holds_them():
  said = {"a": [HOSTILE, {"b": (HOSTILE, 1, None)}]}
  assert escaped(said) == {"a": [PLAIN, {"b": [PLAIN, 1, None]}]}


def test_an_overview_is_escaped():
  said = {
    "kind": HOSTILE,
    "file": HOSTILE,
    "size": None,
    "nodes": 1,
    "parameters": 0,
    "functions": 0,
    "control_flow": {},
    "producer": 1,
    "inputs": [],
    "outputs": [{"name": HOSTILE, "op": "A", "dtype": None, "shape": None}],
    "batch_norms": [],
    "variables": [],
    "ops": {"A": 1},
  }
  lines = terminal.overview(said).split("\n")
  assert all(line.isprintable() for line in lines)
  assert any(PLAIN in line for line in lines)


def test_marks_of_markdown_stand_for_themselves():
  assert _text("a|b<i>`c`&lt;[d](e)") == (
    "a\\|b&lt;i>&#96;c&#96;&amp;lt;[d]\\(e)"
  )


@pytest.mark.parametrize("command", ["inspect", "repair"])
def test_a_refusal_is_one_line_of_text(capsys, tmp_path, command):
  path = str(tmp_path / "of\x1b[31m\n\u202e.pb")
  arguments = [f"--graph_def={path}", "--output_node=y"]
  result = run(capsys, *arguments, command=command)
  assert_refused(result, "no such file", r"of\x1b[31m")
  assert result.err[:-1].isprintable()


def test_a_path_that_is_no_utf8_is_a_refusal(capsys, tmp_path):
  path = str(tmp_path) + "/\udcff.pb"
  result = run(capsys, f"--graph_def={path}", command="inspect")
  assert_refused(result, r"\udcff")


def test_a_fix_is_quoted_for_the_shell(capsys, tmp_path):
  path = tmp_path / "it's $(touch gone); .pb"
  graph = text.loads("x = Placeholder()\ny = Relu(x)")
  graph.node[1].input[:] = ["gone"]
  path.write_bytes(graph.SerializeToString())
  result = run(
    capsys, f"--graph_def={path}", "--format=json", command="inspect"
  )
  (found,) = json.loads(result.out)["findings"]
  quoted = "'--graph_def={}'".format(str(path).replace("'", "'\"'\"'"))
  assert quoted in found["fix"]
