# SPDX-License-Identifier: Apache-2.0
"""Code that a Keras file's configuration would have Keras run.

A configuration names classes and functions by their modules, and some layers
hold code, pickles or paths of files. Keras has refused more and more of it over
its versions; nothing of it is left to the one that is installed.
"""

from __future__ import annotations

import re

# Layers whose code is in the file or in one that they name.
_CODE = frozenset(
  (
    "Lambda",
    "__lambda__",
    "TFSMLayer",
    "TorchModuleWrapper",
    "JaxLayer",
    "FlaxLayer",
    "ExportedModel",
  )
)
# Where the classes and functions of models live.
_MODULE = re.compile(
  r"(tf_keras|keras)(\.src)?"
  r"(\.(layers|models|initializers|regularizers|constraints|activations|losses"
  r"|metrics|optimizers|ops|random|quantizers|dtype_policies|mixed_precision"
  r"|engine)(\.\w+)*)?\Z"
  r"|(builtins|tensorflow)\Z"
)
# Parts of names of TensorFlow's functions that reach out of a graph.
_REACHING = frozenset(
  (
    "autograph",
    "config",
    "data",
    "debugging",
    "distribute",
    "experimental",
    "gfile",
    "io",
    "keras",
    "load_library",
    "load_op_library",
    "numpy_function",
    "profiler",
    "py_func",
    "py_function",
    "python_io",
    "raw_ops",
    "saved_model",
    "summary",
    "train",
  )
)


def reaching_part(config):
  """Name of a part of a configuration that reaches out of it, and how.

  Args:
    config: what json.loads gives.

  Returns:
    A layer's name and what is wrong with it, or None.
  """
  stack = [config]
  for value in stack:
    if isinstance(value, dict):
      fact = _reaches(value)
      if fact is not None:
        return _name(value), fact
      stack.extend(value.values())
    elif isinstance(value, list):
      stack.extend(value)
  return None


def _reaches(value):
  kind, inner = value.get("class_name"), value.get("config")
  if kind in _CODE:
    return "is Python code in the file, which loading it would run"
  module = value.get("module")
  is_object = kind is not None and "module" in value
  if is_object and module is not None and not _is_known(module):
    return f"is of module '{module}', which loading it would import"
  if not isinstance(inner, dict):
    return None
  function = inner.get("function")
  if kind in ("TFOpLambda", "ClassMethod", "SlicingOpLambda"):
    if _REACHING & set(str(function).split(".")):
      return f"calls '{function}', which reaches out of the model"
  if isinstance(inner.get("vocabulary"), str):
    return f"reads the file '{inner['vocabulary']}'"
  return None


def _is_known(module):
  return isinstance(module, str) and _MODULE.match(module) is not None


def _name(value):
  inner = value.get("config")
  named = inner.get("name") if isinstance(inner, dict) else None
  return named or value.get("class_name")
