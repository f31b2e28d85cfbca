# SPDX-License-Identifier: Apache-2.0
"""Sources of models: one module a kind, and one way in."""

from bnexport.sources.opening import KINDS, open, read, recognise

__all__ = ["KINDS", "open", "read", "recognise"]
