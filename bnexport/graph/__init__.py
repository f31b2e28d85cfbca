# SPDX-License-Identifier: Apache-2.0
"""GraphDefs: an index kept true by checked verbs, nodes, ops and variables."""

from bnexport.graph.graph import Graph, TensorRef

__all__ = ["Graph", "TensorRef"]
