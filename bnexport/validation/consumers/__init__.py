# SPDX-License-Identifier: Apache-2.0
"""Programs that people deploy frozen graphs with, asked for their answers.

Each is a module here with two functions:

  version()                    what it is called and which version it has
  load(path, feeds, outputs)   a function from feeds to the outputs' arrays

`feeds` are arrays by node name. Each of `outputs` is a list of names, `a:0`: of
the tensor, and of those that a consumer may know it by, because it merges
copies and biases with what they are of. The arrays are as TensorFlow has them.
What goes wrong is raised, whatever it is. The modules are imported where they
are asked, in processes of their own.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Dict, List, NamedTuple, Optional

from bnexport.errors import SourceError, nearest

# What has to be installed for each, beside TensorFlow; they are extras of this
# package by the same names.
CONSUMERS = {
  "tflite": (),
  "onnx": ("tf2onnx", "onnxruntime"),
  "opencv": ("cv2",),
  "openvino": ("openvino",),
}
# Of a message that fills pages.
_MOST_LETTERS = 300


class Question(NamedTuple):
  """What a consumer is asked: see the module's docstring."""

  name: str
  path: str
  outputs: List[List[str]]
  batches: List[Dict[str, object]]


class Answer(NamedTuple):
  """What it said.

  Attributes:
    version: the consumer's name and version.
    fault: why it does not load or run the graph, or None.
    arrays: for each batch the outputs' arrays.
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
  # Consumers raise anything, and that they do is what was asked.
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
  """What an error says, in one line."""
  # OpenCV's have a source file and a function before it in their text.
  text = " ".join(str(getattr(error, "err", error)).split())
  text = text or type(error).__name__
  if len(text) > _MOST_LETTERS:
    text = text[: _MOST_LETTERS - 3] + "..."
  return text
