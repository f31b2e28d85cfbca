# SPDX-License-Identifier: Apache-2.0
"""Questions about dataflow, each answered without running the graph."""
