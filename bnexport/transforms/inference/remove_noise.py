# SPDX-License-Identifier: Apache-2.0
"""Noise of training is no part of inference."""

from __future__ import annotations

import dataclasses
import re
from typing import ClassVar, List, Tuple

from bnexport.analysis.flow import is_product
from bnexport.analysis.randomness import (
  LIKES,
  PRODUCTS,
  QUOTIENTS,
  SUMS,
  Randomness,
)
from bnexport.editing.conditionals import open_branches
from bnexport.errors import TransformError, nearest
from bnexport.graph import TensorRef, ops
from bnexport.graph.nodes import (
  FLOATS,
  in_scope,
  type_attr,
)
from bnexport.graph.origins import VIEWS
from bnexport.model import Model
from bnexport.model.changes import Doubt
from bnexport.transforms.inference.augmentation import behind_augmentation
from bnexport.transforms.inference.noise_choices import Choices
from bnexport.transforms.inference.noise_identities import Identities
from bnexport.transforms.inference.noise_means import Means, shape_slot

_LINEAR_MAPS = re.compile(
  r"^(Batch)?MatMul(V2|V3)?$|^Einsum$|^(DepthwiseC|C)onv(2D|3D)\w*$"
)
_ADDS = frozenset(("Add", "AddV2", "AddN"))
# They join what stays apart: a code beside a label, not noise on data.
_JOINS = frozenset(("Concat", "ConcatV2", "Pack"))


@dataclasses.dataclass(frozen=True)
class RemoveNoise:
  """Replaces what training draws at random by what it is on average.

  Where noise enters data linearly, it counts as its mean: dropout and other
  masks, noise that is added or multiplied, weights of branches, paths that
  are dropped. So does a random choice between a tensor and what weights make
  of it. Dropout that keeps mean 0 and variance 1 is the tensor itself. What
  is all random, such as the code that a generator draws, stays; it is named.

  Before: x = Placeholder() {shape=[?,4]}   scale = VariableV2() {shape=[4]}
          s = Shape(x)   n = RandomStandardNormal(s)   m = Mul(n, scale)
          a = AddV2(x, m)   y = Relu(a)
  After:  y = Relu(x)

  Refuses noise that enters otherwise, such as a place to crop at or the weight
  of a mixture whose mean is not known, and noise of another mean on data that
  no weights were applied to: a value for it, which is stated, decides.

  Attributes:
    keep: random ops that are part of the model: their names, their scopes,
      or tensors that they make.
  """

  name: ClassVar[str] = "remove_noise"
  keep: Tuple[str, ...] = ()

  def apply(self, model: Model) -> List[str]:
    if not draws(model) and not self.keep:
      return []
    return _Removal(model, self.keep).run()


def draws(model):
  """Whether anything random has a part in a model's outputs."""
  needed = model.needed(control=True)
  return any(ops.is_random(model.graph.op(name)) for name in needed)


def use_identities(model, keep=(), is_wanted=lambda found: True):
  """Puts tensors in the place of what they are with noise; tells which.

  Args:
    model: a Model.
    keep: names of random ops that are part of the model.
    is_wanted: tells which Identities to use.
  """
  graph, told = model.graph, []
  randomness = randomness_of(model, keep)
  identities = Identities(model, randomness)
  outputs = {ref.node for ref in model.outputs}
  needed = model.needed()
  for name in randomness.order:
    randomness.visit(graph.node(name))  # the noise before it may be gone
    found = identities.of(name) if name in needed else None
    if found is None or not is_wanted(found):
      continue
    graph.substitute({TensorRef(name): found.tensor})
    if name in outputs:
      attrs = {"T": type_attr(model.dtype(found.tensor))}
      graph.become(name, "Identity", [found.tensor], attrs)
    kind = "dropout" if found.is_masked else "noise"
    told.append(f"removed {kind} '{name}'")
    if found.keeps_moments:
      told[-1] += ", which keeps mean 0 and variance 1"
      model.decisions.moments += ((name, found.tensor),)
  return told


def randomness_of(model, keep=()):
  """The Randomness of the nodes that a model's outputs need.

  A constant in a branch shows by what it waits for which draw it hangs on.
  """
  graph = model.graph
  order = graph.topological(model.needed(control=True))
  return Randomness(graph, order, frozenset(keep))


class _Removal:
  """The removal of one model's noise."""

  def __init__(self, model, keep):
    self.model = model
    self.graph = model.graph
    self.keep = self._kept(keep)
    self.told = []

  def run(self):
    self.model.decisions.random_kept = self.keep
    self._use_stated()
    self.told += use_identities(self.model, self.keep)
    self._look()
    self._use_choices()
    self._look()
    self._use_means()
    return self.told

  def _kept(self, scopes):
    """Names of the random ops in some scopes, or behind some tensors."""
    randomness = randomness_of(self.model)
    order = randomness.order
    random = [name for name in order if ops.is_random(self.graph.op(name))]
    found = {}
    for scope in scopes:
      kept = [name for name in random if in_scope(name, scope)]
      if scope in self.graph:
        kept += randomness.sources(randomness.draws(TensorRef(scope)))
      if not kept:
        raise TransformError(
          f"keep '{scope}' random",
          "nothing that the outputs need draws there",
          nearest(scope, random, "give the name of a random op, or a scope"),
        )
      found.update(dict.fromkeys(kept))
    return tuple(found)

  def _look(self):
    """Looks at the graph as it is now."""
    self.randomness = randomness_of(self.model, self.keep)
    self.needed = self.model.needed()
    self.identities = Identities(self.model, self.randomness)
    self.means = Means(self.model, self.randomness)
    self.choices = Choices(self.graph, self.randomness, self.identities)

  # Values that a user states.

  def _use_stated(self):
    """Gives random tensors the values that are stated for them."""
    self._look()
    for name, value in self.model.decisions.values.items():
      ref = TensorRef(name)
      if name not in self.graph or not self.randomness.is_noise(ref):
        continue
      readers = self.graph.readers_of(ref)
      if all(self.graph.op(r) in ops.SHAPES | LIKES.keys() for r in readers):
        continue  # its value is not read
      dtype = self.model.dtype(ref)
      attrs = {"T": type_attr(dtype)}
      filled = self.graph.add("OnesLike", f"{name}/ones", [ref], attrs)
      if ops.is_random(self.graph.op(name)):
        slot = shape_slot(self.graph.op(name))
        shape = self.graph.data_inputs(name)[slot]
        number = self.means.constant(ref, value)
        attrs["index_type"] = type_attr(self.model.dtype(shape))
        self.graph.become(filled.name, "Fill", [shape, number], attrs)
      else:
        number = self.means.constant(ref, value)
        made = self.graph.add(
          "Mul", f"{name}/stated", [TensorRef(filled.name), number], attrs
        )
        filled = made
      self.graph.substitute({ref: TensorRef(filled.name)}, readers)
      self.told.append(f"'{name}' is {value}, as stated")

  # Choices between branches.

  def _use_choices(self):
    """Turns conditionals that a draw decides into what they are on average."""
    predicates = {}
    for name in self.randomness.order:
      node, ref = self.graph.node(name), TensorRef(name)
      if node.op not in ops.MERGES or not self.randomness.is_noisy(ref):
        continue
      found = self.means.choice_of(node) if name in self.needed else None
      if found is None or not self.randomness.is_noise(found[0]):
        continue
      predicates[found[0]] = None
      mean = self._chosen(TensorRef(name), *found)
      self.graph.substitute({TensorRef(name): mean})
      self._keep_name(name, mean)
    for predicate in predicates:
      open_branches(self.graph, predicate.node, self.randomness.contexts)

  def _chosen(self, ref, predicate, a, b):
    """The mean of a random choice between two tensors."""
    self._refuse_unsure(ref, predicate, a, b)
    chance = self.means.of(predicate, keeps_shape=False)
    if chance is None:
      self._refuse(predicate, ref.node, "its mean is not known")
    self._refuse_fed(chance, ref.node)
    a, b = (None if self.choices.is_zero(side) else side for side in (a, b))
    self.told.append(f"choice '{ref}' counts as its mean")
    self._doubt(self.told[-1], predicate)
    return self.means.mixed(ref, chance, a, b)

  def _refuse_unsure(self, ref, predicate, a, b):
    """Raises where a choice may be another thing than a path that drops out."""
    if self.model.dtype(ref).as_datatype_enum not in FLOATS:
      self._refuse(predicate, ref.node, "it chooses what has no mean")
    if self.graph.readers_of(ref._replace(index=1)):
      self._refuse(predicate, ref.node, "the branch that is taken is read")
    if not self.choices.is_sure(ref, predicate, a, b):
      self._refuse(predicate, ref.node, "it chooses one of two tensors")

  # Noise that enters data.

  def _use_means(self):
    """Puts means in the place of noise wherever it enters data."""
    meetings, near = list(self._meetings()), self._near()
    for name, _, ref in meetings:
      self._refuse_twice(ref, name, near)
    for name, slot, ref in meetings:
      if self.graph.op(name) in ops.SELECTS and not slot:
        self._select(name, self.graph.data_inputs(name))
      else:
        self._enter(name, slot, ref)

  def _meetings(self):
    """Yields nodes of data with the slots that read noise, and the noise."""
    for name in self.randomness.order:
      if name in self.needed and self.randomness.is_noisy(TensorRef(name)):
        for slot, ref in enumerate(self.graph.data_inputs(name)):
          if self.randomness.is_noise(ref):
            yield name, slot, ref

  def _select(self, name, refs):
    """A choice for each element, or for each row."""
    ref, (predicate, a, b) = TensorRef(name), refs
    readers = self.graph.readers_of(ref)
    mean = self._chosen(ref, predicate, a, b)
    self.graph.substitute({ref: mean}, readers)
    self._keep_name(name, mean)

  def _keep_name(self, name, mean):
    """Lets an output that was a choice hand on its mean."""
    if name in {ref.node for ref in self.model.outputs}:
      attrs = {"T": type_attr(self.model.dtype(mean))}
      self.graph.become(name, "Identity", [mean], attrs)

  def _enter(self, name, slot, ref):
    """Noise that a node of data reads."""
    node = self.graph.node(name)
    if node.op in _JOINS or self._is_code(ref):
      return  # it is named in the end
    if self.model.dtype(ref).as_datatype_enum not in FLOATS:
      self._refuse(ref, name, "what is whole or true has no mean")
    if not _is_linear(node.op, slot):
      self._refuse(ref, name, f"it is no factor or addend of {node.op}")
    mean = self.means.of(ref, self._shows_shape(name, slot))
    if mean is None:
      self._refuse(ref, name, "its mean is not known")
    data = [r for r in self.graph.data_inputs(name) if self.choices.is_raw(r)]
    if node.op in PRODUCTS and self.means.number(ref) == 0:
      if not self._is_addend(name):
        self._refuse(ref, name, "on average nothing is left of what it scales")
    elif data and node.op in SUMS | PRODUCTS | ops.SELECTS:
      self._refuse(
        ref, name, f"it changes '{data[0]}', which is input, on average as well"
      )
    self._refuse_fed(mean, name)
    self.graph.set_input(name, slot, mean)
    self.told.append(f"'{ref}' counts as its mean in '{name}'")
    self._doubt(self.told[-1], ref)

  def _refuse_twice(self, ref, name, near):
    """Raises where noise scales what it was part of before."""
    if self.graph.op(name) not in PRODUCTS:
      return
    others = [r for r in self.graph.data_inputs(name) if r != ref]
    if any(self.randomness.draws(ref) & near.get(r.node, 0) for r in others):
      self._refuse(ref, name, "it scales what it has a part in")

  def _near(self):
    """Bits of the draws that sums and products brought into each node."""
    near = {}
    for name in self.randomness.order:
      ref, op = TensorRef(name), self.graph.op(name)
      if self.randomness.is_noise(ref):
        near[name] = self.randomness.draws(ref)
      elif op in SUMS | PRODUCTS | ops.IDENTITIES:
        near[name] = 0
        for other in self.graph.data_inputs(name):
          near[name] |= near.get(other.node, 0)
    return near

  def _is_addend(self, name):
    """Whether all that reads a node adds it to something."""
    readers = [r for r in self.graph.readers(name) if r in self.needed]
    return name not in {ref.node for ref in self.model.outputs} and all(
      self.graph.op(r) in _ADDS | {"Sub"}
      or (self.graph.op(r) in PRODUCTS | ops.IDENTITIES and self._is_addend(r))
      for r in readers
    )

  def _is_code(self, ref):
    """Whether weights are applied to noise: a generator's code."""
    needed = self.graph.ancestors([ref.node], control=False)
    return any(
      is_product(self.graph.op(name))
      and any(map(self.randomness.is_noise, refs[:1]))
      and not any(map(self.randomness.is_noise, refs[1:]))
      for name, refs in ((n, self.graph.data_inputs(n)) for n in needed)
    )

  def _shows_shape(self, name, slot):
    """Whether it shows in what a node is read as that noise got narrower."""
    outputs = {ref.node for ref in self.model.outputs}
    stack, seen = [(name, slot)], set()
    while stack:
      name, slot = stack.pop()
      if (name, slot) in seen or self.graph.op(name) in ops.FUSED_NORMS:
        continue
      seen.add((name, slot))
      if self.graph.op(name) not in SUMS | PRODUCTS:
        return True
      if self._is_filled_out(name, slot):
        continue
      if name in outputs:
        return True
      stack += [
        (reader, i)
        for reader in self.graph.readers(name)
        if reader in self.needed
        for i, ref in enumerate(self.graph.data_inputs(reader))
        if ref.node == name
      ]
    return False

  def _is_filled_out(self, name, slot):
    """Whether another operand has the shape of the result."""
    out = self.identities.shape(TensorRef(name))
    refs = self.graph.data_inputs(name)
    others = refs[:slot] + refs[slot + 1 :]
    shapes = [self.identities.shape(ref) for ref in others]
    return out is not None and out in shapes

  # What is said.

  def _refuse(self, noise, entry, why):
    name = self._decider(noise)
    behind = behind_augmentation(self.model, self.randomness, noise)
    cut = ""
    if behind is not None:
      cut = f"--input_node={behind} to feed the input there, as it is, "
    raise TransformError(
      f"tell what random '{name}' means at inference",
      f"it enters '{entry}', and {why}",
      f"pass {cut}--set={name}=VALUE to give it a value, or "
      f"--keep_random={name} where the model draws it at inference, too",
    )

  def _refuse_fed(self, mean, entry):
    """Raises where a mean is that of a rate which is fed."""
    for name in self.graph.ancestors([mean.node], control=False):
      if self.graph.op(name) in ("Placeholder", "PlaceholderV2") and (
        self.randomness.is_free(TensorRef(name))
      ):
        raise TransformError(
          f"tell what '{name}' means at inference",
          f"'{entry}' is scaled by the chances that it gives",
          f"pass --set={name}=VALUE",
        )

  def _decider(self, ref):
    """The tensor whose value decides: of x and 1 - x the first."""
    while True:
      refs = self.graph.data_inputs(ref.node)
      drawn = [r for r in refs if self.randomness.draws(r)]
      op = self.graph.op(ref.node)
      is_plain = op == "Sub" and drawn == refs[1:]
      if len(drawn) != 1 or not (is_plain or op in VIEWS | ops.ENTERS):
        return ref.node
      ref = drawn[0]

  def _doubt(self, line, noise):
    self.model.warnings.append(
      Doubt(
        f"{line}; --keep_random={noise.node} keeps it random",
        noise.node,
      )
    )


def _is_linear(op, slot):
  """Whether a node's output is linear in one of its inputs."""
  if op in SUMS or op in ops.MERGES or _LINEAR_MAPS.match(op):
    return True
  if op in PRODUCTS:
    return op not in QUOTIENTS or slot == 0
  if op in ops.FUSED_NORMS:
    return slot in (1, 2)
  return op in ops.SELECTS and slot > 0
