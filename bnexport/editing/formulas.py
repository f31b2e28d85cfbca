# SPDX-License-Identifier: Apache-2.0
"""Reading the patterns of `bnexport.patterns`."""

from __future__ import annotations

import functools
import re
from typing import Dict, FrozenSet, List, NamedTuple, NoReturn, Set, Tuple

from bnexport import text
from bnexport.errors import GraphError
from bnexport.graph import TensorRef
from bnexport.tf1 import tf1

_TOKEN = re.compile(
  r'(?:\s+|\#[^\n]*)*(?P<token>"(?:[^"\\\n]|\\.)*"|[A-Za-z0-9_./:?\\-]+|.|\Z)',
  re.S,
)
_REST = "..."


class PatternNode(NamedTuple):
  """A node of a pattern.

  Attributes:
    ops: the ops it may have; empty for any.
    inputs: what it reads.
    has_more: whether it may read more.
    attrs: attributes it has to have, AttrValues by key.
  """

  ops: FrozenSet[str]
  inputs: Tuple[TensorRef, ...]
  has_more: bool
  attrs: Dict[str, tf1.AttrValue]


class Pattern(NamedTuple):
  """The nodes of a pattern by name, and which of them is read by none."""

  nodes: Dict[str, PatternNode]
  root: str


@functools.lru_cache(maxsize=64)
def read(pattern: str) -> Pattern:
  """Reads a pattern.

  Raises:
    GraphError: it can't be read; the place is told.
  """
  return _Reader(pattern).pattern()


class _Reader:
  """A recursive descent parser; expressions get names that no text can give."""

  def __init__(self, source: str):
    self._source = source
    self._end = 0
    self._nodes: Dict[str, PatternNode] = {}
    self._advance()

  def pattern(self) -> Pattern:
    read: Set[str] = set()
    while self._token:
      name = self._word("a statement")
      self._expect("=")
      if name in self._nodes:
        self._fail(f"another name than '{name}', which is given")
      self._node(name, self._word("an op"))
    for node in self._nodes.values():
      read.update(ref.node for ref in node.inputs)
      for ref in node.inputs:
        if ref.index and ref.node not in self._nodes:
          self._fail(f"a statement that says what '{ref.node}' is")
    roots = [name for name in self._nodes if name not in read]
    if len(roots) != 1:
      self._fail(
        f"one root, which no statement reads, where there are {len(roots)}"
      )
    return Pattern(self._nodes, roots[0])

  def _node(self, name: str, op: str) -> None:
    """Reads alternative ops, inputs and attributes of a node."""
    kinds = [op]
    while self._accept("|"):
      kinds.append(self._word("an op"))
    # Its place is before those of its inputs, though they are read first.
    self._nodes[name] = PatternNode(frozenset(), (), False, {})
    self._expect("(")
    inputs: List[TensorRef] = []
    has_more = False
    while not self._accept(")"):
      has_more = self._token == _REST
      if has_more:
        self._advance()
      else:
        inputs.append(self._input(name, len(inputs)))
      if self._token != ")":
        self._expect(",")
    attrs = self._attrs(kinds[0]) if self._token == "{" else {}
    ops = frozenset(kinds if "*" not in kinds else ())
    self._nodes[name] = PatternNode(ops, tuple(inputs), has_more, attrs)

  def _input(self, reader: str, slot: int) -> TensorRef:
    word = self._word("an input or ')'")
    if self._token not in ("(", "|"):
      return TensorRef.parse(word)
    name = f"{reader}({slot})"
    self._node(name, word)
    return TensorRef(name)

  def _attrs(self, op: str) -> Dict[str, tf1.AttrValue]:
    start, depth = self._start, 0
    while self._token:
      depth += (self._token == "{") - (self._token == "}")
      if not depth:
        break
      self._advance()
    stated = self._source[start : self._end]
    self._expect("}")
    made = "n = %s() %s" % (op if op != "*" else "NoOp", stated)
    keys = text.loads("graph {complete=true} " + made).node[0].attr
    # Read again, so that values are of the kinds that the op has.
    filled = text.loads(made).node[0].attr
    return {key: filled[key] for key in keys}

  def _advance(self) -> None:
    found = _TOKEN.match(self._source, self._end)
    assert found is not None  # it takes the end, too
    self._token, self._end = found.group("token"), found.end()
    self._start = found.start("token")

  def _accept(self, token: str) -> bool:
    is_next = self._token == token
    if is_next:
      self._advance()
    return is_next

  def _expect(self, token: str) -> None:
    if not self._accept(token):
      self._fail(f"'{token}'")

  def _word(self, expected: str) -> str:
    word = self._token
    if word != "*" and not re.fullmatch(r"[A-Za-z0-9_./:?\\-]+|\".*\"", word):
      self._fail(expected)
    self._advance()
    return word.strip('"')

  def _fail(self, expected: str) -> NoReturn:
    before = self._source[: self._start]
    raise GraphError(
      "read the pattern",
      "line %s, column %s is %s"
      % (
        before.count("\n") + 1,
        len(before) - before.rfind("\n"),
        f"'{self._token}'" if self._token else "its end",
      ),
      f"write {expected} there",
    )
