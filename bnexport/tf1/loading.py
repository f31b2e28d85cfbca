# SPDX-License-Identifier: Apache-2.0
"""Importing all of TensorFlow, when it is needed, as a whole."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
import threading
from typing import Any, Dict, Iterator, List, Tuple

from bnexport.silence import starting

_NUMBERS: Tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)


def full() -> Any:
  """The module `bnexport.tf1.full`."""
  found = sys.modules.get("bnexport.tf1.full")
  if hasattr(found, "keras"):  # its last name: no other thread imports it
    return found
  with held(), starting():
    return importlib.import_module("bnexport.tf1.full")


@contextlib.contextmanager
def held() -> Iterator[None]:
  """Lets what interrupts Python wait for the end of the block.

  What is half imported can't be imported again. A signal that ends the process
  by itself still does.
  """
  if threading.current_thread() is not threading.main_thread():
    yield  # no signal is handled here
    return
  came: List[int] = []
  before: Dict[int, Any] = {}
  for number in _NUMBERS:
    handler = signal.getsignal(number)
    if callable(handler):
      before[number] = handler
      signal.signal(number, lambda came_as, _: came.append(came_as))
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
  if came:
    before[came[0]](came[0], None)
