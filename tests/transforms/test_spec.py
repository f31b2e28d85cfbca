# SPDX-License-Identifier: Apache-2.0
"""The grammar of --transforms, and the table of transforms."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Mapping, Optional, Tuple

import pytest

from bnexport.errors import TransformError
from bnexport.tf1 import tf1
from bnexport.transforms import calls, spec, table
from bnexport.transforms.folding.fold_constants import FoldConstants
from bnexport.transforms.spec import Shape
from bnexport.transforms.tidying.remove_nodes import RemoveNodes
from bnexport.transforms.tidying.strip_unused_nodes import StripUnusedNodes


@dataclasses.dataclass(frozen=True)
class Everything:
  """A transform with a parameter of every kind."""

  name: ClassVar[str] = "everything"
  need: str
  count: int = 3
  rate: float = 0.5
  flag: bool = False
  text: str = ""
  kind: Optional[tf1.DType] = None
  shape: Optional[Shape] = None
  ops: Tuple[str, ...] = spec.parameter("op", ())
  sizes: Tuple[int, ...] = ()
  shapes: Tuple[Shape, ...] = ()
  values: Mapping[str, str] = dataclasses.field(default_factory=dict)


def make(text):
  (call,) = calls.read(text)
  return spec.make(Everything, call, text)


def written(text):
  """What is read, as [(name, [(parameter, value)])]."""
  return [
    (
      call.name,
      [
        (key, value.text)
        for key, values in call.parameters.items()
        for value in values
      ],
    )
    for call in calls.read(text)
  ]


@pytest.mark.parametrize(
  "text, expected",
  [
    ("", []),
    (" \n ", []),
    ("a", [("a", [])]),
    ("a()", [("a", [])]),
    ("a( )", [("a", [])]),
    ("a b\nc\td", [("a", []), ("b", []), ("c", []), ("d", [])]),
    ("a(x=1)b(y=2)", [("a", [("x", "1")]), ("b", [("y", "2")])]),
    ("a(x=1, y=2)", [("a", [("x", "1"), ("y", "2")])]),
    ("a(x=1 y=2)", [("a", [("x", "1"), ("y", "2")])]),
    ("a(x=1 , y=2 )", [("a", [("x", "1"), ("y", "2")])]),
    ("a (\n x = 1,\n y = 2\n)", [("a", [("x", "1"), ("y", "2")])]),
    ("a(x=1, x=2)", [("a", [("x", "1"), ("x", "2")])]),
    ('a(x="1,2,3")', [("a", [("x", "1,2,3")])]),
    ('a(x="")', [("a", [("x", "")])]),
    ("a(x='1,2')", [("a", [("x", "1,2")])]),
    (r'a(x="quo,ted \" value")', [("a", [("x", 'quo,ted " value')])]),
    (r'a(x="back\\slash \n")', [("a", [("x", "back\\slash \\n")])]),
    ('a(x="(b=")', [("a", [("x", "(b=")])]),
    ("a(x=-1.5e-3)", [("a", [("x", "-1.5e-3")])]),
    ("a(x=scope/deep.name_1-2)", [("a", [("x", "scope/deep.name_1-2")])]),
    ("a(x=/device:GPU:0)", [("a", [("x", "/device:GPU:0")])]),
    # As the old tool's own recipes stand in scripts.
    ("\\\na(x=1) \\\nb\\\n", [("a", [("x", "1")]), ("b", [])]),
  ],
)
def test_reading(text, expected):
  assert written(text) == expected


@pytest.mark.parametrize(
  "text, where, word",
  [
    ("a,b", "column 2", "there is ','"),
    ("a;b", "column 2", "there is ';'"),
    ("a(x=1", "column 2", "'(' of 'a' is not closed"),
    ("a(", "column 2", "not closed"),
    ("a b(x=1 c", "column 10", "the text ends"),
    ("a(x=1 c)", "column 8", "there is ')'"),
    ("a)", "column 2", "there is ')'"),
    ('a(x="1)', "column 5", "the quote is not closed"),
    ("a(x='1)", "column 5", "the quote is not closed"),
    ("a(x=)", "column 5", "there is ')'"),
    ("a(x", "column 4", "the text ends"),
    ("a(=1)", "column 3", "there is '='"),
    ("a(x=1,)", "column 7", "there is ')'"),
    ("a(x=1,,y=2)", "column 7", "there is ','"),
    ("a(,x=1)", "column 3", "there is ','"),
    ("a(x=1;y=2)", "column 6", "there is ';'"),
    ("a(x=b,c)", "column 8", "there is ')'"),
    ("(" * 99999, "column 1", "there is '('"),
    ("a(x=b(" * 9999, "column 6", "there is '('"),
    ("a\n b(x=1\n", "line 2, column 3", "not closed"),
  ],
)
def test_junk_is_refused_with_its_place(text, where, word):
  with pytest.raises(TransformError) as refused:
    calls.read(text)
  message = str(refused.value)
  assert message.startswith("cannot read the transforms at %s: " % where)
  assert word in message
  assert "; " in message
  assert "\n" not in message


@pytest.mark.parametrize(
  "text, field, value",
  [
    ("count=-7", "count", -7),
    ("rate=1e-3", "rate", 1e-3),
    ("rate=2", "rate", 2.0),
    ("rate=-inf", "rate", float("-inf")),
    ("flag=true", "flag", True),
    ("flag=1", "flag", True),
    ("flag=False", "flag", False),
    ('text="a, b"', "text", "a, b"),
    ("kind=float", "kind", tf1.float32),
    ("kind=quint8", "kind", tf1.quint8),
    ('shape="1,224,224,3"', "shape", (1, 224, 224, 3)),
    ('shape="?, -1,3"', "shape", (-1, -1, 3)),
    ("shape=7", "shape", (7,)),
    ('shape=""', "shape", ()),
    ("op=Identity, op=Cast", "ops", ("Identity", "Cast")),
    ("sizes=1, sizes=-2", "sizes", (1, -2)),
    ('shapes="1,2", shapes=""', "shapes", ((1, 2), ())),
    ('values="p=false", values="k=a=b"', "values", {"p": "false", "k": "a=b"}),
    ("ignore_errors=true", "count", 3),
    ("ignore_errors=False", "count", 3),
  ],
)
def test_parameters_are_read_as_annotated(text, field, value):
  made = make("everything(need=x, %s)" % text)
  assert getattr(made, field) == value
  assert type(getattr(made, field)) is type(value) or field.startswith("shape")
  assert made.need == "x"


@pytest.mark.parametrize(
  "text, column, words",
  [
    ("everything(need=x, cuont=1)", 20, ["no parameter 'cuont'", "'count'"]),
    (
      "everything(need=x, zzz=1)",
      20,
      ["no parameter 'zzz'", "are need, count"],
    ),
    ("everything(count=1)", 1, ["needs parameter 'need'"]),
    ("everything(need=x, count=1.5)", 26, ["'1.5'", "a whole number"]),
    ("everything(need=x, count=1, count=2)", 35, ["'count' is given 2 times"]),
    ("everything(need=x, rate=much)", 25, ["'much'", "a number"]),
    ("everything(need=x, flag=yes)", 25, ["'yes'", "true or false"]),
    ("everything(need=x, kind=flaot)", 25, ["'flaot'", "a type"]),
    ('everything(need=x, shape="1,x")', 26, ["'1,x'", "sizes"]),
    ('everything(need=x, shape="1,-2")', 26, ["'1,-2'", "sizes"]),
    ("everything(need=x, values=p)", 27, ["'p' is no NAME=VALUE"]),
    ("everything(need=x, ignore_errors=maybe)", 34, ["true or false"]),
  ],
)
def test_parameters_are_read_strictly(text, column, words):
  with pytest.raises(TransformError) as refused:
    make(text)
  message = str(refused.value)
  assert message.startswith(
    "cannot read the transforms at column %d: " % column
  )
  for word in words:
    assert word in message


@pytest.mark.parametrize(
  "transform",
  [
    Everything("x"),
    Everything(
      'a "b" \\ c, d',
      4,
      1e-12,
      True,
      "(",
      tf1.half,
      Shape((1, -1)),
      ("A", "B"),
      (1, -1),
      (Shape(()), Shape((2, 3))),
      {"p": "a b"},
    ),
    Everything("", shape=Shape(())),
  ],
)
def test_specs_round_trip(transform):
  assert make(spec.spec_of(transform)) == transform


def test_defaults_are_left_out():
  assert spec.spec_of(StripUnusedNodes()) == "strip_unused_nodes"
  assert spec.spec_of(RemoveNodes(op=("Identity", "Cast"))) == (
    "remove_nodes(op=Identity, op=Cast)"
  )


@pytest.mark.parametrize("name", sorted(table.TRANSFORMS))
def test_every_transform_round_trips(name):
  cls = table.TRANSFORMS[name]
  assert cls.name == name
  assert cls.__dataclass_params__.frozen
  required = ", ".join(
    "%s=%s" % (key, 1 if parameter.kind is int else "value")
    for key, parameter in spec.parameters_of(cls).items()
    if parameter.is_required
  )
  (made,) = table.parse("%s(%s)" % (name, required))
  assert table.parse(spec.spec_of(made)) == (made,)


@pytest.mark.parametrize("name", sorted(table.TRANSFORMS))
def test_every_transform_has_a_page(name):
  page = table.help_text(name)
  assert page.startswith(name + "(")
  assert "Before:" in page
  assert len(table.help_list().split(name)) > 1
  for key in spec.parameters_of(table.TRANSFORMS[name]):
    assert "%s=" % key in page.splitlines()[0]


def test_the_old_tools_recipe():
  transforms = table.parse("""
    strip_unused_nodes(type=float, shape="1,299,299,3")
    remove_nodes(op=Identity, op=CheckNumerics)
    fold_constants(ignore_errors=true)
    strip_unused_nodes(name=x, type_for_name=float, shape_for_name="2,3",
                       name=y, type_for_name=int32, shape_for_name="")
  """)
  assert transforms == (
    StripUnusedNodes(tf1.float32, Shape((1, 299, 299, 3))),
    RemoveNodes(op=("Identity", "CheckNumerics")),
    FoldConstants(),
    StripUnusedNodes(
      names=("x", "y"),
      type_for_name=(tf1.float32, tf1.int32),
      shape_for_name=(Shape((2, 3)), Shape(())),
    ),
  )


def test_unknown_names_are_offered_the_nearest():
  with pytest.raises(TransformError) as refused:
    table.parse("fold_constants fold_constnts")
  assert "at column 16" in str(refused.value)
  assert "did you mean 'fold_constants'" in str(refused.value)
  with pytest.raises(TransformError, match="did you mean"):
    table.help_text("fold_constnts")
  with pytest.raises(TransformError, match="lists them"):
    table.parse("qqqqqq")


@pytest.mark.parametrize(
  "text, step",
  [
    ("remove_device(zzz=1)", "it has no parameters"),
    ("rename_attribute(zzz=1)", "its parameters are old_attribute_name, "),
    ("strip_unused_nodes(typ=1)", "did you mean 'type'?"),
  ],
)
def test_unknown_parameters_are_told_the_known_ones(text, step):
  with pytest.raises(TransformError, match="has no parameter '") as refused:
    table.parse(text)
  assert refused.value.step.startswith(step)


def test_specs_and_transforms_mix():
  own = RemoveNodes(op=("Identity",))
  assert table.parse([own, "fold_constants remove_device"])[0] is own
  assert len(table.parse([own, "fold_constants remove_device"])) == 3
  assert table.parse(own) == (own,)


@pytest.mark.parametrize("name", sorted(table.PIPELINES))
def test_pipelines_are_lists_of_transforms(name):
  assert len(table.parse(name)) >= 1
  assert name in table.help_list()
  assert table.PIPELINES[name] in table.help_text(name)
  with pytest.raises(TransformError, match="has no parameters"):
    table.parse(name + "(op=A)")
