# SPDX-License-Identifier: Apache-2.0
"""Editing a Graph as graph_editor did: its verbs, and what they work on."""

from bnexport.editing.rewiring import (
  add_control,
  bypass,
  connect,
  fill,
  insert,
  remove_control,
  reroute,
  set_all,
)

__all__ = [
  "add_control",
  "bypass",
  "connect",
  "fill",
  "insert",
  "remove_control",
  "reroute",
  "set_all",
]
