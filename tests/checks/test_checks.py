# SPDX-License-Identifier: Apache-2.0
"""Every code of the catalogue: its bad example, its good one, and its fix."""

import shlex

import numpy as np
import pytest
from judges.commands import assert_refused, run
from judges.examples import dump, write
from judges.opening import asked

from bnexport import checks, text
from bnexport.checks.rule import NOTE
from bnexport.checks.subject import Subject
from bnexport.graph.nodes import Signatures
from bnexport.model.request import Request
from bnexport.report import examination
from bnexport.sources.contents import Contents


def codes(named):
  return [f.code for f in examination.look(*asked(**named)).findings]


@pytest.mark.parametrize("code", sorted(checks.BY_CODE))
def test_bad_example_raises_exactly_the_code(tmp_path, code):
  named = write(checks.BY_CODE[code].bad, tmp_path)
  assert set(codes(named)) == {code}


@pytest.mark.parametrize("code", sorted(checks.BY_CODE))
def test_good_example_raises_nothing(tmp_path, code):
  assert codes(write(checks.BY_CODE[code].good, tmp_path)) == []


@pytest.mark.parametrize("code", sorted(checks.BY_CODE))
def test_fix_clears_the_bad_example(tmp_path, code, capsys, monkeypatch):
  """The fix is pasted: only files of the user's own are named in it."""
  monkeypatch.chdir(tmp_path)
  named = write(checks.BY_CODE[code].bad, tmp_path)
  found = examination.look(*asked(**named)).findings[0]
  words = shlex.split(found.fix.command())
  assert words[:2] == ["python", "-m"]
  command = words[2][len("bnexport.") :]
  fixed = str(tmp_path / "fixed.pb")
  result = run(capsys, "--output_graph=" + fixed, *words[3:], command=command)
  # Its checkpoint holds no value for the table, which is too large to write.
  assert result.status == (2 if code == "BN403" else 0), result
  outputs = [w for w in words if w.startswith("--output_node=")]
  again = dict(
    graph_def=fixed,
    outputs=outputs[0].partition("=")[2].split(","),
    target_tf=named["target_tf"],
  )
  assert codes(again) == []


@pytest.mark.parametrize("code", sorted(checks.BY_CODE))
def test_page_says_everything(code):
  page = checks.explain(code.lower())
  rule = checks.BY_CODE[code]
  for part in (code, rule.title, "How it comes about", "How to fix it"):
    assert part in page
  assert text.loads(rule.bad.graph) and text.loads(rule.good.graph)
  assert rule.bad != rule.good
  assert len(rule.code_sample.strip().splitlines()) >= 2
  assert max(map(len, page.splitlines())) <= 84


def test_severities_are_known():
  assert {rule.severity for rule in checks.RULES} <= {"error", "warning", NOTE}


# What the examples do not show.


def find(folder, graph, outputs=("y",), **named):
  """The findings about a graph in the notation of bnexport.text."""
  path = str(folder / "graph.pb")
  dump(text.loads(graph), path)
  return examination.look(
    *asked(graph_def=path, outputs=outputs, **named)
  ).findings


def fix(capsys, folder, finding):
  """Runs a finding's command; returns the findings about what it writes."""
  words = shlex.split(finding.fix.command())
  fixed = str(folder / "fixed.pb")
  command = words[2][len("bnexport.") :]
  result = run(capsys, "--output_graph=" + fixed, *words[3:], command=command)
  assert result.status == 0, result
  outputs = [w for w in words if w.startswith("--output_node=")]
  names = outputs[0].partition("=")[2].split(",")
  return examination.look(*asked(graph_def=fixed, outputs=names)).findings


def test_all_inputs_are_named_where_some_are_cut(capsys, tmp_path):
  found = find(
    tmp_path,
    """
    x = Placeholder() {shape=[?,3]}
    z = Placeholder() {shape=[?,3]}
    a = PyFunc(x) {token="a", Tout=(float, float)}
    b = PyFunc(a) {token="b", Tout=(float)}
    c = Add(a:1, z)
    y = Add(b, c)
    """,
  )
  assert [f.code for f in found] == ["BN406"]
  assert "(as 1 more)" in found[0].message
  assert found[0].fix.command().endswith(" --input_node=b,a:1,z")
  assert fix(capsys, tmp_path, found[0]) == []


def test_table_from_a_file(capsys, tmp_path):
  found = find(
    tmp_path,
    """
    x = Placeholder() {dtype=string, shape=[?]}
    file = Const() {value=<string "vocab.txt">}
    table = HashTableV2() {key_dtype=string, value_dtype=int64}
    fill = InitializeTableFromTextFileV2(table, file)
    none = Const() {value=<int64 0>}
    ids = LookupTableFindV2(table, x, none) {Tin=string, Tout=int64}
    y = Cast(ids) {SrcT=int64, DstT=float}
    """,
  )
  assert [(f.code, f.node) for f in found] == [("BN406", "ids")]
  assert found[0].fix.command().endswith(" --input_node=ids")
  assert fix(capsys, tmp_path, found[0]) == []


def test_table_from_constants_is_fine(tmp_path):
  graph = """
    x = Placeholder() {dtype=string, shape=[?]}
    keys = Const() {value=<string [2] "a" "b">}
    values = Const() {value=<int64 [2] 1 2>}
    table = HashTableV2() {key_dtype=string, value_dtype=int64}
    fill = InitializeTableV2(table, keys, values)
    none = Const() {value=<int64 0>}
    ids = LookupTableFindV2(table, x, none) {Tin=string, Tout=int64}
    y = Cast(ids) {SrcT=int64, DstT=float}
    """
  assert find(tmp_path, graph) == []


def test_output_that_is_unknown_gives_way_to_what_it_reads(capsys, tmp_path):
  found = find(
    tmp_path,
    """
    x = Placeholder() {shape=[?,3]}
    h = Relu(x)
    inner = OursAgain(h)
    y = Ours(inner)
    """,
  )
  assert {f.code for f in found} == {"BN405"}
  assert found[0].fix.command().endswith(" --output_node=h")
  assert fix(capsys, tmp_path, found[0]) == []


def test_unknown_op_that_nothing_needs(capsys, tmp_path):
  """TensorFlow refuses the file all the same."""
  found = find(
    tmp_path, "x = Placeholder() {shape=[?,3]}\ny = Relu(x)\nz = Ours(x)"
  )
  assert [(f.code, f.node) for f in found] == [("BN405", "z")]
  assert found[0].fix.command().endswith(" --output_node=y")
  assert fix(capsys, tmp_path, found[0]) == []


def test_cut_where_nothing_tells_the_dtype(capsys, tmp_path):
  find(tmp_path, "x = Placeholder()\na = Ours(x)\ny = OursAgain(a)")
  path = str(tmp_path / "graph.pb")
  result = run(
    capsys,
    "--graph_def=" + path,
    "--output_node=y",
    "--input_node=a",
    command="repair",
  )
  assert_refused(result, "cannot cut at 'a'", "'Ours'")


def test_dtype_of_an_unknown_op_is_its_readers(capsys, tmp_path):
  find(
    tmp_path,
    """
    x = Placeholder() {shape=[?]}
    a = Ours(x)
    y = Cast(a:1) {SrcT=int32, DstT=float}
    """,
  )
  fixed = str(tmp_path / "fixed.pb")
  result = run(
    capsys,
    "--graph_def=%s" % (tmp_path / "graph.pb"),
    "--output_node=y",
    "--input_node=a:1",
    "--output_graph=" + fixed,
    command="repair",
  )
  assert result.status == 0, result
  seen = examination.look(*asked(graph_def=fixed)).seen
  assert [(e["name"], e["dtype"]) for e in seen["inputs"]] == [("a_1", "int32")]


def test_target_looks_into_what_an_older_one_imports(tmp_path):
  """Of a frozen graph all nodes; one finding an op."""
  graph = """
    x = Placeholder() {shape=[?,3]}
    y = Relu(x)
    a = AddV2(x, x)
    b = AddV2(a, x)
    """
  found = find(tmp_path, graph, target_tf="1.4")
  assert [(f.code, f.node) for f in found] == [("BN401", "a")]
  assert "(as 1 more)" in found[0].message
  assert find(tmp_path, graph, target_tf="1.15") == []
  assert find(tmp_path, graph) == []


_NORM = """
  x = Placeholder() {shape=[?,2,2,3]}
  gamma = Const() {value=<float [3] 1.5 0.5 2>}
  scale = Identity(gamma)
  beta = Const() {value=<float [3] 0.1 0.2 0.3>}
  mean = Const() {value=<float %s>}
  variance = Const() {value=<float %s>}
  n = FusedBatchNorm(x, scale, beta, mean, variance) {is_training=false}
  y = Relu(n)
  """


@pytest.mark.parametrize(
  "mean, variance, code",
  [
    ("[3] 0.1 0 0", "[3] 1.5 0 0", None),  # two filters died
    ("[3] 0 0 0", "[3] 0 0 0", "BN203"),
    ("[3] 0.1 0 2", "[3] 1.5 0 0", "BN203"),
    ("[3] 0.1 0.2 0.3", "[3] 1.5 -1 1", "BN203"),
    ("[3] 0.1 0.2 inf", "[3] 1.5 1 1", "BN204"),
    ("[3] 0 0 0", "[3] 1 1 1", "BN202"),
    ("[3] 0 0 0", "[3] 1 1 1.0001", None),
    ("[4] 0.1 0.2 0.3 0.4", "[4] 1.5 1 1 1", "BN206"),
  ],
)
def test_states_of_averages(tmp_path, mean, variance, code):
  found = find(tmp_path, _NORM % (mean, variance))
  assert [f.code for f in found] == ([] if code is None else [code])


def test_constants_of_another_shape_are_computed_anew(
  capsys, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  np.savez("calibration.npz", x=np.random.rand(16, 2, 2, 3).astype("float32"))
  found = find(tmp_path, _NORM % ("[4] 1 2 3 4", "[4] 1 2 3 4"))
  assert [f.code for f in found] == ["BN206"]
  assert fix(capsys, tmp_path, found[0]) == []


@pytest.mark.parametrize(
  "variance, found", [("4e6 7e6", ["BN207"]), ("4e6 0.7", [])]
)
def test_more_than_half_of_the_channels_tell_of_an_explosion(
  tmp_path, variance, found
):
  """One that is large may be of a channel that the data made so once."""
  bad = checks.BY_CODE["BN207"].bad.graph
  assert bad.count("4e6 7e6") == 1
  graph = bad.replace("4e6 7e6", variance)
  assert [f.code for f in find(tmp_path, graph)] == found


def test_norms_that_no_output_needs_are_let_be(tmp_path):
  graph = _NORM % ("[3] 0 0 0", "[3] 1 1 1")
  assert find(tmp_path, graph + "z = Relu(x)", outputs=["z"]) == []


def test_constants_near_the_limit_are_counted_as_stored(tmp_path):
  """A small file is no matter, however large it is in memory."""
  found = find(
    tmp_path,
    """
    x = Placeholder() {shape=[?,3]}
    big = Const() {value=<float [3,1000000000] 0.5>}
    y = MatMul(x, big)
    """,
  )
  assert found == []


class Large(Request):
  size = 2000000000


def test_large_file(tmp_path):
  """Told by its size: nothing of it is made here."""
  subject = Subject(
    Contents(
      text.loads("x = Placeholder() {shape=[?,3]}\ny = Relu(x)"),
      Signatures(),
      "large.pb",
      ("y",),
    ),
    Large("graph_def", "large.pb"),
  )
  found = checks.run(subject)
  assert [f.code for f in found] == ["BN403"]
  assert "2 GB" in found[0].message
