# SPDX-License-Identifier: Apache-2.0
"""Programs that people deploy frozen graphs with, asked for their answers.

Each program is a module here with two functions:

  version()                    its name and version
  load(path, feeds, outputs)   a function from feeds to the outputs' arrays

`feeds` are arrays by node name. Each of `outputs` is a list of names, `a:0`:
first the tensor's, then those of tensors before it that a consumer may merge
it with, through copies and biases. The arrays are as TensorFlow has them.
Errors are raised, whatever they are. A module is imported in the process that
asks its program.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Dict, List, NamedTuple, Optional

from bnexport.errors import SourceError, nearest

# Modules that each needs beside TensorFlow; the names of the consumers are
# extras of this package.
CONSUMERS = {
  "tflite": (),
  "onnx": ("tf2onnx", "onnxruntime"),
  "opencv": ("cv2",),
  "openvino": ("openvino",),
}
# An error's text is cut after this many.
_MOST_LETTERS = 300


class Question(NamedTuple):
  """A question to a consumer: a graph and its feeds; see the module."""

  name: str
  path: str
  outputs: List[List[str]]
  batches: List[Dict[str, object]]


class Answer(NamedTuple):
  """A consumer's answer.

  Attributes:
    version: the consumer's name and version.
    fault: the failure to load or run the graph, in words, or None.
    arrays: the outputs' arrays, for each batch.
  """

  version: str
  fault: Optional[str]
  arrays: List[list]


def refuse_missing(names):
  """Raises SourceError where a consumer is unknown or not installed."""
  for name in names:
    if name not in CONSUMERS:
      raise SourceError(
        f"ask consumer '{name}'",
        "there is none of that name",
        nearest(name, CONSUMERS, "take " + ", ".join(CONSUMERS)),
      )
    for module in CONSUMERS[name]:
      if importlib.util.find_spec(module) is None:
        raise SourceError(
          f"ask consumer '{name}'",
          f"Python has no module '{module}'",
          f"pip install 'bnexport[{name}]'",
        )


def answer(question):
  """Asks one consumer, in this process."""
  module = importlib.import_module(f"{__name__}.{question.name}")
  said, arrays, verb = question.name, [], "load"
  # A consumer may raise anything, and that it does is the answer.
  try:
    said = module.version()
    run = module.load(question.path, question.batches[0], question.outputs)
    verb = "run"
    for feeds in question.batches:
      arrays.append(run(feeds))
  except Exception as error:
    return Answer(said, f"does not {verb}: {_line(error)}", [])
  return Answer(said, None, arrays)


def _line(error):
  """The text of an error, in one line."""
  # In the text of OpenCV's a source file and a function come first.
  text = " ".join(str(getattr(error, "err", error)).split())
  text = text or type(error).__name__
  if len(text) > _MOST_LETTERS:
    text = text[: _MOST_LETTERS - 3] + "..."
  return text
