# SPDX-License-Identifier: Apache-2.0
"""Deciding the phase: predicates get the value they have at inference."""

from __future__ import annotations

import dataclasses
import itertools
from typing import ClassVar, List, Mapping, Tuple

import numpy as np

from bnexport.analysis.partial_evaluation import (
  PartialEvaluation,
  ScopedEvaluation,
)
from bnexport.analysis.phase import (
  find_constants,
  find_leaves,
  hint,
  is_training_mark,
  stated_value,
  value_text,
)
from bnexport.errors import TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import (
  constant,
  in_scope,
  static_shape,
  tensor_attr,
  type_attr,
)
from bnexport.model import Model

# So many undecided switches at once are tried in all combinations.
_MOST_JOINT = 6
# Why a variable has a value.
_SAVED = "its value in the checkpoint"


@dataclasses.dataclass(frozen=True)
class Decide:
  """Puts a value where the phase was and folds what follows from it.

  The value that means inference is the one under which the outputs need the
  fewest state updates and batch statistics, then the fewest random numbers.
  Conditionals about data stay as they are.

  Before: p = Placeholder() {dtype=bool}   s = Switch(x, p)
          a = FusedBatchNorm(s, g, b, mean, variance) {is_training=false}
          t = FusedBatchNorm(s:1, g, b, none, none) {is_training=true}
          m = Merge(a, t)   y = Relu(m)
  After:  a = FusedBatchNorm(x, g, b, mean, variance) {is_training=false}
          y = Relu(a)

  Refuses when two values of a placeholder leave different graphs that are
  equally good and nothing but its name tells them apart.

  Attributes:
    values: values a user states, as text by node name.
    keep: scopes whose norms keep their batch statistics: predicates have
      their training value there.
  """

  name: ClassVar[str] = "decide"
  values: Mapping[str, str] = dataclasses.field(default_factory=dict)
  keep: Tuple[str, ...] = ()

  def apply(self, model: Model) -> List[str]:
    return _Phase(model, self.values, self.keep).decide()


def at_inference(model):
  """The PartialEvaluation of a graph at inference; the graph stays as it is.

  Raises:
    TransformError: what means inference can't be told.
  """
  return _Phase(model, {}, ()).evaluation()


def training_constants(model):
  """Leaves of constant predicates that take the side of training.

  With the other value, less training is left in what the outputs need. What
  the code states is changed by nobody but the user.
  """
  phase = _Phase(model, {}, ())
  found = []
  for leaf in find_constants(model, phase.order):
    stated, other = (
      phase.marks({leaf.name: np.bool_(value)})[0][0]
      for value in (leaf.default, not leaf.default)
    )
    if other < stated:
      found.append(leaf)
  return found


def _is_counted(value):
  """Whether a variable's value is a number, such as a step, and no flag.

  A phase that is kept in a variable is a bool; a checkpoint has the training
  value of it. A number means what it says.
  """
  return value is not None and np.asarray(value).dtype.kind in "iuf"


class _Phase:
  """The choice for one model."""

  def __init__(self, model, stated, keep):
    self.model = model
    self.graph = model.graph
    self.keep = keep
    self.order = self.graph.topological(
      self.graph.ancestors(ref.node for ref in model.outputs)
    )
    self.known = {}
    self.told = []
    for name, text in stated.items():
      self.known[name] = stated_value(model, name, text)
      self.told.append(f"decided '{name}' = {text}, as stated")

  def decide(self):
    if self.keep:
      self._refuse_unknown_scopes()
    self.evaluation()
    scoped = None
    if self.keep:
      opposite = {
        name: np.bool_(not value) if isinstance(value, np.bool_) else value
        for name, value in self.known.items()
      }
      scoped = ScopedEvaluation(self.graph, self.order, opposite, self.keep)
    evaluation = PartialEvaluation(self.graph, self.order, self.known, scoped)
    _rewrite(self.model, evaluation)
    self._settle_elsewhere()
    self.model.decisions.values.update(self.known)
    return self.told

  def _settle_elsewhere(self):
    """Stated values also hold where only averages are updated, as of a row."""
    for name, value in self.known.items():
      ref = TensorRef(name)
      shape = static_shape(self.graph, ref) or ()
      if self.graph.op(name) in ops.PLACEHOLDERS and -1 not in shape:
        value = np.broadcast_to(np.asarray(value), shape)
        _constant(self.model, ref, value, False)

  def evaluation(self):
    """Decides; returns the PartialEvaluation that follows from it."""
    self._use_defaults(self._choose())
    return PartialEvaluation(self.graph, self.order, self.known)

  def _refuse_unknown_scopes(self):
    for scope in self.keep:
      if not any(in_scope(name, scope) for name in self.order):
        raise TransformError(
          f"keep batch statistics of '{scope}'",
          "nothing that the outputs need has that name or scope",
          "give a norm's scope",
        )

  # The choice.

  def _choose(self):
    """Decides leaf after leaf; returns the evaluation that follows."""
    while True:
      evaluation = PartialEvaluation(self.graph, self.order, self.known)
      leaves = find_leaves(self.model, evaluation)
      if not any([self._choose_one(leaf) for leaf in leaves]):
        break
    if 2 <= len(leaves) <= _MOST_JOINT and self._choose_jointly(leaves):
      return self._choose()
    for leaf in leaves:
      if self._choose_by_rest(leaf):
        return self._choose()
    return evaluation

  def marks(self, assignment):
    """What training leaves behind under an assignment: (training, random)."""
    evaluation = PartialEvaluation(
      self.graph, self.order, dict(self.known, **assignment)
    )
    needed = evaluation.needed(self.model.outputs)
    training = sum(is_training_mark(self.graph, name) for name in needed)
    random = sum(ops.is_random(self.graph.op(name)) for name in needed)
    return (training, random), frozenset(needed)

  def _choose_one(self, leaf):
    if leaf.name in self.known:
      return False
    if leaf.op in ops.VARIABLES and _is_counted(leaf.default):
      self._decide(leaf, leaf.default, _SAVED)
      return True
    marks = [self.marks({leaf.name: c})[0] for c in leaf.candidates]
    if leaf.op == "Const":
      # What the code states is changed only to leave training.
      marks = [(training, 0) for training, _ in marks]
    best = min(marks)
    if marks.count(best) > 1 and len(set(marks)) > 1:
      return self._choose_among(
        leaf, [c for c, m in zip(leaf.candidates, marks) if m == best]
      )
    if marks.count(best) > 1:
      return False
    self._decide(
      leaf,
      leaf.candidates[marks.index(best)],
      "it leaves no training in the graph",
    )
    return True

  def _choose_among(self, leaf, candidates):
    """Several values are equally good and others are worse."""
    graphs = {self.marks({leaf.name: c})[1] for c in candidates}
    default = [c for c in candidates if c == leaf.default]
    if len(graphs) > 1 and not default:
      if leaf.op != "Placeholder" and leaf.op != "PlaceholderV2":
        return False
      raise TransformError(
        f"tell which value of '{leaf.name}' means inference",
        f"{' and '.join(map(value_text, candidates))} give different graphs "
        "without training",
        f"pass --set={leaf.name}=VALUE",
      )
    self._decide(
      leaf, (default or candidates)[0], "it leaves no training in the graph"
    )
    return True

  def _choose_jointly(self, leaves):
    """Predicates of several leaves, such as `a or b`."""
    combinations = list(itertools.product(*(f.candidates for f in leaves)))
    if len(combinations) > 2**_MOST_JOINT:
      return False
    names = [leaf.name for leaf in leaves]
    marks = [self.marks(dict(zip(names, c)))[0] for c in combinations]
    best = [c for c, m in zip(combinations, marks) if m == min(marks)]
    if len(best) == len(combinations):
      return False
    decided = False
    for i, leaf in enumerate(leaves):
      values = {c[i] for c in best}
      if len(values) == 1 and leaf.op != "Const":
        self._decide(leaf, values.pop(), "it leaves no training in the graph")
        decided = True
    return decided

  def _choose_by_rest(self, leaf):
    """The graph leaves the choice open: a default, a name, or a refusal."""
    if leaf.default is not None and leaf.op != "PlaceholderWithDefault":
      return False
    if len({self.marks({leaf.name: c})[1] for c in leaf.candidates}) == 1:
      return False
    value = hint(leaf)
    if value is not None:
      self._decide(leaf, value, "as its name says; the graph leaves it open")
      return True
    if leaf.op == "PlaceholderWithDefault":
      return False
    raise TransformError(
      f"tell which value of '{leaf.name}' means inference",
      f"{' and '.join(map(value_text, leaf.candidates))} leave equally "
      "little training in the graph",
      f"pass --set={leaf.name}=VALUE, or name it in --input_node to keep it "
      "as an input",
    )

  def _decide(self, leaf, value, reason):
    self.known[leaf.name] = value
    self.told.append(f"decided '{leaf.name}' = {value_text(value)}: {reason}")

  def _use_defaults(self, evaluation):
    """Predicates of variables have the value that the checkpoint holds."""
    for leaf in find_leaves(self.model, evaluation):
      if leaf.op in ops.VARIABLES and leaf.default is not None:
        self._decide(leaf, leaf.default, _SAVED)


# Rewriting.


def _rewrite(model, evaluation):
  """Writes what an evaluation found into the graph."""
  graph = model.graph
  needed = evaluation.needed(model.outputs)
  contexts, made = evaluation.contexts, {}  # before the graph is edited
  for name in needed:
    refs = []
    for ref in evaluation.inputs(name):
      if not ref.control and evaluation.folded_value(ref) is not None:
        if ref not in made:
          value = evaluation.folded_value(ref)
          made[ref] = _constant(model, ref, value, contexts.is_inside(ref))
        ref = made[ref]
      refs.append(ref)
    if refs != graph.inputs(name):
      graph.set_inputs(name, refs)
  for output in model.outputs:
    target = evaluation.resolve(output)
    if evaluation.is_dead(output):
      raise TransformError(
        f"export '{output}'",
        "it lies on a branch that is not taken at inference",
        "name the output behind the conditional",
      )
    if target != output:
      _become_identity(model, output, target)


def _constant(model, ref, value, is_inside):
  """A Const in the place of a tensor whose value is decided."""
  graph, name, dtype = model.graph, ref.node, model.dtype(ref)
  if graph.op(name) in ops.PLACEHOLDERS and not is_inside:
    attrs = {"dtype": type_attr(dtype), "value": tensor_attr(value, dtype)}
    graph.become(name, "Const", (), attrs)
    return ref
  # In a branch or a loop it has to stay there: it waits for what it replaces.
  control = [TensorRef(name, 0, True)] if is_inside else ()
  return constant(graph, name + "/decided", value, dtype, control)


def _become_identity(model, output, target):
  """Lets an output node that was folded away hand on what it equals."""
  attrs = {"T": type_attr(model.dtype(output))}
  model.graph.become(output.node, "Identity", [target], attrs)
