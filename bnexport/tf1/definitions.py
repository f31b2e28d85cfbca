# SPDX-License-Identifier: Apache-2.0
"""Definitions of ops: the registry's, or what is on record of it.

op_definitions.json holds the OpDefs that TensorFlows register, as
scripts/op_history.py wrote them from real ones. They are asked as long as
TensorFlow is not imported, and only where it is one of those.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import sys
from typing import Any, Dict, List, Optional, Tuple

from bnexport.tf1 import loading, protos

_FILE = os.path.join(os.path.dirname(__file__), "op_definitions.json")
_VERSION = re.compile(r"^#define TF_GRAPH_DEF_VERSION (\d+)", re.MULTILINE)


def op_def(op: str) -> Any:
  """Returns the OpDef registered for `op`, or None where it is not known."""
  if "tensorflow" not in sys.modules and installed() is not None:
    return _recorded(op)
  return loading.full().op_def(op)


@functools.lru_cache(maxsize=None)
def installed() -> Optional[Tuple[int, ...]]:
  """The version of TensorFlow that is installed, as (2, 21).

  None where it is none of those that are on record. Told by the version of the
  graphs that it writes, which every release raises.
  """
  root = protos.folder()
  path = ("include", "tensorflow", "core", "public", "version.h")
  try:
    with open(os.path.join(root or "", *path), encoding="utf-8") as f:
      found = _VERSION.search(f.read())
  except (OSError, UnicodeDecodeError):
    return None
  version = found and _record()["versions"].get(found.group(1))
  return _numbers(version) if version else None


@functools.lru_cache(maxsize=None)
def _record() -> Dict[str, Any]:
  with open(_FILE, encoding="utf-8") as f:
    return json.load(f)


def _numbers(version: str) -> Tuple[int, ...]:
  return tuple(map(int, version.split(".")))


@functools.lru_cache(maxsize=None)
def _recorded(op: str) -> Any:
  states: List[List[str]] = _record()["ops"].get(op, [])
  own = installed() or ()
  known = [data for since, data in states if _numbers(since) <= own]
  if not known or not known[-1]:
    return None
  return protos.classes()["OpDef"].FromString(base64.b64decode(known[-1]))
