# SPDX-License-Identifier: Apache-2.0
"""Graph editing as tf.contrib.graph_editor had it: verbs and selections."""

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
