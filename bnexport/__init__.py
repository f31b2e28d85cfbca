# SPDX-License-Identifier: Apache-2.0
r"""bnexport: TF1 models with batch norm, as inference graphs that are right.

Six verbs:

  >>> import bnexport
  >>> model = bnexport.load("net.pb", outputs=["y"])
  >>> for finding in bnexport.check(model):
  ...   print(finding.code, finding.node)
  >>> small = bnexport.apply(model, "strip_unused_nodes fold_constants")
  >>> bnexport.save(small, "small.pb")
  >>> bnexport.compare(small, model).holds
  True

and the nouns that they take and give: Model, Graph, TensorRef, BatchNorm,
Finding, Rule, Comparison, and Error with its kinds. A Graph is edited with its
own verbs and with the modules `selection` (find, walk), `editing` (rewire),
`pieces` (cut, splice), `copies` (copy, recompute, rename) and `patterns`
(formulas); `text` writes and reads it.

The commands are run as `python -m bnexport.freeze`. Importing the package
does not import TensorFlow; the first use of a verb or a noun does.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from typing import (
  TYPE_CHECKING,
  Any,
  Callable,
  Iterable,
  List,
  Mapping,
  Optional,
  Tuple,
  Union,
)

from bnexport import aliases
from bnexport.version import __version__

if TYPE_CHECKING:  # What __getattr__ imports when it is asked for.
  import numpy as np

  from bnexport import editing as editing
  from bnexport import layers as layers
  from bnexport import text as text
  from bnexport.batchnorm.norm import BatchNorm as BatchNorm
  from bnexport.checks.rule import Finding as Finding
  from bnexport.checks.rule import Findings as Findings
  from bnexport.checks.rule import Rule as Rule
  from bnexport.editing import copies as copies
  from bnexport.editing import patterns as patterns
  from bnexport.editing import pieces as pieces
  from bnexport.editing import selection as selection
  from bnexport.errors import ComparisonError as ComparisonError
  from bnexport.errors import Error as Error
  from bnexport.errors import GraphError as GraphError
  from bnexport.errors import SourceError as SourceError
  from bnexport.errors import TransformError as TransformError
  from bnexport.exporting.export import Export as Export
  from bnexport.exporting.export import Options as Options
  from bnexport.graph import Graph as Graph
  from bnexport.graph import TensorRef as TensorRef
  from bnexport.model import Model as Model
  from bnexport.proof.comparison import Comparison as Comparison
  from bnexport.tf1 import tf1
  from bnexport.transforms.spec import Transform

aliases.install()

_NOUNS = {
  "BatchNorm": "bnexport.batchnorm.norm",
  "Comparison": "bnexport.proof.comparison",
  "ComparisonError": "bnexport.errors",
  "Error": "bnexport.errors",
  "Export": "bnexport.exporting.export",
  "Finding": "bnexport.checks.rule",
  "Findings": "bnexport.checks.rule",
  "Graph": "bnexport.graph",
  "GraphError": "bnexport.errors",
  "Model": "bnexport.model",
  "Options": "bnexport.exporting.export",
  "Rule": "bnexport.checks.rule",
  "SourceError": "bnexport.errors",
  "TensorRef": "bnexport.graph",
  "TransformError": "bnexport.errors",
}
_MODULES = (
  "copies",
  "editing",
  "layers",
  "patterns",
  "pieces",
  "selection",
  "text",
)
_VERBS = ("load", "check", "apply", "export", "save", "compare")

__all__ = [*sorted(_NOUNS), *_MODULES, *_VERBS, "__version__"]


def __getattr__(name: str) -> Any:
  if name in _NOUNS:
    return getattr(importlib.import_module(_NOUNS[name]), name)
  if name in _MODULES:
    return importlib.import_module("bnexport." + name)
  raise AttributeError(f"module 'bnexport' has no attribute '{name}'")


def __dir__() -> List[str]:
  return sorted(set(globals()) | set(__all__))


def load(
  source: Any,
  checkpoint: Optional[str] = None,
  outputs: Union[str, Iterable[str]] = (),
  inputs: Union[str, Iterable[str]] = (),
  tags: Union[str, Iterable[str]] = (),
  signature: Optional[str] = None,
  session: Optional[tf1.Session] = None,
) -> Model:
  """Opens a model; nothing of it is imported or run.

    >>> model = bnexport.load("net.pb", outputs=["y"], inputs=["x"])

  Args:
    source: path of a GraphDef, a training graph's `.meta`, a checkpoint, a
      SavedModel or a Keras file; or a GraphDef, a MetaGraphDef or a
      tf.compat.v1.Graph, which stays as it is.
    checkpoint: its prefix or directory; None for that beside a `.meta`.
    outputs: names of the tensors to keep; none for those of a signature.
    inputs: names of the tensors to feed; none for every placeholder.
    tags: of the SavedModel's graph; empty for the one that serves.
    signature: of the SavedModel; None for the one that serves.
    session: holds the values of the variables, which are read now.

  Raises:
    SourceError: a file is missing or unsound, or a name is not in the graph.
    GraphError: it is malformed; `python -m bnexport.repair` mends it.
  """
  from bnexport import sources

  request = dataclasses.replace(
    sources.recognise(source, checkpoint),
    outputs=_names(outputs),
    inputs=_names(inputs),
    tags=_names(tags),
    signature=signature,
    session=session,
    flags=("outputs", "inputs"),
  )
  return sources.open(request)


def _names(names: Union[str, Iterable[str]]) -> Tuple[str, ...]:
  """Names as a tuple; a text is one name, and not its letters."""
  return (names,) if isinstance(names, str) else tuple(names)


def check(model: Model, target_tf: Optional[str] = None) -> Findings:
  """Finds what is wrong with a model; nothing of it is run.

    >>> [finding.code for finding in bnexport.check(trained)]
    ['BN101']

  Args:
    model: a Model; it stays as it is.
    target_tf: the version of TensorFlow that is to read it, such as "1.4".

  Returns:
    Findings, in the order of the catalogue; `fix` is the Fix that clears one,
    and `fix.command()` the command that does it.
  """
  from bnexport import checks
  from bnexport.checks.subject import subject_of
  from bnexport.model.request import Request

  request = model.request or Request("tf_graph", None)
  return checks.run(subject_of(model, request, target_tf))


def apply(model: Model, *transforms: Union[str, Transform]) -> Model:
  """A rewritten model.

    >>> small = bnexport.apply(model, "remove_nodes(op=Identity)")
    >>> len(small.graph), len(model.graph)
    (3, 4)

  Args:
    model: a Model; it stays as it is.
    *transforms: texts as `--transforms` takes them, or transforms.

  Returns:
    A Model; its history says what was done, a line each.

  Raises:
    TransformError: a text can't be read, or a transform refuses.
  """
  from bnexport.errors import SourceError
  from bnexport.transforms import table

  if not model.outputs:
    raise SourceError(
      "apply transforms",
      "the model names no outputs, so nothing says what has to stay",
      "pass outputs=[NAME] to load",
    )
  made = model.clone()
  table.apply_specs(made, transforms)
  return made


def export(
  model: Model,
  options: Optional[Options] = None,
  progress: Callable[[str], None] = lambda text: None,
) -> Export:
  """An inference graph of a model, to be proven and written.

    >>> made = bnexport.export(trained, bnexport.Options(engine="stream"))
    >>> [norm.statistics for norm in made.norms]
    ['stored']
    >>> made.prove().holds
    True
    >>> made.write("inference.pb").path
    'inference.pb'

  Args:
    model: a Model of a training graph, with values for its variables; it stays
      as it is.
    options: an Options; None for those by default.
    progress: called with what is being done.

  Returns:
    An Export.

  Raises:
    TransformError: the result could be wrong; the message says what decides.
    SourceError: a variable has no value, or an option names what is not there.
  """
  from bnexport.exporting import export as exporting

  return exporting.export(model.clone(), options, progress)


def save(
  model: Model,
  path: Union[str, os.PathLike],
  as_text: bool = False,
  overwrite: bool = False,
) -> None:
  """Writes a model's graph, whole or not at all.

    >>> bnexport.save(model, "net.pbtxt", as_text=True)

  Args:
    model: a Model. Variables that it still has are variables in the file.
    path: the file. A model that was loaded from a SavedModel becomes one
      again, with values of variables, where it ends in neither .pb nor .pbtxt.
    as_text: whether to write text.
    overwrite: whether a file that is there may be replaced.

  Raises:
    SourceError: the file is there, or can't be written.
    GraphError: TensorFlow does not take the graph of a SavedModel.
  """
  from bnexport.exporting import delivery, saved_model, writing

  path = os.fspath(path)
  is_served = model.served is not None and not writing.is_graph(path)
  if is_served:
    saved_model.refuse_directory(path, overwrite)
  else:
    writing.refuse_existing(path, overwrite)
  saved = None if model.values is None else model.values.checkpoint
  writing.refuse_source(path, saved and saved.prefix, model.origin)
  with delivery.written(model, path, as_text, is_served=is_served):
    pass


def compare(
  a: Model, b: Model, feeds: Optional[Mapping[str, np.ndarray]] = None
) -> Comparison:
  """Runs two models on the same feeds.

    >>> proof = bnexport.compare(small, model)
    >>> proof.holds, proof.feeds
    (True, {'x': (4, 2)})

  Args:
    a: a Model; its variables are taken from its checkpoint.
    b: a Model with the same outputs, which tells what is right.
    feeds: arrays by input name; made up where it is None.

  Returns:
    A Comparison: how far the outputs are apart, and whether an answer depends
    on the rest of its batch.

  Raises:
    ComparisonError: one of them does not run, draws random numbers, has other
      outputs, or reaches out of its graph and its `is_trusted` is not set.
    SourceError: a variable has no value.
  """
  from bnexport.errors import ComparisonError

  what = f"compare '{a.origin}' with '{b.origin}'"
  if len(a.outputs) != len(b.outputs) or not a.outputs:
    raise ComparisonError(
      what,
      f"they have {len(a.outputs)} and {len(b.outputs)} outputs",
      "load both with the same outputs",
    )
  found = _proven(a, b, feeds)
  if not found.differences:
    said = "; ".join([found.reference] + found.notes)
    raise ComparisonError(what, said, "pass feeds on which both run")
  return found


def _proven(a, b, feeds):
  """The Comparison of a Model with another, which tells what is right."""
  from bnexport.proof import comparison, runs

  _refuse_unsafe(a)
  _refuse_unsafe(b)
  reference = runs.ImportedGraph(_runnable(b), b.outputs, b.initializers)
  reference.what = b.origin
  try:
    return comparison.prove(
      _runnable(a),
      a.outputs,
      reference,
      feeds,
      a.initializers,
      is_trusted=True,
    )
  finally:
    reference.close()


def _refuse_unsafe(model):
  from bnexport.errors import ComparisonError
  from bnexport.proof.trust import unsafe_model

  unsafe = unsafe_model(model)
  if unsafe is not None:
    raise ComparisonError(
      f"compare '{model.origin}'",
      unsafe,
      "set is_trusted of the model if you trust it",
    )


def _runnable(model):
  """A GraphDef of what the outputs need, with the variables' values in it."""
  from bnexport.model.stream import to_graph_def
  from bnexport.transforms import table

  made = model.clone()
  made.inputs = ()
  table.apply_specs(made, "strip_unused_nodes read_variables freeze_variables")
  return to_graph_def(made)
