# SPDX-License-Identifier: Apache-2.0
"""Nouns that show themselves in notebooks."""

from __future__ import annotations

import importlib

# It takes rooms above those of the nouns, and is imported when it is used.
_WRITER = "bnexport.report.notebook"


class Shown:
  """A noun that notebooks show as HTML; `report.notebook` writes it."""

  def _repr_html_(self) -> str:
    made: str = importlib.import_module(_WRITER).html(self)
    return made
