# SPDX-License-Identifier: Apache-2.0
"""BN4xx: the graph does not go everywhere."""

from __future__ import annotations


def and_more(nodes):
  """Counts the nodes that a finding is about besides the first one."""
  return f" (as {len(nodes) - 1} more)" if len(nodes) > 1 else ""
