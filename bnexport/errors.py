# SPDX-License-Identifier: Apache-2.0
"""What bnexport raises: one line each, `cannot WHAT: FACT; NEXT STEP`.

A doubt about the user's model is a Finding, not an error; a broken invariant
of our own is an assert.
"""

import difflib


class Error(Exception):
  """Something that was asked for can't be done; the message says the rest."""


class SourceError(Error):
  """A file, directory, checkpoint or model function can't be used."""


class GraphError(Error):
  """A graph is malformed, or an edit would make it so."""


class TransformError(Error):
  """A rewriting is refused because its result could be wrong."""


class ComparisonError(Error):
  """A graph can't be run, so nothing can be said about its answers."""


# What TF 2 says ahead of the reason: where the node is and who made it.
_NO_REASON = ("Graph execution error", "Detected at node", "Node: ", 'File "')


def first_line(error):
  """The first line of an exception's message that says something."""
  for line in map(str.strip, str(error).splitlines()):
    if line and not line.startswith(_NO_REASON):
      return line
  return type(error).__name__


def nearest(name, names, otherwise="; check the name", most=3):
  """Returns `; did you mean 'a' or 'b'?`.

  Args:
    name: what a user wrote.
    names: what there is.
    otherwise: the next step where no name is near.
    most: how many names to offer.
  """
  names = list(names)
  # A name's last part is what people remember; a whole-name match alone would
  # miss `logits` for `tower_0/net/logits`.
  by_tail = {}
  for other in names:
    by_tail.setdefault(other.rsplit("/", 1)[-1], other)
  near = difflib.get_close_matches(name, names, n=most, cutoff=0.6)
  tail = difflib.get_close_matches(
    name.rsplit("/", 1)[-1], by_tail, n=most, cutoff=0.7
  )
  near += [by_tail[t] for t in tail if by_tail[t] not in near]
  if not near:
    return otherwise
  return "; did you mean %s?" % " or ".join(f"'{n}'" for n in near[:most])
