"""Dependence goes one way, and importing the package stays cheap."""

import ast
import os
import subprocess
import sys

import pytest

import bnexport

_PACKAGE = os.path.dirname(bnexport.__file__)
# From the bottom up: a layer may import those before it.
_LAYERS = (
  ("bnexport.errors", "bnexport.ops", "bnexport.tf1", "bnexport.op_history"),
  ("bnexport.layers",),
  ("bnexport.placement",),
  ("bnexport.graph",),
  ("bnexport.nodes",),
  ("bnexport.text", "bnexport.faults"),
  ("bnexport.mending",),
  ("bnexport.variables", "bnexport.evaluation"),
  ("bnexport.selection",),
  ("bnexport.editing", "bnexport.patterns"),
  ("bnexport.pieces",),
  ("bnexport.copies",),
  ("bnexport.checkpoint",),
  ("bnexport.model",),
  ("bnexport.phase", "bnexport.batchnorm"),
  ("bnexport.transforms",),
  ("bnexport.comparison",),
  ("bnexport.divergence",),
  (
    "bnexport.freezing",
    "bnexport.sources",
    "bnexport.inspection",
    "bnexport.checks",
  ),
  ("bnexport.report",),
  ("bnexport.validation",),
  ("bnexport.cli",),
  (
    "bnexport.freeze",
    "bnexport.inspect",
    "bnexport.repair",
    "bnexport.transform",
    "bnexport.validate",
  ),
)


def _modules():
  for folder, _, names in os.walk(_PACKAGE):
    for name in names:
      if name.endswith(".py"):
        path = os.path.join(folder, name)
        parts = os.path.relpath(path, os.path.dirname(_PACKAGE))[:-3]
        yield parts.replace(os.sep, ".").replace(".__init__", ""), path


def _imports(path):
  with open(path) as f:
    tree = ast.parse(f.read())
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name
    elif isinstance(node, ast.ImportFrom):
      yield node.module
      for alias in node.names:
        yield "%s.%s" % (node.module, alias.name)


def _layer(module):
  for i, layer in enumerate(_LAYERS):
    if any(module == m or module.startswith(m + ".") for m in layer):
      return i
  return None


@pytest.mark.parametrize("module, path", sorted(_modules()))
def test_dependence_goes_one_way(module, path):
  # The package itself holds the verbs: it is above all of its modules.
  own = len(_LAYERS) if module == "bnexport" else _layer(module)
  assert own is not None
  for imported in _imports(path):
    other = _layer(imported)
    if other is not None:
      assert other <= own, "%s imports %s" % (module, imported)


@pytest.mark.parametrize("module, path", sorted(_modules()))
def test_flags_are_the_commands(module, path):
  """A flag of a library module would appear in every program that uses it."""
  if module not in (
    "bnexport.cli",
    "bnexport.freeze",
    "bnexport.inspect",
    "bnexport.repair",
    "bnexport.transform",
    "bnexport.validate",
  ):
    assert "absl.flags" not in set(_imports(path))


@pytest.mark.parametrize(
  "module",
  [
    "bnexport",
    "bnexport.freeze",
    "bnexport.inspect",
    "bnexport.repair",
    "bnexport.transform",
    "bnexport.validate",
  ],
)
def test_import_leaves_tensorflow_alone(module):
  code = "import sys, %s; sys.exit('tensorflow' in sys.modules)" % module
  done = subprocess.run(
    [sys.executable, "-c", code],
    env=dict(os.environ, PYTHONPATH=os.path.dirname(_PACKAGE)),
  )
  assert done.returncode == 0
