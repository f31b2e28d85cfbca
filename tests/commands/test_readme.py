# SPDX-License-Identifier: Apache-2.0
"""Commands of the README and its pages run as written; what they name exists."""

import glob
import os
import re
import shlex
import shutil

import numpy as np
import pytest
import saved
from absl import flags
from judges.commands import ROOT, run_forked

from bnexport.cli import process
from bnexport.tf1 import session, tf1

# The README, and the pages beside the rooms that they are about.
PATHS = ["README.md"] + sorted(
  os.path.relpath(path, ROOT)
  for path in glob.glob(os.path.join(ROOT, "bnexport/**/*.md"), recursive=True)
)


def _text(path):
  with open(os.path.join(ROOT, path)) as f:
    return f.read()


TEXTS = {path: _text(path) for path in PATHS}
README = TEXTS["README.md"]

NET = """
import tensorflow.compat.v1 as tf


def build(x, is_training):
  h = tf.nn.conv2d(x, tf.get_variable("kernel", [7, 7, 3, 8]), [1, 4, 4, 1],
                   "SAME")
  shape = {"shape": [8]}
  gamma = tf.get_variable("gamma", initializer=tf.ones_initializer(), **shape)
  beta = tf.get_variable("beta", initializer=tf.zeros_initializer(), **shape)
  mean = tf.get_variable("moving_mean", trainable=False, **shape)
  variance = tf.get_variable("moving_variance", trainable=False,
                             initializer=tf.ones_initializer(), **shape)
  if not is_training:
    y = tf.nn.fused_batch_norm(h, gamma, beta, mean, variance,
                               is_training=False)[0]
  else:
    y, batch_mean, batch_variance = tf.nn.fused_batch_norm(h, gamma, beta)
    for average, value in ((mean, batch_mean), (variance, batch_variance)):
      tf.add_to_collection(
        tf.GraphKeys.UPDATE_OPS,
        tf.assign_sub(average, (average - value) * 0.1))
  y = tf.reduce_mean(tf.nn.relu(y), [1, 2])
  return tf.matmul(y, tf.get_variable("weights", [8, 4]), name="logits")
"""


def commands():
  """Commands of all pages, each on one line and once.

  Those of Troubleshooting are run on what each of them cures.
  """
  apart = os.path.join("bnexport", "TROUBLESHOOTING.md")
  text = "\n".join(TEXTS[path] for path in PATHS if path != apart)
  blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
  lines = re.sub(r" *\\\n *", " ", "\n".join(blocks)).splitlines()
  found = [line for line in lines if line.startswith("python -m bnexport")]
  return list(dict.fromkeys(found))


COMMANDS = commands()


def _frozen(code, folder):
  """A right inference graph of the checkpoint."""
  with tf1.Graph().as_default() as graph, session(graph) as running:
    inputs = tf1.placeholder(tf1.float32, [None, 32, 32, 3], "x")
    code["build"](inputs, is_training=False)
    tf1.train.Saver().restore(running, str(folder / "run" / "model.ckpt"))
    return tf1.graph_util.convert_variables_to_constants(
      running, graph.as_graph_def(), ["logits"]
    ).SerializeToString()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A directory with my_net.py and run/model.ckpt of it, trained a bit."""
  folder = tmp_path_factory.mktemp("readme")
  (folder / "my_net.py").write_text(NET)
  (folder / "run").mkdir()
  code = {}
  exec(NET, code)
  with tf1.Graph().as_default() as graph:
    tf1.disable_resource_variables()
    x = tf1.random_normal([4, 32, 32, 3], 0.5, seed=1)
    inputs = tf1.placeholder_with_default(x, [None, 32, 32, 3], "x")
    code["build"](inputs, is_training=True)
    updates = tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)
    with session(graph) as running:
      running.run(tf1.global_variables_initializer())
      for _ in range(3):
        running.run(updates)
      tf1.train.Saver().save(running, str(folder / "run" / "model.ckpt"))
      frozen = tf1.graph_util.convert_variables_to_constants(
        running, graph.as_graph_def(), ["logits"]
      )
      (folder / "broken.pb").write_bytes(frozen.SerializeToString())
      (folder / "frozen.pb").write_bytes(_frozen(code, folder))
      np.savez(
        str(folder / "images.npz"),
        x=np.random.RandomState(1).randn(40, 32, 32, 3) + 0.5,
      )
  kept, _ = saved.load("keras", folder)
  shutil.move(os.path.join(kept, "saved"), str(folder / "export"))
  kept, _ = saved.load("keras3", folder)
  shutil.move(os.path.join(kept, "model.keras"), str(folder))
  return folder


def test_there_are_commands():
  assert len(COMMANDS) > 12


def _looked(result, command, folder):
  assert result.status == 0, result.err
  assert "run/model.ckpt: a checkpoint" in result.out


def _inspected(result, command, folder):
  assert "BN101" in result.out


def _transformed(result, command, folder):
  assert result.status == 0, result.err
  assert re.search("^wrote small(.pb|er): ", result.out, re.M)


def _validated(result, command, folder):
  """Without a reference nothing is compared, and nothing stands against it."""
  verdict = "PROVEN" if "--reference" in command else "NOT PROVEN"
  assert result.status == 0, result.err
  assert result.out.startswith(f"{verdict}: ")
  assert re.search("batch norms: [1-9]", result.out)


def _written(result, command, folder):
  assert result.status == 0, result.err
  assert result.out.startswith("PROVEN: ")
  assert re.search("batch norms: [1-9]", result.out)
  written = re.search("^wrote (.*?): ", result.out, re.M).group(1)
  assert os.path.exists(os.path.join(folder, written))
  assert written in (
    "broken.pb.repaired.pb",
    os.path.join("run", "model.ckpt.frozen.pb"),
    "served.pb",
    "model.keras.frozen.pb",
  )


_JUDGES = {
  None: _looked,
  "freeze": _written,
  "inspect": _inspected,
  "repair": _written,
  "transform": _transformed,
  "validate": _validated,
}


@pytest.mark.part(1, oldest=2)
@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs_as_written(trained, tmp_path, command):
  if "--keras=" in command and tf1.__version__ < "2":
    pytest.skip("TF 1.15 has no Keras 3")
  folder = str(tmp_path / "work")
  shutil.copytree(str(trained), folder)
  result = run_forked(*shlex.split(command)[1:], cwd=folder)
  name = re.match(r"python -m bnexport(?:\.(\w+))?", command).group(1)
  _JUDGES[name](result, command, folder)


def test_flags_exist():
  text = "\n".join(TEXTS.values())
  named = set(re.findall(r"(?<![\w-])--([a-z_]+)", text))
  assert len(named) > 12
  unknown = {name for name in named if name not in flags.FLAGS}
  # Of Beam's runner, of absl, of TensorBoard and TensorFlow.js, of `scripts/`.
  others = {"flink_master", "help", "logdir", "input_format"}
  assert unknown == others | {"on", "only", "cases", "whole"}


def test_exit_statuses_are_those_of_the_code():
  table = dict(re.findall(r"^\| (\d) \| (.*?) \|$", README, re.M))
  assert set(table) == {"0", "1", "2", "3"}
  assert "DIFFERS" in table[str(process.NOT_PROVEN)]
  assert "can't be done" in table[str(process.REFUSED)]
  assert "written" in table[str(process.DONE)]


def test_scripts_exist():
  named = set(re.findall(r"scripts/\w+(?![\w.])", "".join(TEXTS.values())))
  assert len(named) >= 3
  for path in named:
    assert os.access(os.path.join(ROOT, path), os.X_OK), path


def headings(text):
  """The anchors of a page's headings."""
  found = re.findall(r"^#+ (.*)$", text, re.M)
  return {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in found}


def links(path):
  """Paths and anchors that a page links to in the project."""
  for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[path]):
    if not target.startswith("https://"):
      name, _, anchor = target.partition("#")
      folder = os.path.dirname(path)
      yield (
        os.path.normpath(os.path.join(folder, name)) if name else path,
        anchor,
      )


@pytest.mark.parametrize("path", PATHS)
def test_links_lead_somewhere(path):
  for target, anchor in links(path):
    assert os.path.isfile(os.path.join(ROOT, target)), target
    assert not anchor or anchor in headings(TEXTS[target]), anchor


def test_every_page_is_linked_from_the_readme():
  assert {target for target, _ in links("README.md")} >= set(PATHS[1:])


def test_readme_is_short():
  assert len(README.splitlines()) < 350
