# SPDX-License-Identifier: Apache-2.0
"""Refusals of rewritten graphs that could still train or use the batch."""

from __future__ import annotations

from bnexport.analysis.flow import Flow
from bnexport.batchnorm.norm import BATCH
from bnexport.errors import TransformError
from bnexport.graph import ops
from bnexport.graph.nodes import in_scope


def refuse_training(model):
  """No way of writing variables may be left."""
  for node in model.graph:
    if node.op in ops.UPDATES and node.name not in model.initializers:
      raise TransformError(
        f"export '{node.name}'",
        "it updates a variable and its value is needed",
        "cut behind it with --input_node",
      )


def refuse_partial_writes(original, model):
  """Refuses norms whose averages may be rows that are written.

  Nothing follows such writes; those of sparse gradients are none of these.
  """
  if not model.decisions.unaveraged:
    return
  flow = Flow(original.graph)
  for node in original.graph:
    if node.op in ops.PARTIAL_UPDATES and node.name not in flow.derived:
      norm = model.decisions.unaveraged[0]
      raise TransformError(
        f"export norm '{norm}'",
        f"it computes its own statistics, and '{node.name}' ({node.op}) writes "
        "rows of a variable, which may be its averages",
        f"pass --keep_batch_statistics={norm} if it means to use the batch",
      )


def refuse_lost(model, norms, keep):
  """Raises TransformError for norms that use the batch, where nobody said so.

  Freezing prunes the updates, so that nothing tells an instance norm.

  Args:
    model: the Model, mended and rewritten.
    norms: its BatchNorms.
    keep: names and scopes of norms that mean to use the batch.
  """
  lost = unaveraged(model, norms, keep)
  if not lost:
    return
  fact = "it is in training mode and its averages are not in the graph"
  if model.values.checkpoint is not None:
    saved = model.values.checkpoint.prefix
    fact += f", nor do names in checkpoint '{saved}' tell them"
  raise TransformError(
    f"mend norm {_named(lost)}",
    fact,
    "pass --checkpoint=PREFIX with its .meta beside it, or "
    "--calibration_data=FILE.npz to compute them; "
    f"--keep_batch_statistics={lost[0]} keeps a norm that means to use the "
    "batch",
  )


def refuse_frozen(model, norms, keep):
  """The same for a graph that was frozen before it was to be frozen.

  It has no variables, so that the averages can be nowhere in it.

  Args:
    model: the Model, rewritten.
    norms: its BatchNorms.
    keep: names and scopes of norms that mean to use the batch.
  """
  lost = unaveraged(model, norms, keep)
  if not lost:
    return
  outputs = ",".join(map(str, model.outputs))
  step = "run repair on its GraphDef"
  if model.request is not None and model.request.kind == "graph_def":
    step = "run " + model.request.command("repair", f"--output_node={outputs}")
  elif model.request is not None and model.request.kind == "saved_model":
    step = (
      f"run python -m bnexport.transform --in_graph={model.request.source} "
      "--out_graph=FILE.pb, and repair on that file"
    )
  raise TransformError(
    f"freeze norm {_named(lost)}",
    "it is in training mode, and the graph holds no variables: it was frozen "
    "before",
    f"{step}; --keep_batch_statistics={lost[0]} keeps a norm that means to "
    "use the batch",
  )


def unaveraged(model, norms, keep):
  """Names of norms that use the batch, where nobody asked for it."""
  return model.decisions.unaveraged or tuple(
    norm.name
    for norm in norms
    if norm.statistics == BATCH
    and not any(in_scope(norm.name, scope) for scope in keep)
  )


def _named(lost):
  more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
  return f"'{lost[0]}'{more}"
