# SPDX-License-Identifier: Apache-2.0
"""GraphDefs: an index kept true by checked verbs, nodes, ops and variables."""

from bnexport.graph.graph import Graph
from bnexport.graph.refs import AnyRef, TensorRef, as_ref

__all__ = ["AnyRef", "Graph", "TensorRef", "as_ref"]
