# SPDX-License-Identifier: Apache-2.0
"""Troubleshooting: what TensorFlow says before, and what cures it."""

import os
import re
import shlex
import shutil

import numpy as np
import pytest
from judges.commands import ROOT, copy_of, run_forked
from judges.exporting import assert_close

from bnexport.errors import Error
from bnexport.proof.runs import ImportedGraph
from bnexport.sources.files import read_graph_def, read_proto
from bnexport.tf1 import session, tf1

with open(os.path.join(ROOT, "bnexport", "TROUBLESHOOTING.md")) as _file:
  PAGE = _file.read()
SECTIONS = {
  part.split("\n", 1)[0]: part.split("\n", 1)[1]
  for part in re.split(r"^## ", PAGE, flags=re.M)[1:]
}

FED = "You must feed a value for placeholder"
WITHOUT = "are not supported"


def section(words):
  """The one section whose heading has these words, and its heading."""
  (heading,) = [h for h in SECTIONS if words in h]
  return heading, SECTIONS[heading]


class Place:
  """A user's directory with the files that the page names."""

  def __init__(self, case, folder):
    self.case, self.folder = case, folder
    (folder / "run").mkdir()
    self.prefix = copy_of(case, folder / "run")
    if case.naive:
      shutil.copy(case.naive, str(folder / "broken.pb"))
    np.savez(str(folder / "images.npz"), **{case.input: case.x})

  def commands(self, words):
    """Arguments of a section's commands, with the case's own output."""
    lines = re.findall(r"^(python -m .*)$", section(words)[1], re.M)
    found = []
    for line in lines:
      line = line.replace("=logits", f"={self.case.output}")
      line = line.replace("=batch", f"={self.case.input}")
      found.append(shlex.split(line)[1:])
    return found

  def cure(self, words, which=slice(None)):
    """Runs a section's commands; returns the path of what they wrote."""
    written = None
    for arguments in self.commands(words)[which]:
      result = run_forked(*arguments, cwd=str(self.folder))
      assert result.status in (0, 2), result.err
      found = re.search(r"^wrote (\S+?),? ", result.out.replace(":", ""), re.M)
      if found or written is None:
        written = str(self.folder / found.group(1))
    return written

  def assert_right(self, path):
    runner = ImportedGraph(read_graph_def(path), [self.case.output])
    found = runner.run({self.case.input: self.case.x})[0]
    runner.close()
    assert_close(found, self.case.y, self.case.tol)

  def imported(self):
    """What importing and running the frozen graph does."""
    with tf1.Graph().as_default() as graph:
      tf1.import_graph_def(
        read_graph_def(str(self.folder / "broken.pb")), name=""
      )
    return graph

  def run_frozen(self, fetch, more=None):
    with session(self.imported()) as running:
      feeds = {f"{self.case.input}:0": self.case.x, **(more or {})}
      return running.run(fetch, feeds)


@pytest.fixture
def place(cases, tmp_path):
  def made(name):
    return Place(cases(name), tmp_path)

  return made


def said(words, function):
  """Asserts that a call raises an error with all that the heading quotes."""
  with pytest.raises(Exception) as caught:
    function()
  assert not isinstance(caught.value, Error)
  text = str(caught.value)
  for quoted in re.findall("`(.*?)`", section(words)[0]):
    if "..." not in quoted:
      assert quoted in text
  return text


@pytest.mark.parametrize(
  "name, words",
  [
    ("contrib_unfused_inplace_phase", "incompatible with expected float_ref"),
    ("ema_resource", "incompatible with expected resource"),
  ],
)
def test_float_ref(place, name, words):
  here = place(name)
  with pytest.raises(ValueError, match=words):
    here.imported()
  here.assert_right(here.cure("float_ref"))


def test_phase_has_to_be_fed(place):
  here = place("contrib_fused_phase")
  said(FED, lambda: here.run_frozen(f"{here.case.output}:0"))
  here.assert_right(here.cure(FED))


def test_dead_branch(place):
  here = place("contrib_fused_phase")
  training = next(
    node.name
    for node in read_graph_def(str(here.folder / "broken.pb")).node
    if node.op.startswith("FusedBatchNorm") and node.attr["is_training"].b
  )
  phase = {f"{here.case.switch}:0": False}
  said("Retval", lambda: here.run_frozen(f"{training}:0", phase))
  here.assert_right(here.cure("Retval"))


def test_conditionals_in_converters(place):
  if tf1.__version__ < "2":
    pytest.skip("TF 1.15's converter reads these")
  here = place("contrib_fused_phase")
  before = read_graph_def(str(here.folder / "broken.pb"))
  assert {"Switch", "Merge"} <= {node.op for node in before.node}
  here.cure(WITHOUT)
  after = str(here.folder / "frozen.pb")
  assert not {"Switch", "Merge"} & {n.op for n in read_graph_def(after).node}
  here.assert_right(after)


def restored(prefix, build):
  with tf1.Graph().as_default() as graph:
    saver = build()
    with session(graph) as running:
      saver.restore(running, prefix)


def test_key_is_not_found(place):
  """The checkpoint has another scope than the graph."""
  here = place("ema_cond_pointnet")
  meta = read_proto(here.prefix + ".meta", tf1.MetaGraphDef, "it")
  reader = tf1.train.NewCheckpointReader(here.prefix)
  names = sorted(reader.get_variable_to_shape_map())
  with tf1.Graph().as_default() as graph, session(graph) as running:
    for name in names:
      tf1.Variable(reader.get_tensor(name), name=f"student/{name}")
    running.run(tf1.global_variables_initializer())
    tf1.train.Saver().save(running, here.prefix, write_meta_graph=False)
  with open(here.prefix + ".meta", "wb") as f:
    f.write(meta.SerializeToString())

  def build():
    return tf1.train.Saver([tf1.get_variable(names[0], [1])])

  said("not found in checkpoint", lambda: restored(here.prefix, build))
  here.assert_right(here.cure("not found in checkpoint", slice(1)))


def test_averages_were_not_saved(place):
  here = place("refuse_trainable_saver")
  plain = [
    "-m",
    "bnexport.freeze",
    "--checkpoint=run/model.ckpt",
    f"--output_node={here.case.output}",
  ]
  result = run_forked(*plain, cwd=str(here.folder))
  assert result.status == 3, result.out
  written = here.cure("not found in checkpoint", slice(1, 2))
  answers_alone(here, written)


def meta_run(here, restore=True):
  with tf1.Graph().as_default() as graph:
    saver = tf1.train.import_meta_graph(here.prefix + ".meta")
    with session(graph) as running:
      if restore:
        saver.restore(running, here.prefix)
      feeds = {f"{here.case.input}:0": here.case.x}
      if here.case.switch:
        feeds[f"{here.case.switch}:0"] = False
      return running.run(f"{here.case.output}:0", feeds)


def test_uninitialized(place):
  here = place("contrib_unfused_phase")
  said("uninitialized", lambda: meta_run(here, restore=False))
  here.assert_right(here.cure("uninitialized"))


def test_shapes_of_fused_norms(place):
  if tf1.__version__ < "2":
    pytest.skip("TF 1.15 imports what it wrote")
  here = place("contrib_fused_phase")
  said("_output_shapes", lambda: meta_run(here))
  here.assert_right(here.cure("_output_shapes"))


def test_ops_that_are_not_registered(place):
  here = place("input_contrib_image")
  if tf1.__version__ >= "2":  # TF 1.15 has it in tf.contrib

    def opened():
      meta = read_proto(here.prefix + ".meta", tf1.MetaGraphDef, "it")
      for node in meta.graph_def.node:
        node.attr.pop("_output_shapes", None)  # another entry
      with tf1.Graph().as_default():
        tf1.train.import_meta_graph(meta)

    said("Op type not registered", opened)
  here.assert_right(here.cure("Op type not registered"))


def test_newer_graph(place):
  """TensorFlow of today knows the op; that older ones do not is recorded."""
  here = place("contrib_fused_phase")
  made = here.cure(FED)
  shutil.copy(made, str(here.folder / "frozen.pb"))
  here.cure("FusedBatchNormV3")
  older = str(here.folder / "older.pb")
  ops = {node.op for node in read_graph_def(older).node}
  assert "FusedBatchNormV3" not in ops
  here.assert_right(older)


def test_file_of_a_checkpoint(place):
  here = place("contrib_unfused_phase")

  def build():
    return tf1.train.import_meta_graph(here.prefix + ".meta")

  data = here.prefix + ".data-00000-of-00001"
  text = said("sstable", lambda: restored(data, build))
  assert "Data" in text or "checkpoint" in text
  here.assert_right(here.cure("sstable"))


def test_name_of_a_tensor(place):
  here = place("contrib_unfused_phase")
  graph = read_graph_def(str(here.folder / "broken.pb"))
  with pytest.raises(AssertionError, match=":0 is not in graph"):
    tf1.graph_util.extract_sub_graph(graph, [f"{here.case.output}:0"])
  here.assert_right(here.cure("is not in graph"))


def test_channels_first(place):
  here = place("layers_nchw_literal")
  with pytest.raises(Exception, match="NHWC"):
    here.run_frozen(f"{here.case.output}:0")
  here.assert_right(here.cure("NHWC"))


def answers_alone(here, path):
  """Asserts that a graph's rows answer alone as within their batch."""
  runner = ImportedGraph(read_graph_def(path), [here.case.output])
  whole = runner.run({here.case.input: here.case.x})[0]
  alone = runner.run({here.case.input: here.case.x[:1]})[0]
  runner.close()
  assert np.isfinite(whole).all()
  assert_close(alone, whole[:1], here.case.tol)


def test_answers_depend_on_the_batch(place):
  here = place("contrib_fused_literal")
  with pytest.raises(AssertionError):
    answers_alone(here, str(here.folder / "broken.pb"))
  written = here.cure("depend on the batch")
  answers_alone(here, written)
  here.assert_right(written)


def test_answers_are_not_numbers(place):
  here = place("refuse_negative_variance")
  written = here.cure("NaN")
  answers_alone(here, written)


def test_larger_than_a_protobuf(place):
  here = place("contrib_fused_phase")
  here.cure("2147483647")
  assert (here.folder / "served" / "saved_model.pb").exists()


def test_every_entry_has_a_test():
  with open(os.path.abspath(__file__)) as f:
    cured = re.findall(r'\.cure\("(.*?)"', f.read())
  assert {section(words)[0] for words in (*cured, FED, WITHOUT)} == set(
    SECTIONS
  )
  assert len(SECTIONS) > 12
