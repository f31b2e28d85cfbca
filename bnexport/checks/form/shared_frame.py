# SPDX-License-Identifier: Apache-2.0
"""BN308: loops that share the name of a frame."""

from __future__ import annotations

from bnexport.checks.rule import ERROR, Example, Rule
from bnexport.errors import GraphError
from bnexport.graph.frames import shared_frames

_LOOP = """
    {0}/a = Enter({1}) {{frame_name="{2}"}}
    {0}/b = Merge({0}/a, {0}/d)
    {0}/no = Less({0}/b, {0}/b)
    {0}/p = LoopCond({0}/no)
    {0}/c = Switch({0}/b, {0}/p)
    {0}/d = NextIteration({0}/c:1)
    {0}/e = Exit({0}/c)
"""


def _look(subject):
  """Loops of one frame."""
  if subject.faults or subject.graph is None:
    return
  try:
    found = shared_frames(subject.graph)
  except GraphError:
    return  # a cycle that no loop closes
  for loops in found:
    frame = subject.graph.node(loops[0][0]).attr["frame_name"].s
    yield (
      loops[1][0],
      f"enters a loop of the frame '{frame.decode(errors='replace')}', which "
      f"is also that of the loop that '{loops[0][0]}' enters: TensorFlow "
      "takes both for one loop and runs neither",
      subject.fix(),
    )


RULE = Rule(
  code="BN308",
  severity=ERROR,
  title="loops that share the name of a frame",
  why="""
    TensorFlow tells loops apart by the names of their frames. Where two graphs
    are joined by import_graph_def, their nodes get other names and their
    frames keep them, so that two loops become a broken one ("Invalid loop
    structure: more than one LoopCond").
  """,
  code_sample="""
    y, = tf.import_graph_def(first, {'x:0': x}, ['y:0'], name='first')
    z, = tf.import_graph_def(second, {'x:0': y}, ['y:0'], name='second')
  """,
  cure="""
    Repair the graph: one of the loops gets a frame of its own. Or join the
    graphs with bnexport.pieces.splice, which gives them different ones.
  """,
  look=_look,
  bad=Example(
    "x = Placeholder() {shape=[]}"
    + _LOOP.format("first", "x", "while_context")
    + _LOOP.format("second", "first/e", "while_context")
    + "y = Relu(second/e)"
  ),
  good=Example(
    "x = Placeholder() {shape=[]}"
    + _LOOP.format("first", "x", "first/while_context")
    + _LOOP.format("second", "first/e", "second/while_context")
    + "y = Relu(second/e)"
  ),
)
