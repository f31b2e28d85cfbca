# SPDX-License-Identifier: Apache-2.0
"""A TF1 Hub module: a SavedModel of one graph for use and one for training.

`hub.create_module_spec` of tensorflow_hub writes `tfhub_module.pb` beside
`saved_model.pb`: a ModuleDef, whose field `format` is 3. The graph for use has
no tags, the one with `is_training=True` mostly the tag `train`; the signature
that a caller gets unasked is named `default`.
"""

from __future__ import annotations

import os

from bnexport.errors import SourceError
from bnexport.sources import saved_model
from bnexport.sources.contents import Contents
from bnexport.sources.files import read as read_file
from bnexport.sources.saved_model_file import Usual

MODULE_DEF = "tfhub_module.pb"
# Field 1, a varint: FORMAT_V3, the only one there is.
_FORMAT = b"\x08\x03"
_USUAL = Usual((), "default")


def read(request) -> Contents:
  """Reads a Hub module; nothing of it is imported or run.

  Of the request, `tags` choose the graph, such as `train`.

  Raises:
    SourceError: see saved_model.read; or it is no module of TF1 Hub.
  """
  path = os.path.join(request.source, MODULE_DEF)
  if not read_file(path, "Hub module").startswith(_FORMAT):
    raise SourceError(
      f"open Hub module '{request.source}'",
      f"'{MODULE_DEF}' states a format that is not 3",
      "pass a SavedModel of TF 2 with --saved_model",
    )
  contents = saved_model.read(request, _USUAL)
  contents.label = "Hub module"
  return contents
