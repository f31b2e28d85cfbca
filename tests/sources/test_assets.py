# SPDX-License-Identifier: Apache-2.0
"""Tables that a SavedModel's files fill hold their entries themselves."""

import pytest

from bnexport import text
from bnexport.errors import SourceError
from bnexport.graph import Graph
from bnexport.graph.nodes import constant_value
from bnexport.sources import assets
from bnexport.tf1 import session

WHOLE_LINE, NUMBER = -2, -1
TABLE = """
  path = Const() {value=<string "assets/words.txt">}
  t = HashTableV2() {key_dtype=%s, value_dtype=%s, shared_name="t"}
  fill = InitializeTableFromTextFileV2(t, path)
         {key_index=%d, value_index=%d, vocab_size=-1}
"""
WORDS = TABLE % ("string", "int64", WHOLE_LINE, NUMBER)
LOOK_UP = """
  k = Placeholder() {shape=[?], dtype=string}   d = Const() {value=<int64 -1>}
  y = LookupTableFindV2(t, k, d)
"""


@pytest.fixture
def words(tmp_path):
  path = tmp_path / "words.txt"
  path.write_text("zebra\nant\ncat\n")
  return str(path)


def held(statements, files):
  graph = Graph(text.loads(statements))
  assets.hold_entries(graph, files)
  graph.lint()
  return graph


def entries(graph, name="fill"):
  return [constant_value(graph, ref).tolist() for ref in graph.inputs(name)[1:]]


def test_entries_are_constants_sorted_by_key(words):
  graph = held(WORDS, {"path:0": words})
  assert graph.op("fill") == "InitializeTableV2"
  assert entries(graph) == [[b"ant", b"cat", b"zebra"], [1, 2, 0]]


def test_table_gives_what_the_file_said(words):
  graph = held(WORDS + LOOK_UP, {"path:0": words})
  imported = graph.to_tf_graph()
  with imported.as_default(), session(imported) as running:
    running.run("fill")
    found = running.run("y:0", {"k:0": ["cat", "dog", "zebra"]})
  assert found.tolist() == [2, -1, 0]


def test_columns_of_a_file(tmp_path):
  path = tmp_path / "pairs.tsv"
  path.write_text("7\tb\n3\ta\n")
  statements = TABLE % ("int64", "string", 0, 1)
  graph = held(statements, {"path:0": str(path)})
  assert entries(graph) == [[3, 7], [b"a", b"b"]]


def test_path_that_tensorflow_2_puts_into_a_variable(words):
  graph = held(
    """
    given = Placeholder() {shape=[], dtype=string}
    h = VarHandleOp() {shape=[], dtype=string, shared_name="h"}
    a = AssignVariableOp(h, given)   path = ReadVariableOp(h) {dtype=string}
  """
    + WORDS.partition("\n")[2].partition("\n")[2],
    {"given:0": words},
  )
  assert entries(graph)[0] == [b"ant", b"cat", b"zebra"]


@pytest.mark.parametrize(
  "statements, files",
  [
    (WORDS, {"other:0": "words.txt"}),
    (WORDS.replace("HashTableV2", "MutableHashTableV2"), {"path:0": "w"}),
    ("fill = NoOp()", {"path:0": "w"}),
  ],
)
def test_other_tables_stay(statements, files):
  graph = Graph(text.loads(statements))
  assert not assets.is_held(graph, "fill", files)
  assets.hold_entries(graph, files)
  assert graph.to_graph_def() == Graph(text.loads(statements)).to_graph_def()


@pytest.mark.parametrize("content", [None, "ant\nant\n"])
def test_files_that_tensorflow_does_not_read(tmp_path, content):
  path = tmp_path / "words.txt"
  if content is not None:
    path.write_text(content)
  with pytest.raises(SourceError) as refused:
    held(WORDS, {"path:0": str(path)})
  assert f"cannot fill lookup table 't' from '{path}'" in str(refused.value)
  assert "\n" not in str(refused.value)
