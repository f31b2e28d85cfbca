# SPDX-License-Identifier: Apache-2.0
"""A graph with the values of its variables and its ends."""

from bnexport.model.model import Model

__all__ = ["Model"]
