# SPDX-License-Identifier: Apache-2.0
"""A Keras file: loaded by the Keras that wrote it, traced for inference."""

from __future__ import annotations

import dataclasses
import logging
import re
import tempfile

import numpy as np

from bnexport.errors import FEED, ComparisonError, SourceError, first_line
from bnexport.graph import Graph, TensorRef, ops
from bnexport.graph.nodes import Signatures, identity, tensor_attr
from bnexport.model.checkpoint import Values
from bnexport.proof.runs import Run
from bnexport.sources import saved_model, session_values
from bnexport.sources.contents import Contents
from bnexport.sources.keras_file import describe
from bnexport.tf1 import keras, session, tf1


class KerasModel:
  """Keras' own model, called for inference.

  Attributes:
    inputs: names of its inputs, in order.
    outputs: names of its outputs, in order.
  """

  what = "the Keras model, which Keras runs with training=False"

  def __init__(self, keras_module, file):
    """Loads the model.

    Args:
      keras_module: the Keras that wrote it.
      file: a KerasFile.

    Raises:
      SourceError: Keras does not load it, or it is not made of layers whose
        inputs are known.
    """
    self._keras = keras_module
    self._file = file
    self._path = file.path
    self._flat = self._load()
    self.inputs = _names(self._flat.inputs)
    self.outputs = _names(self._flat.outputs)

  def _load(self):
    load_model = self._keras.models.load_model
    loaded = self._by_keras(lambda: load_model(self._path, compile=False))
    if not getattr(loaded, "inputs", None) or not loaded.outputs:
      raise SourceError(
        f"trace Keras file '{self._path}'",
        "its inputs are not in the file",
        "call the model once, save a SavedModel with model.export(DIR), and "
        "pass --saved_model=DIR",
      )
    for tensor in loaded.inputs:
      if getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
        raise SourceError(
          f"trace Keras file '{self._path}'",
          f"its input '{tensor.name}' is no plain tensor",
          "save a SavedModel with model.export(DIR), and pass "
          "--saved_model=DIR",
        )
    ends = list(loaded.inputs), list(loaded.outputs)
    # With a name, so that those of the nodes are the same in every process.
    return self._keras.Model(*ends, name=loaded.name)

  def _by_keras(self, do):
    """Calls Keras; what it raises, which may be anything, is one line."""
    logger = logging.getLogger("absl")  # what TensorFlow tells of its files
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
      return do()
    except Exception as error:
      raise SourceError(
        f"load Keras file '{self._path}' of Keras {self._file.version}",
        f"Keras {self._keras.__version__} says {type(error).__name__}: "
        f"{first_line(error)}",
        "load it with the Keras that wrote it, or, where the model has code "
        "of yours, save a SavedModel with model.export(DIR), and pass "
        "--saved_model=DIR",
      ) from error
    finally:
      logger.setLevel(level)

  def trace(self, folder):
    """Writes a SavedModel with the forward pass and the variables."""
    self._by_keras(lambda: self._trace(folder))

  def _trace(self, folder):
    specs = [
      tf1.TensorSpec(tensor.shape, tensor.dtype, name)
      for tensor, name in zip(self._flat.inputs, self.inputs)
    ]

    @tf1.function(input_signature=specs)
    def serve(*tensors):
      return dict(zip(self.outputs, self._call(tensors)))

    traced = serve.get_concrete_function()
    module = tf1.Module()
    module.serve = serve
    module.kept = list(traced.variables)
    module.tables = [
      layer.lookup_table
      for layer in self._layers()
      if getattr(layer, "lookup_table", None) is not None
    ]
    tf1.saved_model.save(module, folder, {"serving_default": traced})

  @property
  def stateful(self):
    """Layers that go on where the last call of the model ended."""
    return [x for x in self._layers() if getattr(x, "stateful", False)]

  def _layers(self):
    """The layers, those in layers and in models in the model included."""
    flatten = getattr(self._flat, "_flatten_layers", None)
    layers = flatten() if flatten else self._flat.submodules
    return [layer for layer in layers if not hasattr(layer, "layers")]

  def _call(self, tensors):
    answers = self._flat(list(tensors), training=False)
    return answers if isinstance(answers, (list, tuple)) else [answers]

  def call(self, names, feeds):
    """Arrays of outputs by name, for feeds by name of input.

    Raises:
      ComparisonError: Keras can't run it.
    """
    rows = max(len(np.atleast_1d(value)) for value in feeds.values())
    fed = [
      np.asarray(
        feeds.get(name, _ones(tensor.shape, rows)),
        tf1.as_dtype(tensor.dtype).as_numpy_dtype,
      )
      for name, tensor in zip(self.inputs, self._flat.inputs)
    ]
    try:
      for layer in self.stateful:
        _reset(layer)
      given = dict(zip(self.outputs, self._run(fed)))
    except Exception as error:  # layers raise whatever they like
      raise ComparisonError(
        "run the Keras model", first_line(error), FEED
      ) from error
    return [given[name] for name in names]

  def _run(self, fed):
    return [np.asarray(y) for y in self._call(map(tf1.constant, fed))]


class GraphKerasModel(KerasModel):
  """The same where TensorFlow builds graphs and runs them in sessions."""

  def __init__(self, keras_module, file):
    self.graph = tf1.Graph()
    self._session = session(self.graph)
    with self.graph.as_default(), self._session.as_default():
      keras_module.backend.set_learning_phase(0)
      super().__init__(keras_module, file)

  def ends(self):
    """Tensor names of inputs and outputs, by what they are called."""
    flat = self._flat
    return [
      dict(zip(names, (tensor.name for tensor in tensors)))
      for names, tensors in (
        (self.inputs, flat.inputs),
        (self.outputs, flat.outputs),
      )
    ]

  def values(self, graph):
    return session_values.read(graph, self._session)

  def _run(self, fed):
    with self.graph.as_default(), self._session.as_default():
      given = self._flat.predict_on_batch(fed)
    return given if isinstance(given, list) else [given]


class KerasRun(Run):
  """Answers of Keras, with the tensors of the traced graph behind them."""

  def __init__(self, called, model):
    """Prepares.

    Args:
      called: a KerasModel.
      model: the Model of its graph, whose outputs `run` gives.
    """
    self.what = called.what
    self.outputs = list(model.output_keys)
    self._called = called
    self._inputs = model.input_keys
    self._traced = None

  def beside(self, traced):
    """Takes the Run of the traced graph; returns itself."""
    self._traced = traced
    return self

  @property
  def graph(self):
    return self._traced.graph

  def fetch(self, refs, feeds):
    return self._traced.fetch(refs, feeds)

  def run(self, feeds):
    fed = {self._inputs.get(name, name): v for name, v in feeds.items()}
    return self._called.call(self.outputs, fed)

  def close(self):
    if self._traced is not None:
      self._traced.close()


def read(request) -> Contents:
  """Loads a Keras model; the layers' own code makes the graph.

  Of the request, `outputs` may be the names of the layers that give them.

  Raises:
    SourceError: see `describe`; or the Keras that wrote it is not installed
      or does not load it.
  """
  called = _opened(describe(request.source))
  if isinstance(called, GraphKerasModel):
    contents = _of_graph(called, request)
  else:
    contents = _of_function(called, request)
  contents.label = "Keras model"
  contents.origin = request.source
  contents.doubts += [
    f"layer '{layer.name}' goes on where the last call ended; in the export "
    "every call begins anew"
    for layer in called.stateful
  ]
  contents.run = lambda model: _run_of(called, model)
  return contents


def _run_of(called, model):
  """A KerasRun; None where the ends are other tensors than the model's."""
  given, fed = set(model.output_keys), {ref.node for ref in model.inputs}
  is_whole = given <= set(called.outputs) and fed <= set(called.inputs)
  return KerasRun(called, model) if is_whole else None


def _opened(file):
  """Has the Keras that wrote a file load it."""
  found, is_eager = keras(file.major), tf1.executing_eagerly()
  fact = None
  if found is None:
    fact = f"that is not installed beside TensorFlow {tf1.__version__}"
    step = "pip install tf_keras"
    if file.major >= 3:
      step = "pip install keras tensorflow, 2.16 or newer"
  elif file.is_zip and not is_eager:
    fact = f"this TensorFlow {tf1.__version__} runs without eager execution"
    step = "load it in a process of its own, with TensorFlow 2.16 or newer"
  if fact is not None:
    raise SourceError(
      f"load Keras file '{file.path}'",
      f"Keras {file.version} wrote it, and {fact}",
      step,
    )
  return (KerasModel if is_eager else GraphKerasModel)(found, file)


def _reset(layer):
  """Lets a recurrent layer begin anew."""
  if hasattr(layer, "reset_states"):
    layer.reset_states()
  elif hasattr(layer, "reset_state"):
    layer.reset_state()


def _ones(shape, rows):
  """Feeds of ones for an input that the outputs do not need."""
  sizes = list(tf1.TensorShape(shape).as_list())
  return np.ones([rows] + [size or 1 for size in sizes[1:]])


def _names(tensors):
  """Names of the layers that give the tensors, each once."""
  found = []
  for tensor in tensors:
    layer = tensor._keras_history[0].name
    name, count = re.sub(r"\W", "_", layer), 0
    while name in found:
      count += 1
      name = "%s_%d" % (re.sub(r"\W", "_", layer), count)
    found.append(name)
  return found


def _of_function(called, request):
  """Contents of the SavedModel that TensorFlow 2 traces of the model."""
  with tempfile.TemporaryDirectory() as folder:
    called.trace(folder)
    traced = dataclasses.replace(request, kind="saved_model", source=folder)
    contents = saved_model.read(traced)
    graph = contents.prepare(Graph(contents.graph_def, copy=False))
    values = Values(contents.checkpoint, graph)
    contents.held = {
      node.name: tensor_attr(values[node.name]).tensor
      for node in graph
      if node.op in ops.VARIABLES and node.name in values
    }
  contents.graph_def = graph.to_graph_def()
  contents.checkpoint = contents.prepare = contents.finish = None
  return contents


def _of_graph(called, request):
  """Contents of the graph that Keras built in its session."""
  graph = Graph(called.graph.as_graph_def(add_shapes=True), copy=False)
  fed, given = called.ends()
  for key, text in given.items():
    if TensorRef.parse(text) != TensorRef(key):
      dtype = called.graph.get_tensor_by_name(text).dtype
      given[key] = str(identity(graph, key, TensorRef.parse(text), dtype))
  values = called.values(graph)
  return Contents(
    graph.to_graph_def(),
    Signatures(),
    request.source,
    tuple(given.get(name, name) for name in request.outputs or given),
    tuple(request.inputs) or tuple(fed.values()),
    held={name: tensor_attr(value).tensor for name, value in values.items()},
    input_keys={TensorRef.parse(text).node: key for key, text in fed.items()},
    output_keys=tuple(request.outputs) or tuple(called.outputs),
  )
