# SPDX-License-Identifier: Apache-2.0
"""Commands that do not import TensorFlow, and write what they write with it."""

import os

import pytest
import zoo
from judges.commands import run_process

from bnexport.tf1 import protos

pytestmark = pytest.mark.skipif(
  protos.folder() is None, reason="its messages take TensorFlow"
)


@pytest.fixture(scope="module", autouse=True)
def crc():
  pytest.importorskip("google_crc32c")


@pytest.fixture(scope="module")
def case(cases):
  return cases("contrib_fused_phase")


def status_of(*arguments):
  """The status of a command; a process that imports TensorFlow has 99."""
  code = (
    "import runpy, sys\n"
    "sys.argv = sys.argv[1:]\n"
    "status = 0\n"
    "try:\n"
    "  runpy.run_module('bnexport.' + sys.argv[0], run_name='__main__', "
    "alter_sys=True)\n"
    "except SystemExit as ended:\n"
    "  status = ended.code or 0\n"
    "sys.exit(99 if 'tensorflow.python' in sys.modules else status)\n"
  )
  result = run_process("-c", code, *map(str, arguments))
  return result.status, result.err


def test_a_command_that_takes_tensorflow_is_noticed(case):
  status, _ = status_of(
    "validate", f"--graph={case.naive}", f"--reference={case.naive}"
  )
  assert status == 99


@pytest.fixture(scope="module")
def frozen(case, tmp_path_factory):
  path = tmp_path_factory.mktemp("frozen") / "graph.pb"
  status, err = status_of(
    "freeze",
    f"--checkpoint={case.prefix}",
    f"--output_node={case.output}",
    f"--output_graph={path}",
    "--validate=false",
  )
  assert status == 0, err
  return path


def test_work_without_proof(case, frozen, tmp_path):
  """Freezing is the fixture's."""
  named = f"--output_node={case.output}"
  for number, arguments in enumerate(
    [
      ["inspect", f"--checkpoint={case.prefix}", named],
      ["inspect", f"--graph_def={frozen}", named],
      [
        "repair",
        f"--graph_def={frozen}",
        f"--checkpoint={case.prefix}",
        named,
        "--validate=false",
      ],
      [
        "transform",
        f"--in_graph={frozen}",
        f"--outputs={case.output}",
        "--transforms=strip_unused_nodes fold_batch_norms",
        "--validate=false",
      ],
    ]
  ):
    if arguments[0] != "inspect":
      arguments.append(f"--output_graph={tmp_path / str(number)}.pb")
    status, err = status_of(*arguments)
    assert status in (0, 2), err
    assert arguments[0] == "inspect" or status == 0, err


@pytest.mark.parametrize(
  "command, arguments, status",
  [
    ("freeze", ["--no_such_flag=1"], 1),
    ("freeze", ["--checkpoint=no/such", "--output_node=y"], 3),
    ("freeze", ["--checkpoint={prefix}", "--output_node=no_such"], 3),
    ("freeze", ["--checkpoint={two_heads}"], 3),
    ("freeze", ["--output_node=y"], 3),
    ("freeze", ["--checkpoint={prefix}", "--output_node=y", "--set=a"], 3),
    ("inspect", ["--graph_def=no/such.pb"], 3),
    ("inspect", ["--saved_model=no/such"], 3),
    ("inspect", ["--graph_def={folder}"], 3),
    ("inspect", [], 3),
    ("repair", ["--graph_def=no/such.pb", "--output_node=y"], 3),
    (
      "transform",
      [
        "--in_graph=no.pb",
        "--out_graph=a.pb",
        "--outputs=y",
        "--transforms=no",
      ],
      3,
    ),
    (
      "transform",
      [
        "--in_graph={frozen}",
        "--out_graph={frozen}.other.pb",
        "--outputs=no_such",
        "--transforms=fold_constants",
      ],
      3,
    ),
    ("transform", ["--transforms=help"], 0),
    ("validate", ["--graph=no/such.pb"], 3),
  ],
)
def test_refusals(cases, case, frozen, command, arguments, status):
  words = dict(
    prefix=case.prefix,
    two_heads=cases("net_multi_output").prefix,
    folder=case.folder,
    frozen=frozen,
  )
  found, err = status_of(command, *(a.format(**words) for a in arguments))
  assert found == status, err
  if status == 3:
    (line,) = [part for part in err.splitlines() if "cannot" in part]
    assert line.startswith("bnexport: cannot ")


_EXPORTS = """
import hashlib, sys
sys.path.insert(0, {tests!r})
{first}
import zoo
from judges.exporting import export
from bnexport.errors import Error
from bnexport.model.stream import pieces
from bnexport.tf1 import protos
assert protos.are_light() == {is_light}
from bnexport.model import bundle
if {is_light}:
  # What is large goes to the file as it is stored, here a few bytes at a time.
  from bnexport.transforms.inference import freeze_variables
  freeze_variables._MOST_ELEMENTS, bundle._PIECE = 4, 20
else:
  def no_checksums():
    raise bundle.Unusual
  bundle.checksum = no_checksums
for name in sys.argv[2:]:
  try:
    made = export(zoo.load(name, sys.argv[1]))
    digest = hashlib.sha256()
    for piece in pieces(made.model):
      digest.update(piece)
    print(name, digest.hexdigest())
  except Error as error:
    print(name, error)
"""


def digests(folder, names, is_light):
  first = "" if is_light else "import tensorflow"
  tests = os.path.dirname(os.path.abspath(zoo.__file__ + "/.."))
  code = _EXPORTS.format(tests=tests, first=first, is_light=is_light)
  result = run_process("-c", code, str(folder), *names)
  assert result.status == 0, result.err
  return result.out.splitlines()


def test_files_are_the_same_with_either_side_and_either_reader(tmp_path, part):
  some = part(zoo.names(), 24, 0)
  light = digests(tmp_path, some, is_light=True)
  assert light == digests(tmp_path, some, is_light=False)
  assert len(light) == len(some) and len(set(light)) == len(some)
