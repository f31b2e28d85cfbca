# SPDX-License-Identifier: Apache-2.0
"""Networks as blocks, and what is drawn of them."""

import pytest
from judges.counting import assert_linear

from bnexport import text
from bnexport.graph import Graph
from bnexport.report.blocks import MOST, Blocks
from bnexport.tf1 import tf1

pytest.importorskip("grandalf")
from bnexport.report.network import Mark, Network  # noqa: E402

pytestmark = pytest.mark.newest(
  "drawn of names and edges, which no TensorFlow has a part in"
)


def blocks_of(notation, apart=()):
  graph = Graph(text.loads(notation))
  return Blocks(graph, graph.names(), apart)


def chain(count, name="n{}", readers=1):
  """A Graph of nodes that each read some of those before."""
  made = tf1.GraphDef()
  made.node.add(name="x", op="Placeholder")
  names = ["x"]
  for i in range(count):
    inputs = [names[max(0, len(names) - k)] for k in range(1, readers + 1)]
    names.append(name.format(i))
    made.node.add(name=names[-1], op="Tanh", input=dict.fromkeys(inputs))
  return Graph(made, copy=False)


RESIDUAL = """
x = Placeholder() {shape=[?,4]}
w = Const() {value=<float [4,4] 1>}
double = Add(w, w)
a/m = MatMul(x, double)
a/r = Relu(a/m)
b/m = MatMul(a/r, w)
b/n/scaled = Mul(b/m, w)
b/n/moved = Add(b/n/scaled, w)
sum = Add(a/r, b/n/moved)
r = Relu(sum)
y = Softmax(r)
"""


def names(blocks):
  return [block.name for block in blocks]


def test_what_is_constant_is_no_part_of_the_flow():
  blocks = blocks_of(RESIDUAL)
  assert blocks.order[0] == "x" and blocks.order[-1] == "y"
  assert not {"w", "double"} & set(blocks.order)


def test_scopes_are_blocks_and_light_nodes_are_named_behind_others():
  blocks = blocks_of(RESIDUAL, ["b/n/scaled"])
  assert names(blocks.parts(blocks.root)) == ["x", "a", "b", "sum", "r", "y"]
  shown = blocks.outline()
  assert names(shown) == ["x", "a/m", "b/m", "b/n", "sum", "y"]
  assert {b.name: b.behind for b in shown if b.behind} == {
    "a/m": ["a/r"],
    "sum": ["r"],
  }
  assert sorted(n for block in shown for n in block.nodes) == sorted(
    blocks.order
  )
  norm = blocks.parts(shown[3])
  assert [part.label for part in norm] == ["scaled", "moved"]
  assert blocks.edges(shown) == {(0, 1), (1, 2), (2, 3), (1, 4), (3, 4), (4, 5)}


def test_norm_is_seen_where_data_meets_what_is_computed_of_constants():
  blocks = blocks_of(
    """
    x = Placeholder() {shape=[?,2]}
    v = Const() {value=<float [2] 1 2>}
    root = Rsqrt(v)
    gain = Mul(root, v)
    y = Mul(x, gain)
    """,
    ["root"],
  )
  assert blocks.seen_at == {"root": "y"}


def test_network_without_scopes_is_cut_into_few():
  graph = chain(500)
  blocks = Blocks(graph, graph.names())
  shown = blocks.outline()
  assert 10 < len(shown) <= MOST
  assert [n for block in shown for n in block.nodes] == blocks.order
  assert max(len(b.nodes) for b in shown) <= 2 * 500 / len(shown)
  run = max(shown, key=lambda block: len(block.nodes))
  assert run.name == f"{run.nodes[0]} to {run.nodes[-1]}"
  inner = blocks.parts(run)
  assert 4 <= len(inner) <= 24 and inner[0].nodes[0] == run.nodes[0]
  assert [n for part in inner for n in part.nodes] == run.nodes


def test_runs_are_cut_where_few_tensors_cross():
  """Groups of seven nodes, of which each reads all others before it."""
  made = tf1.GraphDef()
  made.node.add(name="x", op="Placeholder")
  for i in range(40):
    for k in range(7):
      node = made.node.add(name=f"g{i}_{k}", op="AddN")
      node.input.extend([f"g{i}_{j}" for j in range(k)] or ["x"])
      if i and not k:
        node.input[:] = [f"g{i - 1}_6"]
  graph = Graph(made)
  shown = Blocks(graph, graph.names()).outline()
  starts = [b.nodes[0] for b in shown if b.nodes[0] != "x"]
  assert len(starts) > 10
  assert all(name.endswith("_0") for name in starts[1:])


def test_blocks_alike_are_opened_together():
  lines = ["x = Placeholder() {shape=[?,2]}"]
  before = "x"
  for block in "abcd":
    for i in range(12):
      lines.append(f"{block}/n{i} = Relu({before})")
      before = f"{block}/n{i}"
  shown = blocks_of("\n".join(lines)).outline()
  assert names(shown) == ["x", "a", "b", "c", "d"]


def test_data_that_returns_to_a_scope_is_drawn_upwards():
  blocks = blocks_of(
    """
    x = Placeholder() {shape=[?,2]}
    a/c = MatMul(x, x)
    b/c = MatMul(a/c, a/c)
    b/d = MatMul(b/c, a/c)
    a/d = MatMul(b/d, b/d)
    """
  )
  shown = blocks.parts(blocks.root)
  assert blocks.edges(shown) == {(0, 1), (1, 2), (2, 1)}
  drawing = Network(blocks, {}).drawing
  assert len(drawing.boxes) == 5
  drawing = Network(blocks, {})._draw(shown, [])
  assert [line.is_back for line in drawing.lines] == [False, False, True]


def test_marks_and_links():
  blocks = blocks_of(RESIDUAL, ["b/n/scaled"])
  mark = Mark("norm", "doubt", "norm-1")
  network = Network(blocks, {"b/n/scaled": mark}, ("y",), "sum")
  boxes = {box.name: box for box in network.drawing.boxes}
  assert boxes["b/n"].kind == "doubt" and boxes["b/n"].marks == ["doubt"]
  assert boxes["b/n"].link == "block-1" and not boxes["sum"].link
  assert boxes["sum"].kind == "bad" and "numbers part" in boxes["sum"].note
  assert boxes["x"].kind == boxes["y"].kind == "end"
  (panel,) = network.panels
  assert panel.marks == [mark]
  inside = {box.name: box.link for box in panel.drawing.boxes}
  assert inside == {
    "b/m": "",
    "b/n/scaled": "norm-1",
    "b/n/moved": "",
    "sum": "",
  }


@pytest.mark.parametrize(
  "name", ["n{}", "s{}/n", "/".join(["d"] * 40) + "/n{}", "a{0}/b{0}/c/d/e"]
)
def test_cost_is_linear(name):
  def prepare(count):
    graph = chain(count, name, readers=2)

    def work():
      Network(Blocks(graph, graph.names()), {})

    return work

  assert_linear(prepare, 2000, 8000)


def test_page_is_small_for_any_network():
  graph = chain(3000, "a{0}/b{0}/n")
  network = Network(Blocks(graph, graph.names()), {})
  queue, boxes = list(network.panels), len(network.drawing.boxes)
  for panel in queue:
    boxes += len(panel.drawing.boxes)
    queue += panel.inner
  assert 100 < boxes < 2000
