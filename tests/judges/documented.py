# SPDX-License-Identifier: Apache-2.0
"""Running the examples of docstrings: `>>>` as doctest reads it."""

import doctest
import inspect

_FLAGS = doctest.NORMALIZE_WHITESPACE


def examples(module):
  """The functions of a module whose docstrings have examples, by name."""
  return {
    name: value
    for name, value in vars(module).items()
    if inspect.getmodule(value) is module and ">>>" in (value.__doc__ or "")
  }


def setup(module):
  """The code of the module's own examples: each function's begin with it."""
  found = doctest.DocTestParser().get_examples(module.__doc__ or "")
  return "".join(example.source for example in found)


def failures(documented, known):
  """Runs a docstring's examples; returns how many fail, and how many ran.

  Args:
    documented: the docstring.
    known: what names mean in it.
  """
  test = doctest.DocTestParser().get_doctest(
    documented, known, "docstring", None, 0
  )
  done = doctest.DocTestRunner(optionflags=_FLAGS).run(test)
  return done.failed, done.attempted
