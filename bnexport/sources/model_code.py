# SPDX-License-Identifier: Apache-2.0
"""Model code: rebuilt with is_training=False and restored."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

import numpy as np

from bnexport.errors import Error, SourceError, first_line, near, nearest
from bnexport.graph import Graph, ops
from bnexport.graph.nodes import Signatures
from bnexport.graph.variables import assignment
from bnexport.model.changes import changes_by
from bnexport.model.checkpoint import Checkpoint
from bnexport.proof.runs import Run, run_session
from bnexport.sources.contents import Contents
from bnexport.tf1 import session, tf1
from bnexport.transforms.inference.use_moving_averages import UseMovingAverages


class RebuiltModel(Run):
  """The rebuilt model in its session."""

  what = "the rebuilt model in its session"

  def __init__(self, restore, outputs):
    """Prepares; nothing is restored before it is asked for.

    Args:
      restore: returns the session.
      outputs: names of the tensors that `run` gives.
    """
    self.outputs = outputs
    self._restore = restore
    self._session = self._graph = None

  @property
  def graph(self):
    if self._graph is None:
      self._session = self._restore()
      self._graph = Graph(self._session.graph.as_graph_def())
    return self._graph

  def fetch(self, refs, feeds):
    assert self.graph is not None  # it is open now
    return run_session(self._session, refs, feeds, "run the rebuilt model")

  def close(self):
    if self._session is not None:
      self._session.close()
      self._session = self._graph = None


def read(request) -> Contents:
  """Rebuilds a model for inference; its code is run.

  Raises:
    SourceError: the function can't be found or fails, or the checkpoint does
      not fit the model.
  """
  # What a training script of TF1 takes for granted.
  tf1.disable_v2_behavior()
  function = find_function(request.source)
  graph = tf1.Graph()
  with graph.as_default():
    fed = [placeholder(text) for text in request.placeholders]
    _call(function, request.source, fed, request.kwargs)
  return Contents(
    graph.as_graph_def(add_shapes=True),
    Signatures(),
    request.source,
    request.outputs,
    request.inputs,
    checkpoint=Checkpoint(request.checkpoint),
    finish=lambda model: _fit(model, request),
    run=lambda model: _run_of(model, graph),
  )


def _fit(model, request):
  """Chooses which values weights take, and looks for what lacks one."""
  if request.moving_averages or request.average_name:
    averages = UseMovingAverages(request.average_name or "")
    model.history += changes_by(averages.name, averages.apply(model))
  _refuse_mismatch(model, _variables(model), request.source)


def _run_of(model, graph):
  nodes = [model.graph.node(name) for name in _variables(model)]
  values = model.values
  return RebuiltModel(
    lambda: _restored(graph, nodes, values), [str(r) for r in model.outputs]
  )


def _variables(model):
  """Names of the variables that the outputs need, or wait for."""
  return [
    name
    for name in model.needed(control=True)
    if model.graph.op(name) in ops.VARIABLES
  ]


def find_function(spec):
  """Imports package.module:function or file.py:function.

  Raises:
    SourceError: there is no such module or function, or its import fails.
  """
  where, colon, name = spec.rpartition(":")
  if not colon or not where or not name:
    raise SourceError(
      f"read --model={spec}",
      "it names no function",
      "write package.module:function or file.py:function",
    )
  try:
    module = _import(where)
  except SourceError:
    raise
  except (Exception, SystemExit) as error:  # user code may raise anything
    raise SourceError(
      f"import '{where}'",
      f"{type(error).__name__}: {first_line(error)}",
      "run it by itself to see where",
    ) from error
  function = getattr(module, name, None)
  if not callable(function):
    names = [n for n in vars(module) if callable(getattr(module, n))]
    raise SourceError(
      f"find function '{name}'",
      f"'{where}' has none of that name",
      nearest(name, names),
    )
  return function


def _import(where):
  if not where.endswith(".py"):
    sys.path.insert(0, os.getcwd())
    try:
      return importlib.import_module(where)
    finally:
      sys.path.remove(os.getcwd())
  if not os.path.isfile(where):
    raise SourceError(
      f"read model code '{where}'",
      "there is no such file",
      "check the path",
    )
  # Its neighbours are what it imports.
  sys.path.insert(0, os.path.dirname(os.path.abspath(where)))
  name = os.path.splitext(os.path.basename(where))[0]
  loader = importlib.util.spec_from_file_location(name, where)
  module = importlib.util.module_from_spec(loader)
  sys.modules[name] = module
  try:
    loader.loader.exec_module(module)
  except BaseException:
    sys.modules.pop(name, None)
    raise
  return module


def placeholder(text):
  """Makes the placeholder that `name:dtype:dim,dim,...` describes.

  Raises:
    SourceError: the text can't be read.
  """
  parts = text.split(":")
  try:
    name, dtype, dims = (parts + [""])[:3] if len(parts) == 2 else parts
    if not name:
      raise ValueError("no name")
    shape = [
      None if d in ("?", "-1", "None") else int(d) for d in dims.split(",") if d
    ]
    return tf1.placeholder(tf1.as_dtype(dtype), shape, name=name)
  except (ValueError, TypeError) as error:
    raise SourceError(
      f"read --input={text}",
      "it is no name, dtype and shape",
      "write name:dtype:dim,dim,..., like x:float32:?,224,224,3",
    ) from error


def _call(function, spec, placeholders, kwargs):
  try:
    function(*placeholders, is_training=False, **kwargs)
  except Error:
    raise
  except (Exception, SystemExit) as error:  # user code may raise anything
    hint = "run it by itself to see where"
    if "Keras 3" in str(error) or "keras" in str(error).lower():
      hint = (
        "install tf_keras, or take batch norm from bnexport.layers and write "
        "the other layers with tf.compat.v1.get_variable and tf.nn"
      )
    raise SourceError(
      "build the model",
      f"{spec} raised {type(error).__name__}: {first_line(error)}",
      hint,
    ) from error


def _refuse_mismatch(model, needed, spec):
  """Raises SourceError where the checkpoint does not fit the variables."""
  graph, values = model.graph, model.values
  missing = [name for name in needed if name not in values]
  wrong = []
  for name in needed:
    stated = tuple(d.size for d in graph.node(name).attr["shape"].shape.dim)
    saved = values.shape(name)
    if saved is not None and saved != stated:
      wrong.append(f"'{name}' is {list(stated)} here and {list(saved)} there")
  if not missing and not wrong:
    return
  used = {values.find(name).key for name in needed if name in values}
  extra = sorted(set(values.checkpoint.shapes) - used)
  parts = []
  if missing:
    parts.append(
      "it lacks "
      + ", ".join(_offered(name, extra) for name in missing[:5])
      + _more(missing)
    )
  if wrong:
    parts.append("shapes differ: " + ", ".join(wrong[:5]) + _more(wrong))
  if extra:
    parts.append(
      "it also holds "
      + ", ".join(f"'{key}'" for key in extra[:5])
      + _more(extra)
    )
  raise SourceError(
    f"restore {spec} from checkpoint '{values.checkpoint.prefix}'",
    "; ".join(parts),
    "build the model as it was trained",
  )


def _more(items):
  return f" and {len(items) - 5} more" if len(items) > 5 else ""


def _restored(graph, nodes, values):
  """A session of the rebuilt graph, with values for what the outputs need."""
  with graph.as_default():
    running = session(graph)
    for node in nodes:
      assign, holder = assignment(graph, node)
      running.run(assign, {holder: np.asarray(values[node.name])})
  return running


def _offered(name, names):
  """A name, and those that it may be meant to be."""
  offers = " or ".join(f"'{other}'" for other in near(name, names))
  return f"'{name}' (is it {offers})" if offers else f"'{name}'"
