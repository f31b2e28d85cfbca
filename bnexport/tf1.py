# SPDX-License-Identifier: Apache-2.0
"""TensorFlow as this package sees it, and what its versions differ in.

Modules take `tf1`, which is `tf.compat.v1`, from here.

Everything that depends on the version of TensorFlow is here.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import threading
import time
from typing import Any, Dict, Iterator, List, Optional

# Both are read once, when TensorFlow is imported. tf_keras is what makes
# `tf.compat.v1.layers` work in model code where Keras 3 is the default.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if importlib.util.find_spec("tf_keras") is not None:
  os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow.compat.v1 as tf1
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.op_def_pb2 import OpDef, OpList
from tensorflow.core.framework.variable_pb2 import VariableDef
from tensorflow.core.protobuf.saved_model_pb2 import (
  SavedModel as SavedModelProto,
)
from tensorflow.core.protobuf.trackable_object_graph_pb2 import (
  TrackableObjectGraph as ObjectGraph,
)
from tensorflow.python.framework import op_def_registry, smart_cond

__all__ = [
  "FunctionDef",
  "ObjectGraph",
  "OpDef",
  "SavedModelProto",
  "VariableDef",
  "keras",
  "op_def",
  "session",
  "smart_constant_value",
  "tf1",
  "time_limit",
]

tf1.logging.set_verbosity(tf1.logging.ERROR)

smart_constant_value = smart_cond.smart_constant_value


def op_def(op: str) -> Optional[OpDef]:
  """Returns the OpDef registered for `op`, or None where it is not known."""
  if hasattr(op_def_registry, "get"):
    return op_def_registry.get(op)
  # TF 1.15 fills this registry when an op is first built, 1.14 and older at
  # import; the C registry always has it.
  found = op_def_registry.get_registered_ops().get(op)
  return found if found is not None else _c_registry().get(op)


_C_REGISTRY: Dict[str, OpDef] = {}


def _c_registry() -> Dict[str, OpDef]:
  if not _C_REGISTRY:
    from tensorflow.python import pywrap_tensorflow
    from tensorflow.python.framework import c_api_util

    with c_api_util.tf_buffer() as buffer:
      buffer = pywrap_tensorflow.TF_GetAllOpList()
      ops = OpList.FromString(bytes(pywrap_tensorflow.TF_GetBuffer(buffer)))
    _C_REGISTRY.update((op.name, op) for op in ops.op)
  return _C_REGISTRY


# When runs have to have ended, by time.monotonic; the earliest counts.
_DEADLINES: List[float] = []


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
  """Ends runs of sessions in the block once so many seconds are over.

  A run that is not over by then, or that would begin later, raises
  DeadlineExceededError.
  """
  _DEADLINES.append(time.monotonic() + seconds)
  try:
    yield
  finally:
    _DEADLINES.pop()


class _Session(tf1.Session):
  """A session whose runs end at a signal, and at a `time_limit`.

  Inside of TensorFlow's own run no signal handler of Python has a turn, and a
  loop may have no end. So it runs in a thread, and this one waits.
  """

  def run(
    self,
    fetches: Any,
    feed_dict: Any = None,
    options: Any = None,
    run_metadata: Any = None,
  ) -> Any:
    if _DEADLINES:
      left = min(_DEADLINES) - time.monotonic()
      if left <= 0:
        raise _out_of_time()
      options = options or tf1.RunOptions()
      options.timeout_in_ms = max(1, int(1000 * left))
    done, answers, errors = threading.Event(), [], []
    run = super().run

    def work() -> None:
      try:
        answers.append(run(fetches, feed_dict, options, run_metadata))
      except BaseException as error:
        errors.append(error)
      finally:
        done.set()

    threading.Thread(target=work, daemon=True).start()
    try:
      done.wait()
    except BaseException:
      self.close()  # which cancels what runs
      raise
    if errors and isinstance(errors[0], tf1.errors.DeadlineExceededError):
      raise _out_of_time() from errors[0]
    if errors:
      raise errors[0]
    return answers[0]


def _out_of_time() -> tf1.errors.DeadlineExceededError:
  return tf1.errors.DeadlineExceededError(
    None, None, "its runs take longer than the time limit"
  )


def session(graph: tf1.Graph) -> tf1.Session:
  """A session that computes as graphs are written, on the CPU.

  Its runs end at signals and at a `time_limit`. Grappler is off: what it folds
  or reorders would hide what the graph says.
  """
  config = tf1.ConfigProto(allow_soft_placement=True, device_count={"GPU": 0})
  config.graph_options.rewrite_options.disable_meta_optimizer = True
  return _Session(graph=graph, config=config)


def keras(major: int) -> Any:
  """The Keras that reads what Keras of a major version wrote.

  Up to 2 that is tf.keras of TensorFlow up to 2.15, and tf_keras beside newer
  ones.

  Returns:
    The module, or None where it is not installed.
  """
  try:
    if major >= 3:
      os.environ["KERAS_BACKEND"] = "tensorflow"
      found = importlib.import_module("keras")
      is_there = found.backend.backend() == "tensorflow"
    elif importlib.util.find_spec("tf_keras") is not None:
      found, is_there = importlib.import_module("tf_keras"), True
    else:
      found, is_there = tf1.keras, True
    version = int(found.__version__.partition(".")[0])
    return found if is_there and (version >= 3) == (major >= 3) else None
  except (ImportError, AttributeError):
    return None
