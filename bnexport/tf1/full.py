# SPDX-License-Identifier: Apache-2.0
"""All of TensorFlow, which takes seconds to import: sessions and the registry.

Taken by `bnexport.tf1` when it is needed, and by nobody else.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from typing import Any, Dict, Optional

# Whoever imported it has said how much is logged.
_IS_FIRST = "tensorflow" not in sys.modules

import tensorflow.compat.v1 as tf1  # noqa: E402
from tensorflow.core.framework.op_def_pb2 import OpDef, OpList  # noqa: E402
from tensorflow.python.framework import op_def_registry, smart_cond  # noqa: E402

from bnexport.silence import starting  # noqa: E402
from bnexport.tf1.deadlines import time_left  # noqa: E402

if _IS_FIRST:
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
    left = time_left()
    if left is not None:
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
  with starting():  # the first one looks for devices
    return _Session(graph=graph, config=config)


def keras(major: int) -> Any:
  """The Keras that reads what Keras of a major version wrote.

  Up to 2 that is tf.keras of TensorFlow up to 2.15, and tf_keras beside newer
  ones.

  Returns:
    The module, or None where it is not installed.
  """
  try:
    with starting():
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
