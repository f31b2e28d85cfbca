# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's protobuf classes, without `import tensorflow` where that can be.

TensorFlow's generated modules import each other and protobuf, nothing else; it
is the package around them that takes seconds to import. They are run here by
an `__import__` of their own, so that nothing is in `sys.modules` that is not
whole. A later `import tensorflow` runs the same modules again and gets the same
classes, as protobuf makes one class of a message only. Where it makes a second
one, as the older protobufs do, or where the files are elsewhere, as in
TensorFlow 1.15, TensorFlow is imported.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import os
import sys
import types
from importlib.machinery import SourceFileLoader
from typing import Any, Dict, Optional, Tuple

# Modules by the messages that are taken of them.
_MODULES = {
  "core.framework.attr_value_pb2": ("AttrValue", "NameAttrList"),
  "core.framework.function_pb2": ("FunctionDef",),
  "core.framework.graph_pb2": ("GraphDef",),
  "core.framework.node_def_pb2": ("NodeDef",),
  "core.framework.op_def_pb2": ("OpDef", "OpList"),
  "core.framework.tensor_pb2": ("TensorProto",),
  "core.framework.tensor_shape_pb2": ("TensorShapeProto",),
  "core.framework.types_pb2": ("DataType",),
  "core.framework.variable_pb2": ("VariableDef",),
  "core.protobuf.meta_graph_pb2": ("MetaGraphDef",),
  "core.protobuf.saved_model_pb2": ("SavedModel",),
  "core.protobuf.tensor_bundle_pb2": ("BundleEntryProto", "BundleHeaderProto"),
  "core.protobuf.trackable_object_graph_pb2": ("TrackableObjectGraph",),
  "python.training.checkpoint_state_pb2": ("CheckpointState",),
}
# Has few neighbours, so that a second run of it costs nothing.
_SMALL, _SMALL_MESSAGE = "core.framework.tensor_shape_pb2", "TensorShapeProto"


def folder() -> Optional[str]:
  """The folder that TensorFlow is installed in; None where it is elsewhere."""
  spec = importlib.util.find_spec("tensorflow")
  for found in (spec and spec.submodule_search_locations) or ():
    if os.path.exists(os.path.join(found, "core", "framework", "graph_pb2.py")):
      return found
  return None


class _Runner:
  """Runs the generated modules of a folder, each once."""

  def __init__(self, root: str):
    self._root = root
    self._modules: Dict[str, types.SimpleNamespace] = {}
    self._builtins = dict(vars(builtins), __import__=self._import)

  def run(self, name: str) -> types.SimpleNamespace:
    if name not in self._modules:
      parts = name.split(".")[1:]
      path = os.path.join(self._root, *parts) + ".py"
      code: Any = SourceFileLoader(name, path).get_code(name)
      module = types.SimpleNamespace(
        __name__=name, __file__=path, __builtins__=self._builtins
      )
      self._modules[name] = module
      exec(code, vars(module))  # the installed TensorFlow's own code
    return self._modules[name]

  def _import(
    self,
    name: str,
    namespace: Any = None,
    local: Any = None,
    wanted: Any = (),
    level: int = 0,
  ) -> Any:
    if name.split(".")[0] != "tensorflow":
      return builtins.__import__(name, namespace, local, wanted, level)
    found = {one: self.run(f"{name}.{one}") for one in wanted or ()}
    return types.SimpleNamespace(**found)


def _light(root: str) -> Dict[str, Any]:
  """The classes of the modules in a folder; none where they won't stay one."""
  runner = _Runner(root)
  found = {
    message: getattr(runner.run(f"tensorflow.{module}"), message)
    for module, messages in _MODULES.items()
    for message in messages
  }
  again = _Runner(root).run(f"tensorflow.{_SMALL}")
  is_same = getattr(again, _SMALL_MESSAGE) is found[_SMALL_MESSAGE]
  return found if is_same else {}


def _whole() -> Dict[str, Any]:
  """The classes of the modules that TensorFlow itself imports."""
  return {
    message: getattr(importlib.import_module(f"tensorflow.{module}"), message)
    for module, messages in _MODULES.items()
    for message in messages
  }


def classes() -> Dict[str, Any]:
  """Message classes, and the enum DataType, by their name."""
  return _loaded()[0]


def are_light() -> bool:
  """Tells whether the classes were had without TensorFlow."""
  return _loaded()[1]


@functools.lru_cache(maxsize=None)
def _loaded() -> Tuple[Dict[str, Any], bool]:
  root = None if "tensorflow" in sys.modules else folder()
  if root is not None:
    try:
      found = _light(root)
    except Exception:  # a layout that is not known: TensorFlow can tell
      found = {}
    if found:
      return found, True
  return _whole(), False
