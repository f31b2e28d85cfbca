"""Deciding the phase: predicates get the value they have at inference."""

from __future__ import annotations

import dataclasses
import itertools
from typing import ClassVar, Mapping, Tuple

import numpy as np

from bnexport import ops
from bnexport.errors import TransformError
from bnexport.evaluation import (
  TRANSPARENT,
  Evaluation,
  Exceptions,
  in_scope,
)
from bnexport.graph import TensorRef
from bnexport.nodes import (
  constant,
  constant_value,
  static_shape,
  tensor_attr,
  type_attr,
)
from bnexport.tf1 import tf1

_COMPARISONS = frozenset(
  (
    "Equal",
    "NotEqual",
    "Less",
    "LessEqual",
    "Greater",
    "GreaterEqual",
  )
)
# Read only where the graph itself leaves the choice open.
_TRAINING_WORDS = ("train", "phase", "learning")
_INFERENCE_WORDS = ("test", "infer", "eval", "predict", "deploy", "valid")
# So many undecided switches at once are tried in all combinations.
_MOST_JOINT = 6


@dataclasses.dataclass(frozen=True)
class Decide:
  """Puts a value where the phase was and folds what follows from it.

  The value that means inference is the one under which the outputs need the
  fewest state updates and batch statistics, then the fewest random numbers.
  Conditionals about data stay as they are.

  Before: p = Placeholder()   s = Switch(x, p)   a = Relu(s)   b = Neg(s:1)
          m = Merge(a, b)     y = Identity(m)
  After:  a = Relu(x)   y = Identity(a)

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

  def apply(self, model):
    return _Phase(model, self.values, self.keep).decide()


@dataclasses.dataclass
class _Leaf:
  """A scalar that predicates are computed from."""

  name: str
  candidates: Tuple
  default: object  # what it is where nobody decides; None for a placeholder
  op: str


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
      self.known[name] = self._stated(name, text)
      self.told.append("decided '%s' = %s, as stated" % (name, text))

  def decide(self):
    if self.keep:
      self._refuse_unknown_scopes()
    evaluation = self._choose()
    self._use_defaults(evaluation)
    exceptions = None
    if self.keep:
      opposite = {
        name: np.bool_(not value) if isinstance(value, np.bool_) else value
        for name, value in self.known.items()
      }
      exceptions = Exceptions(self.graph, self.order, opposite, self.keep)
    _rewrite(
      self.model, Evaluation(self.graph, self.order, self.known, exceptions)
    )
    self.model.decided.update(self.known)
    return self.told

  def _refuse_unknown_scopes(self):
    for scope in self.keep:
      if not any(in_scope(name, scope) for name in self.order):
        raise TransformError(
          "cannot keep batch statistics of '%s': nothing that the outputs "
          "need has that name or scope; give a norm's scope" % scope
        )

  # The leaves.

  def _stated(self, name, text):
    node = self.graph.node(name)
    dtype = model_dtype(self.model, TensorRef(name))
    if dtype == tf1.bool:
      if text.lower() not in ("true", "false", "1", "0"):
        raise TransformError(
          "cannot set '%s' to '%s': it is a bool; write "
          "--set=%s=false" % (name, text, name)
        )
      return np.bool_(text.lower() in ("true", "1"))
    if dtype == tf1.string:
      return text.encode()
    try:
      return dtype.as_numpy_dtype(text)
    except (ValueError, TypeError):
      raise TransformError(
        "cannot set '%s' to '%s': it is a %s" % (node.name, text, dtype.name)
      ) from None

  def _leaves(self, evaluation):
    """The undecided leaves behind the predicates of the outputs."""
    graph, found = self.graph, {}
    inputs = {ref.node for ref in self.model.inputs}
    for name in evaluation.needed(self.model.outputs):
      for ref in _predicates(graph, name):
        self._walk(ref, found, inputs)
    leaves = []
    for name, constants in found.items():
      leaf = self._leaf(name, constants)
      if leaf is not None and name not in self.known:
        leaves.append(leaf)
    return leaves

  def _walk(self, ref, found, inputs):
    """Collects the leaves of a predicate with what they are compared to."""
    stack, seen = [(ref, ())], set()
    while stack:
      ref, constants = stack.pop()
      if (ref, constants) in seen:
        continue
      seen.add((ref, constants))
      op = self.graph.op(ref.node)
      if op in ops.PLACEHOLDERS or op in ops.VARIABLES or op == "Const":
        if ref.node not in inputs and ref.index == 0:
          found.setdefault(ref.node, set()).update(constants)
      elif op in TRANSPARENT or op in ops.MERGES or op in ops.SWITCHES:
        refs = self.graph.data_inputs(ref.node)
        if op in _COMPARISONS:
          values = [constant_value(self.graph, r, largest=1) for r in refs]
          constants += tuple(
            v.reshape(-1)[0] for v in values if v is not None and v.size
          )
          # The constant is what a mode is compared to, not a mode; without one
          # the comparison is about data, or random.
          refs = [r for r, v in zip(refs, values) if v is None]
          refs = refs if len(refs) == 1 else []
        stack.extend((r, constants) for r in refs)

  def _leaf(self, name, constants):
    shape = static_shape(self.graph, TensorRef(name))
    if shape is not None and any(size != 1 for size in shape):
      return None
    dtype = model_dtype(self.model, TensorRef(name))
    node = self.graph.node(name)
    candidates = _candidates(dtype, constants)
    if node.op == "Const" and dtype != tf1.bool:
      return None
    if len(candidates) < 2:
      return None
    return _Leaf(name, candidates, self._default(node), node.op)

  def _default(self, node):
    if node.op == "Const":
      return constant_value(self.graph, TensorRef(node.name)).reshape(-1)[0]
    if node.op == "PlaceholderWithDefault":
      value = constant_value(self.graph, self.graph.inputs(node.name)[0])
      return None if value is None else value.reshape(-1)[0]
    if node.op in ops.VARIABLES and self.model.values is not None:
      if node.name in self.model.values:
        return self.model.values[node.name].reshape(-1)[0]
    return None

  # The choice.

  def _choose(self):
    """Decides leaf after leaf; returns the evaluation that follows."""
    while True:
      evaluation = Evaluation(self.graph, self.order, self.known)
      leaves = self._leaves(evaluation)
      if not any([self._choose_one(leaf) for leaf in leaves]):
        break
    if 2 <= len(leaves) <= _MOST_JOINT and self._choose_jointly(leaves):
      return self._choose()
    for leaf in leaves:
      if self._choose_by_rest(leaf):
        return self._choose()
    return evaluation

  def _marks(self, assignment):
    """What training leaves behind under an assignment: (training, random)."""
    evaluation = Evaluation(
      self.graph, self.order, dict(self.known, **assignment)
    )
    needed = evaluation.needed(self.model.outputs)
    training = sum(is_training_mark(self.graph, name) for name in needed)
    random = sum(ops.is_random(self.graph.op(name)) for name in needed)
    return (training, random), frozenset(needed)

  def _choose_one(self, leaf):
    if leaf.name in self.known:
      return False
    marks = [self._marks({leaf.name: c})[0] for c in leaf.candidates]
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
    graphs = {self._marks({leaf.name: c})[1] for c in candidates}
    default = [c for c in candidates if c == leaf.default]
    if len(graphs) > 1 and not default:
      if leaf.op != "Placeholder" and leaf.op != "PlaceholderV2":
        return False
      raise TransformError(
        "cannot tell which value of '%s' means inference: %s give different "
        "graphs without training; pass --set=%s=VALUE"
        % (leaf.name, " and ".join(map(_text, candidates)), leaf.name)
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
    marks = [self._marks(dict(zip(names, c)))[0] for c in combinations]
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
    if len({self._marks({leaf.name: c})[1] for c in leaf.candidates}) == 1:
      return False
    hint = _hint(leaf)
    if hint is not None:
      self._decide(leaf, hint, "as its name says; the graph leaves it open")
      return True
    if leaf.op == "PlaceholderWithDefault":
      return False
    raise TransformError(
      "cannot tell which value of '%s' means inference: %s leave equally "
      "little training in the graph; pass --set=%s=VALUE, or name it in "
      "--input_node to keep it as an input"
      % (leaf.name, " and ".join(map(_text, leaf.candidates)), leaf.name)
    )

  def _decide(self, leaf, value, reason):
    self.known[leaf.name] = value
    self.told.append(
      "decided '%s' = %s: %s" % (leaf.name, _text(value), reason)
    )

  def _use_defaults(self, evaluation):
    """Predicates of variables have the value that the checkpoint holds."""
    for leaf in self._leaves(evaluation):
      if leaf.op in ops.VARIABLES and leaf.default is not None:
        self.known[leaf.name] = leaf.default
        self.told.append(
          "decided '%s' = %s, its value in the checkpoint"
          % (leaf.name, _text(leaf.default))
        )


def _predicates(graph, name):
  """The tensors that a node chooses by."""
  op = graph.op(name)
  refs = graph.data_inputs(name)
  if op in ops.SWITCHES:
    return [] if graph.op(refs[1].node) == "LoopCond" else [refs[1]]
  if op in ("Select", "SelectV2"):
    return [refs[0]]
  if op == "Cast" and graph.node(name).attr["SrcT"].type == tf1.bool:
    return [refs[0]]  # a phase may be arithmetic: phase * a + (1 - phase) * b
  return []


def _candidates(dtype, constants):
  """Values that can make a difference to the comparisons a leaf is in."""
  if dtype == tf1.bool:
    return (np.bool_(False), np.bool_(True))
  if dtype == tf1.string:
    return tuple(sorted(constants)) + (b"",) if constants else ()
  if not (dtype.is_integer or dtype.is_floating):
    return ()
  numbers = set(constants) if constants else {0}
  kind = dtype.as_numpy_dtype
  least = dtype.min if dtype.is_unsigned else -np.inf
  return tuple(
    sorted({kind(c + d) for c in numbers for d in (-1, 0, 1) if c + d >= least})
  )


def _hint(leaf):
  """What a bool's name says about inference, or None."""
  if not isinstance(leaf.candidates[0], np.bool_):
    return None
  name = leaf.name.lower()
  training = any(word in name for word in _TRAINING_WORDS)
  inference = any(word in name for word in _INFERENCE_WORDS)
  if training == inference:
    return None
  negated = "not_" in name or "no_" in name
  return np.bool_(inference != negated)


def _text(value):
  return value.decode() if isinstance(value, bytes) else str(value)


def is_training_mark(graph, name):
  """Whether a node is there for training's sake.

  State updates, fused norms in training mode and means over the batch axis.
  """
  node = graph.node(name)
  if node.op in ops.UPDATES:
    return True
  if node.op in ops.FUSED_NORMS:
    return node.attr["is_training"].b or "is_training" not in node.attr
  if node.op in ("Mean", "Sum"):
    axes = constant_value(graph, graph.inputs(name)[1], largest=16)
    return axes is not None and 0 in axes.reshape(-1)
  return False


def model_dtype(model, ref):
  """The tf DType of a tensor."""
  node = model.graph.node(ref.node)
  if node.op in ops.VARIABLES or node.op in (
    "Const",
    "Placeholder",
    "PlaceholderWithDefault",
  ):
    return tf1.as_dtype(node.attr["dtype"].type)
  return tf1.as_dtype(model.signatures.output_dtypes(node)[ref.index])


# Rewriting.


def _rewrite(model, evaluation):
  """Writes what an evaluation found into the graph."""
  graph = model.graph
  needed = evaluation.needed(model.outputs)
  made = {}
  for name in needed:
    refs = []
    for ref in evaluation.inputs(name):
      if not ref.control and evaluation.folded_value(ref) is not None:
        ref = _constant(model, evaluation, ref, made)
      refs.append(ref)
    if refs != graph.inputs(name):
      graph.set_inputs(name, refs)
  for output in model.outputs:
    target = evaluation.resolve(output)
    if evaluation.is_dead(output):
      raise TransformError(
        "cannot export '%s': it lies on a branch that is not taken at "
        "inference; name the output behind the conditional" % output
      )
    if target != output:
      _become_identity(model, output, target)


def _constant(model, evaluation, ref, made):
  """A Const in the place of a tensor whose value is decided."""
  if ref not in made:
    graph, name = model.graph, ref.node
    dtype = model_dtype(model, ref)
    value = evaluation.folded_value(ref)
    if name in evaluation.conditional:
      # It has to stay in its branch or loop: it waits for what it replaces.
      made[ref] = constant(
        graph, name + "/decided", value, dtype, [TensorRef(name, 0, True)]
      )
    elif graph.op(name) in ops.PLACEHOLDERS:
      node = graph.node(name)
      graph.set_inputs(name, ())
      node.op = "Const"
      node.attr.clear()
      node.attr["dtype"].CopyFrom(type_attr(dtype))
      node.attr["value"].CopyFrom(tensor_attr(value, dtype))
      made[ref] = ref
    else:
      made[ref] = constant(graph, name + "/decided", value, dtype)
  return made[ref]


def _become_identity(model, output, target):
  """Lets an output node that was folded away hand on what it equals."""
  graph = model.graph
  dtype = model_dtype(model, output)
  node = graph.node(output.node)
  graph.set_inputs(output.node, [target])
  node.op = "Identity"
  node.attr.clear()
  node.attr["T"].CopyFrom(type_attr(dtype))
