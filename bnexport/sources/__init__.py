# SPDX-License-Identifier: Apache-2.0
"""Where models come from: one module a kind of source, and one way in."""

from bnexport.sources.opening import KINDS, open, read, recognise

__all__ = ["KINDS", "open", "read", "recognise"]
