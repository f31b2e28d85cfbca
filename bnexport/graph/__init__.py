# SPDX-License-Identifier: Apache-2.0
"""GraphDefs: an index kept true by checked verbs, nodes, ops and variables."""

from bnexport.graph.graph import AnyRef, Graph, TensorRef

__all__ = ["AnyRef", "Graph", "TensorRef"]
