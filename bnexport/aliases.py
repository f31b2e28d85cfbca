# SPDX-License-Identifier: Apache-2.0
"""Names that modules had before they got rooms: `bnexport.pieces` and others.

`import bnexport.pieces` gives the module `bnexport.editing.pieces` itself, when
it is asked for and not before.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

MOVED = {
  "bnexport.copies": "bnexport.editing.copies",
  "bnexport.patterns": "bnexport.editing.patterns",
  "bnexport.pieces": "bnexport.editing.pieces",
  "bnexport.selection": "bnexport.editing.selection",
}


class _Finder:
  """A finder and loader; their base classes take longer to import than it."""

  def find_spec(self, name, path, target=None):
    if name in MOVED:
      return importlib.util.spec_from_loader(name, self)
    return None

  def create_module(self, spec):
    return None  # an empty one, until exec_module

  def exec_module(self, module):
    name = module.__spec__.name
    sys.modules[name] = importlib.import_module(MOVED[name])


def install():
  """Makes the old names importable."""
  if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    sys.meta_path.append(_Finder())
