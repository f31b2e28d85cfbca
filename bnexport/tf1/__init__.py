# SPDX-License-Identifier: Apache-2.0
"""The one door to TensorFlow.

`tf1` is `tf.compat.v1`, and imports it at the first use of what needs it. What
a graph is made of does not: messages, dtypes, tensors to and from NumPy, local
files and the definitions of ops are there at once. Who uses `tf1` need not
know which is which.

Where TensorFlow is imported already, or its messages can't be had without, all
of it is TensorFlow's own. `tf1.gfile` raises OSError everywhere.

What depends on the version of TensorFlow is in this room.
"""

from __future__ import annotations

import importlib.util
import os
import types
from typing import TYPE_CHECKING, Any, Dict

from bnexport.tf1 import arrays, dtypes, gfile, loading, protos
from bnexport.tf1.deadlines import time_limit
from bnexport.tf1.definitions import op_def

__all__ = [
  "BundleEntryProto",
  "BundleHeaderProto",
  "CheckpointState",
  "FunctionDef",
  "ObjectGraph",
  "OpDef",
  "SavedModelProto",
  "TensorShapeProto",
  "VariableDef",
  "is_dtype",
  "keras",
  "op_def",
  "session",
  "smart_constant_value",
  "tf1",
  "time_limit",
]

# Both are read once, when TensorFlow is imported. tf_keras is what makes
# `tf.compat.v1.layers` work in model code where Keras 3 is the default.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if importlib.util.find_spec("tf_keras") is not None:
  os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

_CLASSES = protos.classes()
BundleEntryProto = _CLASSES["BundleEntryProto"]
BundleHeaderProto = _CLASSES["BundleHeaderProto"]
CheckpointState = _CLASSES["CheckpointState"]
FunctionDef = _CLASSES["FunctionDef"]
ObjectGraph = _CLASSES["TrackableObjectGraph"]
OpDef = _CLASSES["OpDef"]
SavedModelProto = _CLASSES["SavedModel"]
TensorShapeProto = _CLASSES["TensorShapeProto"]
VariableDef = _CLASSES["VariableDef"]


def session(graph: tf1.Graph) -> tf1.Session:
  """A session that computes as graphs are written, on the CPU.

  Its runs end at signals and at a `time_limit`.
  """
  return loading.full().session(graph)


def keras(major: int) -> Any:
  """The Keras that reads what Keras of a major version wrote, or None."""
  return loading.full().keras(major)


def smart_constant_value(predicate: Any) -> Any:
  """The value of a predicate that is a constant, or None."""
  return loading.full().smart_constant_value(predicate)


def is_dtype(value: Any) -> bool:
  """Tells whether a value is a DType, TensorFlow's own or one of `tf1`."""
  return hasattr(value, "as_datatype_enum")


class _TensorFlow(types.ModuleType):
  """tf.compat.v1, which is imported at the first use of what needs it."""

  def __init__(self) -> None:
    super().__init__("tf1", __doc__)
    self.gfile = gfile
    if protos.are_light():
      vars(self).update(_light_names())

  def __getattr__(self, name: str) -> Any:
    if name.startswith("__") and name != "__version__":
      raise AttributeError(name)  # what Python asks of any module
    return getattr(loading.full().tf1, name)


def _light_names() -> Dict[str, Any]:
  """What `tf1` has without TensorFlow."""
  names: Dict[str, Any] = {**dtypes.define(_CLASSES["DataType"])}
  for name in (
    *("AttrValue", "GraphDef", "MetaGraphDef", "NameAttrList", "NodeDef"),
    "TensorProto",
  ):
    names[name] = _CLASSES[name]
  names.update(
    DType=dtypes.DType,
    as_dtype=dtypes.as_dtype,
    make_ndarray=arrays.make_ndarray,
    make_tensor_proto=arrays.make_tensor_proto,
  )
  return names


if TYPE_CHECKING:
  import tensorflow.compat.v1 as tf1
else:
  tf1 = _TensorFlow()
