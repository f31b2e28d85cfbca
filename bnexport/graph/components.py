# SPDX-License-Identifier: Apache-2.0
"""Parts of a directed graph whose vertices all need each other."""

from __future__ import annotations

from typing import (
  Callable,
  Dict,
  Hashable,
  Iterable,
  Iterator,
  List,
  Set,
  Tuple,
  TypeVar,
)

Vertex = TypeVar("Vertex", bound=Hashable)


def strong_components(
  roots: Iterable[Vertex], needs: Callable[[Vertex], Iterable[Vertex]]
) -> List[List[Vertex]]:
  """The strongly connected components that some vertices lead to.

  Tarjan's algorithm, of 1972; linear in vertices and edges.

  Args:
    roots: vertices, of any hashable kind.
    needs: gives the vertices that a vertex has edges to.

  Returns:
    Lists of vertices; a component comes after all that it needs.
  """
  number: Dict[Vertex, int] = {}
  low: Dict[Vertex, int] = {}
  found: List[List[Vertex]] = []
  stack: List[Vertex] = []
  on_stack: Set[Vertex] = set()
  path: List[Tuple[Vertex, Iterator[Vertex]]] = []

  def enter(vertex: Vertex) -> None:
    number[vertex] = low[vertex] = len(number)
    stack.append(vertex)
    on_stack.add(vertex)
    path.append((vertex, iter(needs(vertex))))

  for root in roots:
    if root not in number:
      enter(root)
    while path:
      vertex, edges = path[-1]
      for other in edges:
        if other not in number:
          enter(other)
          break
        if other in on_stack:
          low[vertex] = min(low[vertex], number[other])
      else:
        path.pop()
        if path:
          low[path[-1][0]] = min(low[path[-1][0]], low[vertex])
        if low[vertex] == number[vertex]:
          found.append(_popped(stack, vertex))
          on_stack.difference_update(found[-1])
  return found


def _popped(stack: List[Vertex], last: Vertex) -> List[Vertex]:
  """What lies on a stack above an element, and that element."""
  part = [stack.pop()]
  while part[-1] != last:
    part.append(stack.pop())
  return part
