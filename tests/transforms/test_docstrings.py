# SPDX-License-Identifier: Apache-2.0
"""Before and After in the docstring of every transform, executed.

Conventions of these examples:
- `y` is the model's output.
- What is read and not stated is a placeholder; in After it is what it is in
  Before, or a new constant of any value.
- After states all else that `y` needs, and may state more; attributes count
  where it gives them.
- With says which parameters the transform has there, as a spec.
"""

import importlib
import pkgutil
import re

import pytest
from judges.transforming import checkpoint, model_of, nodes

import bnexport.transforms
from bnexport import text
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import Signatures, missing_attribute
from bnexport.tf1 import op_def, tf1
from bnexport.transforms import calls, spec, table
from bnexport.transforms.inference.freeze_variables import FreezeVariables

# What a docstring tells in words: the checkpoint, the model's inputs.
CHECKPOINTS = {
  "freeze_variables": {"v": 0.5},
  "restore_updates": {
    "gamma": [1, 1],
    "moving_mean": [0, 0],
    "moving_variance": [1, 1],
  },
  "use_moving_averages": {"v": 1.0, "v/ExponentialMovingAverage": 2.0},
}
INPUTS = {"replace_inputs": ["x"]}
FILES = {"ranges.log": ";r__print__;__requant_min_max:[-1][2]"}
# Its effect is on values, which show once they are in the graph.
THEN = {"use_moving_averages": FreezeVariables()}


def example(docstring):
  """The statements of Before and After."""
  found = re.search(
    r"^ *Before:(.*?)^ *After:(.*?)(?:^ *$|\Z)", docstring, re.M | re.S
  )
  assert found, "the docstring has no Before and After"
  return found.groups()


def as_written(statements):
  """The statements with no attribute added."""
  return text.loads("graph {complete=true}\n" + statements)


def declare(graph_def, known=()):
  """Adds what is read and not there: of `known`, else a placeholder."""
  there = {node.name for node in graph_def.node}
  known = {node.name: node for node in known}
  for node in graph_def.node:  # what is added is looked at as well
    for slot, read in enumerate(node.input):
      read = TensorRef.parse(read)
      if read.node in there:
        continue
      there.add(read.node)
      if read.node in known:
        graph_def.node.add().CopyFrom(known[read.node])
        continue
      made = graph_def.node.add(name=read.node, op="Placeholder")
      dtype = tf1.float32.as_datatype_enum
      if not read.control and op_def(node.op):
        if missing_attribute(node, op_def(node.op)) is None:
          dtype = Signatures().input_dtypes(node)[slot]
      made.attr["dtype"].type = dtype


def differences(graph, after, before):
  """In what a graph is not what After says, a line each."""
  expected = as_written(after)
  stated = {node.name for node in expected.node}
  declare(expected, before.node)
  expected = Graph(expected)
  found = [
    "y needs '%s'" % name
    for name in sorted(graph.ancestors(["y"]))
    if name not in expected
  ]
  for node in expected:
    if node.name not in graph:
      found.append("there is no '%s'" % node.name)
      continue
    real = graph.node(node.name)
    if node.name not in stated and real.op == "Const":
      continue
    given = node.attr if node.name in stated else {}
    if (
      real.op != node.op
      or list(real.input) != list(node.input)
      or any(
        key not in real.attr or real.attr[key] != value
        for key, value in given.items()
      )
    ):
      found.append("it is %s" % text.dumps(real, brief=True))
  return found


def run(transform, before, folder):
  """Applies a transform to Before; returns the Model and Before's graph."""
  before = text.loads(before)
  declare(before)
  values = CHECKPOINTS.get(transform.name)
  model = model_of(
    before,
    inputs=INPUTS.get(transform.name, ()),
    saved=values and checkpoint(folder, values),
  )
  transform.apply(model)
  if transform.name in THEN:
    THEN[transform.name].apply(model)
  model.graph.lint()
  return model, before


@pytest.mark.parametrize("name", sorted(table.TRANSFORMS))
def test_example(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for path, content in FILES.items():
    (tmp_path / path).write_text(content)
  cls = table.TRANSFORMS[name]
  given = re.search(r"^ *With: *(.*)$", cls.__doc__, re.M)
  (call,) = calls.read(given.group(1) if given else cls.name)
  assert call.name == cls.name
  transform = spec.make(cls, call)
  before, after = example(cls.__doc__)
  model, before = run(transform, before, tmp_path)
  assert differences(model.graph, after, before) == []
  is_changed = nodes(model) != nodes(model_of(before))
  # Graphs are written in that order always, and the index has none.
  assert is_changed == (name != "sort_by_execution_order")


def test_all_transforms_are_in_the_table():
  """A transform is a dataclass with `apply`; the table is made by hand."""
  found = set()
  for module in pkgutil.walk_packages(
    bnexport.transforms.__path__, "bnexport.transforms."
  ):
    members = vars(importlib.import_module(module.name)).values()
    found |= {
      member
      for member in members
      if isinstance(member, type) and hasattr(member, "apply")
    }
  assert found == set(table.TRANSFORMS.values())


@pytest.mark.parametrize(
  "docstring",
  [
    "Does something.",
    "Before: y = Relu(x)",
    "After: y = Relu(x)",
    "After: y = Relu(x)\nBefore: y = Relu(x)",
  ],
)
def test_docstring_without_example(docstring):
  with pytest.raises(AssertionError):
    example(docstring)


def test_example_ends_at_a_blank_line():
  before, after = example(
    "What.\n\n  Before: a = B()\n          c = D()\n  After:  e = F()\n"
    "          g = H()\n\n  Refuses.\n"
  )
  assert before.split() == "a = B() c = D()".split()
  assert after.split() == "e = F() g = H()".split()


BEFORE = "v = VariableV2()   a = Conv2D(x, w)   z = Neg(a)   y = Add(a, v)"


@pytest.mark.parametrize(
  "after, word",
  [
    (BEFORE, None),
    ("a = Conv2D(x, w)   y = Add(a, v)", None),
    ("a = Conv2D(x, w) {padding=SAME}   y = Add(a, v)", None),
    ("a = Conv2D(x, w) {padding=VALID}   y = Add(a, v)", "it is a = Conv2D"),
    ("a = Conv2D(x, w) {paddings=SAME}   y = Add(a, v)", "it is a = Conv2D"),
    ("a = Conv2D(w, x)   y = Add(a, v)", "it is a = Conv2D(x, w)"),
    ("a = Conv2D(x, w, ^v)   y = Add(a, v)", "it is a = Conv2D(x, w)"),
    ("a = MatMul(x, w)   y = Add(a, v)", "it is a = Conv2D(x, w)"),
    ("a = Conv2D(x, w)   b = Neg(v)   y = Add(a, v)", "there is no 'b'"),
    ("v = Const()   a = Conv2D(x, w)   y = Add(a, v)", "it is v = VariableV2"),
    ("y = Add(x, v)", "y needs 'a'"),
    ("a = Conv2D(x, q)   y = Add(a, v)", "there is no 'q'"),
  ],
)
def test_differences_are_noticed(after, word):
  before = text.loads(BEFORE)
  declare(before)
  found = differences(Graph(before), after, before)
  assert bool(found) == (word is not None)
  assert word is None or any(word in line for line in found)


def test_only_constants_need_no_statement():
  before = text.loads("y = Neg(x)")
  declare(before)
  for made, is_same in (("Const", True), ("Relu", False)):
    now = text.loads("y = Add(c, x)   c = %s()" % made)
    declare(now)
    found = differences(Graph(now), "y = Add(c, x)", before)
    assert (found == []) == is_same


def test_declared_placeholders_have_the_dtype_that_is_read():
  graph_def = text.loads("s = Switch(x, p)   y = RandomUniform(n)")
  declare(graph_def)
  dtypes = {
    node.name: tf1.as_dtype(node.attr["dtype"].type)
    for node in graph_def.node
    if node.op == "Placeholder"
  }
  assert dtypes == {"x": tf1.float32, "p": tf1.bool, "n": tf1.int32}
