# SPDX-License-Identifier: Apache-2.0
"""Commands to paste: the one that was given, with other flags."""

from __future__ import annotations

import os
import shlex
from typing import List, Mapping

from absl import flags

from bnexport.errors import Error, Offer

# More ways than these are for `inspect` to list.
_MOST = 4


def with_command(error: Error, program: str) -> Error:
  """An error whose step is a command, where it offers any.

  Args:
    error: what is to be said.
    program: argv[0] of the command that failed.
  """
  if not error.offers:
    return error
  name = os.path.splitext(os.path.basename(program))[0]
  first, *others = error.offers[:_MOST]
  step = f"{error.step}: " if error.step else "run "
  step += _command(first, name)
  if others:
    step += f", or with {' or '.join(map(_change, others))}"
  return Error(error.what, error.fact, step)


def _command(offer: Offer, name: str) -> str:
  left = dict(offer.flags)
  words = ["python", "-m", f"bnexport.{offer.command or name}"]
  for flag, texts in _given().items():
    if flag not in left:
      words += texts
    elif left[flag] is not None and offer.adds:
      words.append(f"{texts[0]},{left.pop(flag)}")
    elif left[flag] is not None:
      words.append(f"--{flag}={left.pop(flag)}")
  words += [f"--{flag}={value}" for flag, value in left.items() if value]
  return " ".join(map(shlex.quote, words))


def _change(offer: Offer) -> str:
  return " ".join(
    shlex.quote(f"--{flag}={value}")
    for flag, value in offer.flags.items()
    if value is not None
  )


def _given() -> Mapping[str, List[str]]:
  """The flags of this command that differ from their defaults, as words."""
  found = {}
  for name in flags.FLAGS:
    flag = flags.FLAGS[name]
    is_alias = "Alias" in type(flag).__name__  # absl has no name for it
    if not is_alias and flag.present and flag.value != flag.default:
      found[name] = flag.serialize().splitlines()
  return found
