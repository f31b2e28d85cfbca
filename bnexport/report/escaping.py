# SPDX-License-Identifier: Apache-2.0
"""Escaping: no text of a fact is markup or control to its reader."""

from __future__ import annotations

from bnexport.errors import printable


def escaped(value, is_cut=False):
  """A plain value with all of its texts escaped; keys of objects are ours.

  Args:
    value: what json.dumps takes.
    is_cut: whether long words are cut.
  """
  if isinstance(value, dict):
    return {key: escaped(item, is_cut) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [escaped(item, is_cut) for item in value]
  return printable(value, is_cut) if isinstance(value, str) else value
