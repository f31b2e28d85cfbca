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
  stated_value,
  value_text,
)
from bnexport.analysis.trials import Trials
from bnexport.errors import Offer, TransformError
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import (
  constant,
  identity,
  in_scope,
  static_shape,
  tensor_attr,
  type_attr,
)
from bnexport.model import Model
from bnexport.transforms.inference.delayed_quantization import refuse_not_begun
from bnexport.transforms.inference.training import Training, computations

# So many undecided switches at once are tried in all combinations.
_MOST_JOINT = 6
# To try values takes so many visits of edges at most: they are minutes, and no
# graph of a network takes them.
_MOST_VISITS = 1 << 24
# Why a leaf has a value.
_SAVED = "its value in the checkpoint"
_LESS = "it leaves no training in the graph"


@dataclasses.dataclass(frozen=True)
class Decide:
  """Puts a value where the phase was and folds what follows from it.

  The value that means inference is the one under which the outputs need none
  of the state updates, batch statistics and random numbers that training has,
  while stored statistics take the place of the batch's and every weight is
  used as before. Where nothing of training hangs on a switch, or either side
  of it trains, it is about data: it stays, and its placeholder is an input.

  Before: p = Placeholder() {dtype=bool}   s = Switch(x, p)
          a = FusedBatchNorm(s, g, b, mean, variance) {is_training=false}
          t = FusedBatchNorm(s:1, g, b, none, none) {is_training=true}
          m = Merge(a, t)   y = Relu(m)
  After:  a = FusedBatchNorm(x, g, b, mean, variance) {is_training=false}
          y = Relu(a)

  Refuses when two values leave different graphs without training, and when
  one of them trains less and leaves out weights too.

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
  leaves = find_constants(model, phase.order)
  if leaves:
    phase.try_from(PartialEvaluation(model.graph, phase.order, {}))
  for leaf in leaves:
    if phase.has_tried_much(leaf):
      break
    stated, other = (
      phase.without_random({leaf.name: np.bool_(value)})
      for value in (leaf.default, not leaf.default)
    )
    if phase.training.is_inference(other, stated):
      found.append(leaf)
  return found


def _joint(leaves):
  """Groups of leaves that are open in one predicate."""
  groups = {}
  for leaf in leaves:
    for predicate in leaf.predicates:
      groups.setdefault(predicate, []).append(leaf)
  found = {
    tuple(leaf.name for leaf in group): group for group in groups.values()
  }
  return [g for g in found.values() if 2 <= len(g) <= _MOST_JOINT]


def _settings(leaf, values):
  """The values of a leaf as changes of a command."""
  return [
    Offer({"set": f"{leaf.name}={value_text(value)}"}, adds=True)
    for value in values
  ]


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
    self.counted = []  # variables that the checkpoint decided
    self.told = []
    self._training = None
    self._trials = None
    self._visits = 0  # of the trials before
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
    evaluation = PartialEvaluation(self.graph, self.order, self.known)
    refuse_not_begun(self.graph, self.order, evaluation, self.counted)
    return evaluation

  def _refuse_unknown_scopes(self):
    for scope in self.keep:
      if not any(in_scope(name, scope) for name in self.order):
        raise TransformError(
          f"keep batch statistics of '{scope}'",
          "nothing that the outputs need has that name or scope",
          "give a norm's scope",
        )

  @property
  def training(self):
    if self._training is None:
      self._training = Training(self.model)
    return self._training

  # The choice.

  def _choose(self):
    """Decides leaf after leaf; returns the evaluation that follows."""
    while True:
      evaluation = PartialEvaluation(self.graph, self.order, self.known)
      leaves = find_leaves(self.model, evaluation)
      if not leaves:
        return evaluation
      self.try_from(evaluation)
      if any([self._choose_one(leaf) for leaf in leaves]):
        continue
      if not any([self._choose_jointly(group) for group in _joint(leaves)]):
        break
    for leaf in leaves:
      if (
        leaf.op in ops.PLACEHOLDERS
        and leaf.default is None
        and not leaf.is_factor
      ):
        self._keep_input(leaf)
    return evaluation

  def try_from(self, evaluation):
    """Tries values on top of what an evaluation knows, from now on."""
    self._visits += self._trials.visits if self._trials else 0
    self._trials = Trials(evaluation, self.model.outputs)

  def has_tried_much(self, leaf):
    """Whether to try a leaf, after all before it, has no end in sight."""
    pairs = len(leaf.candidates) ** 2
    return self._visits + self._trials.visits + pairs > _MOST_VISITS

  def _refuse_endless(self, leaf):
    if self.has_tried_much(leaf):
      raise TransformError(
        "decide the phase",
        f"scalars such as '{leaf.name}' choose between parts of "
        f"{len(self.order)} nodes, and there are too many of them to try",
        f"pass --set={leaf.name}=VALUE, and so on",
      )

  def needed(self, assignment):
    """What the outputs need under an assignment, a Needed."""
    return self._trials.needed(assignment)

  def without_random(self, assignment):
    """The same, but for random numbers.

    What the code states is changed only to leave training, and what scales
    random numbers may be what a sampler is fed.
    """
    return self.training.without_random(self.needed(assignment))

  def _choose_one(self, leaf):
    if leaf.name in self.known:
      return False
    self._refuse_endless(leaf)
    if leaf.is_count and leaf.default is not None:
      self._decide(leaf, leaf.default, _SAVED)
      return True
    is_weak = leaf.op == "Const" or leaf.is_factor
    needed = self.without_random if is_weak else self.needed
    graphs = [needed({leaf.name: c}) for c in leaf.candidates]
    best = self._inference(graphs)
    if not best:
      return False
    values = [leaf.candidates[i] for i in best]
    if leaf.default in values:
      values = [leaf.default]
    values = self._unlike(leaf, values)
    if len(values) > 1:
      raise TransformError(
        f"tell which value of '{leaf.name}' means inference",
        f"{' and '.join(map(value_text, values))} give different graphs "
        "without training",
        f"pass --set={leaf.name}=VALUE",
        _settings(leaf, values),
      )
    self._decide(leaf, values[0], _LESS)
    return True

  def _unlike(self, leaf, values):
    """The first of the values that leave each computation."""
    found, numbers = {}, {}
    for value in values if len(values) > 1 else ():
      known = dict(self.known, **{leaf.name: value})
      evaluation = PartialEvaluation(self.graph, self.order, known)
      self._visits += len(self.order)
      outputs = self.model.outputs
      left = computations(evaluation, self.order, outputs, numbers)
      found.setdefault(left, value)
    return list(found.values()) or values

  def _inference(self, graphs):
    """Numbers of the graphs that are others' inference, and nobody trains.

    Empty where nothing tells: no graph is the inference of another one.
    """
    if len(set(graphs)) < 2:
      return []
    dominated = {
      i
      for i, j in itertools.permutations(range(len(graphs)), 2)
      if self.training.is_inference(graphs[j], graphs[i])
    }
    return [i for i in range(len(graphs)) if i not in dominated and dominated]

  def _choose_jointly(self, leaves):
    """Predicates of several leaves, such as `a or b`."""
    if any(leaf.name in self.known for leaf in leaves):
      return True
    names = [leaf.name for leaf in leaves]
    combinations = list(itertools.product(*(f.candidates for f in leaves)))
    if len(combinations) > 2**_MOST_JOINT:
      return False
    self._refuse_endless(leaves[0])
    graphs = [self.needed(dict(zip(names, c))) for c in combinations]
    best = self._inference(graphs)
    if len({graphs[i] for i in best}) == 1:
      best = best[:1]  # whatever else they choose, it is the same graph
    decided = False
    for i, leaf in enumerate(leaves):
      values = {combinations[b][i] for b in best}
      if len(values) == 1 and leaf.op != "Const":
        self._decide(leaf, values.pop(), _LESS)
        decided = True
    return decided

  def _keep_input(self, leaf):
    """Leaves a choice about data to who feeds it; refuses what is unclear."""
    self._refuse_endless(leaf)
    graphs = [self.needed({leaf.name: c}) for c in leaf.candidates]
    for one, other in itertools.permutations(set(graphs), 2):
      if self.training.is_less(one, other) and not self.training.are_apart(
        one, other
      ):
        value = leaf.candidates[graphs.index(one)]
        raise TransformError(
          f"tell whether '{leaf.name}' is the phase",
          f"with {value_text(value)} the answers need less of training, and "
          "nothing stands in its place",
          f"pass --set={leaf.name}=VALUE, or name it in --input_node to keep "
          "it as an input",
          _settings(leaf, leaf.candidates),
        )
    if len(set(graphs)) > 1:
      self.told.append(f"'{leaf.name}' stays an input: no training hangs on it")

  def _decide(self, leaf, value, reason):
    self.known[leaf.name] = value
    self._trials.settle({leaf.name: value})
    if reason == _SAVED:
      self.counted.append(leaf.name)
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
  if graph.op(name) in ops.SWITCHES:
    # A Switch itself runs on both sides.
    side = identity(graph, f"{name}/side", ref, dtype)
    control = [TensorRef(side.node, 0, True)]
  return constant(graph, name + "/decided", value, dtype, control)


def _become_identity(model, output, target):
  """Lets an output node that was folded away hand on what it equals."""
  attrs = {"T": type_attr(model.dtype(output))}
  model.graph.become(output.node, "Identity", [target], attrs)
