# SPDX-License-Identifier: Apache-2.0
"""Writes tests/zoo/data: TF1 batch norm in the ways TF1 users wrote it.

  .venv37/bin/python tests/zoo/make.py [--out DIR] [--list] [CASE ...]

Runs under Python 3.7 and TensorFlow 1.15.  Each case is made in a process of
its own, so that counters TensorFlow keeps per process do not make a case
depend on those before it.  Seeds are taken from the case's name: a rerun gives
the same variables and the same truth.  The zip may differ in a metagraph's
order of collections and of control inputs, and in the uuid that
Saver(sharded=True) writes into it.

What is stored is checked before: the rebuilt model answers with finite
numbers, row by row, and not as the training graph does.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import traceback
import warnings
import zipfile
import zlib

warnings.filterwarnings("ignore")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Reaches the fork's children: no order may depend on the hash of a string.
if __name__ == "__main__" and os.environ.get("PYTHONHASHSEED") != "0":
  os.environ["PYTHONHASHSEED"] = "0"
  os.execv(sys.executable, [sys.executable] + sys.argv)
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[0] = os.path.dirname(os.path.dirname(HERE))

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from tests.zoo import families, values
from tests.zoo import script as script_lib

tf.logging.set_verbosity(tf.logging.ERROR)

_OPTIMIZERS = (
  "momentum",
  "sgd",
  "adam",
  "sgd",
  "momentum",
  "sgd",
  "rmsprop",
  "sgd",
)
_STAMP = (1980, 1, 1, 0, 0, 0)


class Wrong(Exception):
  """A case does not show what it is meant to show."""


def session(graph):
  # One thread: in-place updates race with reads otherwise, and sums differ.
  # Two CPU devices, for the models that place variables on /cpu:1; /gpu:0
  # falls back to a CPU.
  return tf.Session(
    graph=graph,
    config=tf.ConfigProto(
      allow_soft_placement=True,
      device_count={"CPU": 2},
      intra_op_parallelism_threads=1,
      inter_op_parallelism_threads=1,
    ),
  )


def draw_input(script, rng):
  """A batch for the input of a script."""
  shape = [
    d if d is not None else script_lib.BATCH for d in script.x.shape.as_list()
  ]
  if script.x.dtype.is_integer:
    return rng.randint(0, script.high, shape).astype(
      script.x.dtype.as_numpy_dtype
    )
  return values.coarse(rng.normal(0.4, 1.2, shape)).astype(
    script.x.dtype.as_numpy_dtype
  )


def set_values(sess, fixed, roles, rng):
  """Gives every variable a random or a fixed value."""
  for variable in tf.global_variables():
    name = variable.op.name
    value = sess.run(variable)
    role = [r for pattern, r in sorted(roles.items()) if pattern in name]
    new = values.draw(name, value, rng, role[0] if role else None)
    for pattern, to in sorted(fixed.items()):
      if pattern in name:
        new = value if to is None else np.full_like(value, to)
    variable.load(new, sess)


def run(sess, outputs, feeds, script, x):
  """Runs `outputs` with the input and `feeds`."""
  feeds = dict(feeds)
  feeds[script.x] = x
  return sess.run(outputs, feeds)


def as_list(outputs):
  return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def write_meta(path, devices):
  """Rewrites a metagraph so that equal graphs are equal bytes."""
  proto = meta_graph_pb2.MetaGraphDef()
  with open(path, "rb") as f:
    proto.ParseFromString(f.read())
  for node in proto.graph_def.node if devices else ():
    node.device = devices(node.op)
  with open(path, "wb") as f:
    f.write(proto.SerializeToString(deterministic=True))


def train(recipe, folder, seed):
  """Builds, trains a step, sets values, saves.

  Returns:
    The fields of case.json, x, the training answers, and what the training
    graph answers with the phase fed for inference (None where it has none).
  """
  case, how = dict(recipe.case), recipe.make
  rng = np.random.RandomState(seed)
  np.random.seed(seed % 2**31)  # Keras seeds its dropout and noise from it
  no_run = case.get("no_run_115")
  with tf.Graph().as_default() as graph:
    tf.set_random_seed(seed % 10007)
    script = script_lib.Script(True, "NCHW" if no_run else "NHWC")
    outputs = as_list(recipe.model(script))
    script.training_step(
      outputs[0], how.get("optimizer", _OPTIMIZERS[seed % len(_OPTIMIZERS)])
    )
    describe(case, script, outputs)
    x = draw_input(script, rng)
    with session(graph) as sess:
      sess.run(
        [tf.global_variables_initializer(), tf.local_variables_initializer()]
      )
      if not no_run:
        run(sess, script.train_op, script.feeds, script, x)
      set_values(sess, how.get("values", {}), how.get("roles", {}), rng)
      script.saver.save(sess, os.path.join(folder, "model.ckpt"))
      write_meta(os.path.join(folder, "model.ckpt.meta"), script.devices)
      write_naive(sess, outputs, folder)
      if no_run:
        return case, x, None, None
      # Before a training answer: that may update variables in place.
      decided = None
      if script.switch and script.decided and not how.get("undecided"):
        decided = run(sess, outputs, script.decided, script, x)
      y_train = run(sess, outputs, script.feeds, script, x)
  return case, x, y_train, decided


def train_on_tpu(recipe, folder, seed):
  """As `train`, for a graph whose ops have no kernels here.

  Variables and answers come from the same model beside, without a TPU.
  """
  case = dict(recipe.case)
  rng = np.random.RandomState(seed)
  prefix = os.path.join(folder, "model.ckpt")
  with tf.Graph().as_default():
    tf.set_random_seed(seed % 10007)
    script = script_lib.Script(True)
    script.on_tpu = True
    outputs = as_list(recipe.model(script))
    script.training_step(outputs[0], "sgd")
    describe(case, script, outputs)
    script.saver.export_meta_graph(prefix + ".meta")
    write_meta(prefix + ".meta", script.devices)
    x = draw_input(script, rng)
  with tf.Graph().as_default() as graph:
    twin = script_lib.Script(True)
    outputs = as_list(recipe.model(twin))
    twin.training_step(outputs[0], "sgd")
    with session(graph) as sess:
      sess.run(tf.global_variables_initializer())
      set_values(sess, {}, {}, rng)
      twin.saver.save(sess, prefix, write_meta_graph=False)
      y_train = run(sess, outputs, twin.feeds, twin, x)
  return case, x, y_train, None


def describe(case, script, outputs):
  """Adds to case.json what the script's graph says."""
  for key, value in (
    ("input", script.x.op.name),
    ("output", outputs[0].op.name),
    ("also", [t.op.name for t in outputs[1:]]),
    ("switch", script.switch),
  ):
    if value:
      case.setdefault(key, value)
  case.setdefault("kind", "placeholder" if script.switch else "const")


def write_naive(sess, outputs, folder):
  """What a user freezes who changes nothing; no file where that raises."""
  graph_def = sess.graph.as_graph_def()
  try:
    naive = tf.graph_util.convert_variables_to_constants(
      sess, graph_def, [t.op.name for t in outputs]
    )
  except Exception as e:  # TensorFlow's own verdict; the case goes without
    print("    no naive.pb: %s" % str(e).splitlines()[0][:100])
    return
  with open(os.path.join(folder, "naive.pb"), "wb") as f:
    f.write(naive.SerializeToString(deterministic=True))


def rebuild(recipe, prefix, x, training=False):
  """Answers of the model, built anew and restored, for all rows and for half.

  `training` is for twins only: they answer for a graph no CPU can run.
  """
  with tf.Graph().as_default() as graph:
    tf.set_random_seed(1)
    script = script_lib.Script(training)
    outputs = as_list(recipe.model(script))
    saver = tf.train.Saver(script.restore or tf.global_variables())
    with session(graph) as sess:
      sess.run(
        [tf.global_variables_initializer(), tf.local_variables_initializer()]
      )
      saver.restore(sess, prefix)
      whole = run(sess, outputs, script.feeds, script, x)
      half = None
      if not recipe.case.get("joint"):
        half = run(sess, outputs, script.feeds, script, x[: len(x) // 2])
  return whole, half


def check(recipe, case, y, half, y_train, decided):
  """Raises Wrong where a case would prove nothing."""
  kept = case.get("keep")
  for truth in list(y) + list(y_train):
    if not np.all(np.isfinite(np.asarray(truth, np.float64))):
      raise Wrong("answers are not finite")
  limit = case["tol"] * max(1.0, float(np.max(np.abs(y[0]))))
  # Half floats are compared coarsely, but must differ as clearly as others.
  clear = limit * min(1.0, 1e-3 / case["tol"])

  def off(a, b):
    return float(np.max(np.abs(np.asarray(a, np.float64) - b)))

  spread = float(np.max(np.ptp(np.asarray(y[0], np.float64), axis=0)))
  if spread < 50 * clear:
    raise Wrong("rows are alike: spread %.2g" % spread)
  if off(y[0], y_train[0]) < max(limit, 20 * clear) and not (
    kept or recipe.make.get("same")
  ):
    raise Wrong("inference answers as training: %.2g" % off(y[0], y_train[0]))
  if kept:
    if off(y[0], y_train[0]) > limit:
      raise Wrong("kept, but training and rebuild differ")
  elif half is not None and not case.get("keep_scopes"):
    if off(y[0][: len(half[0])], half[0]) > limit:
      raise Wrong("the rebuilt model depends on the batch")
  if decided is not None and not kept:
    for a, b in zip(decided, y):
      if off(a, b) > limit * max(1.0, float(np.max(np.abs(b)))):
        raise Wrong("decided training graph is off by %.2g" % off(a, b))


def pack(folder, path):
  """Zips a case's files, the same bytes each time."""
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name in sorted(os.listdir(folder)):
      info = zipfile.ZipInfo(name, _STAMP)
      info.compress_type = zipfile.ZIP_DEFLATED
      info.external_attr = 0o644 << 16
      with open(os.path.join(folder, name), "rb") as f:
        archive.writestr(info, f.read())


def other_checkpoint(model, prefix, seed):
  """Puts the variables of another model where a case's are looked for."""
  with tf.Graph().as_default() as graph:
    script = script_lib.Script(True)
    script.training_step(as_list(model(script))[0], "momentum")
    with session(graph) as sess:
      sess.run(tf.global_variables_initializer())
      set_values(sess, {}, {}, np.random.RandomState(seed))
      script.saver.save(sess, prefix, write_meta_graph=False)


def make(recipe, out):
  """Writes one case; returns the size of its zip."""
  seed = zlib.crc32(recipe.name.encode())
  folder = tempfile.mkdtemp(prefix="zoo-")
  try:
    prefix = os.path.join(folder, "model.ckpt")
    trained = train_on_tpu if recipe.make.get("on_tpu") else train
    case, x, y_train, decided = trained(recipe, folder, seed)
    case.setdefault("tol", 2e-4)
    if case.get("no_run_115"):
      y_train, _ = rebuild(recipe, prefix, x, training=True)
    if case.get("expect") == "refuse":
      y = y_train
    else:
      y, half = rebuild(recipe, prefix, x)
      check(recipe, case, y, half, y_train, decided)
    if "checkpoint_of" in recipe.make:
      other_checkpoint(recipe.make["checkpoint_of"], prefix, seed)
    truth = {"x": x, "y": y[0], "y_train": y_train[0]}
    truth.update({"also_%d" % i: v for i, v in enumerate(y[1:])})
    np.savez(os.path.join(folder, "truth.npz"), **truth)
    with open(os.path.join(folder, "case.json"), "w") as f:
      json.dump(case, f, indent=1, sort_keys=True)
    state = os.path.join(folder, "checkpoint")
    if os.path.exists(state):
      os.remove(state)  # it holds this machine's temporary path
    path = os.path.join(out, recipe.name + ".zip")
    pack(folder, path)
    return os.path.getsize(path)
  finally:
    shutil.rmtree(folder)


def make_in_child(recipe, out):
  """`make` in a forked process; True when it succeeded."""
  sys.stdout.flush()
  child = os.fork()
  if not child:
    status = 1
    try:
      size = make(recipe, out)
      print("%-44s %6.1f KB" % (recipe.name, size / 1024.0))
      status = 0
    except Wrong as e:
      print("%-44s WRONG: %s" % (recipe.name, e))
    except Exception:
      print("%-44s FAILED" % recipe.name)
      traceback.print_exc(file=sys.stdout)
    sys.stdout.flush()
    os._exit(status)
  return os.waitpid(child, 0)[1] == 0


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("names", nargs="*", metavar="CASE")
  parser.add_argument("--out", default=os.path.join(HERE, "data"))
  parser.add_argument(
    "--missing", action="store_true", help="only cases that have no zip yet"
  )
  parser.add_argument("--list", action="store_true")
  args = parser.parse_args()
  recipes = families.recipes()
  unknown = set(args.names) - {r.name for r in recipes}
  if unknown:
    parser.error("no such case: %s" % ", ".join(sorted(unknown)))
  if args.list:
    print("\n".join(r.name for r in recipes))
    return
  chosen = [r for r in recipes if not args.names or r.name in args.names]
  if args.missing:
    chosen = [
      r
      for r in chosen
      if not os.path.exists(os.path.join(args.out, r.name + ".zip"))
    ]
  if not os.path.isdir(args.out):
    os.makedirs(args.out)
  failed = [r.name for r in chosen if not make_in_child(r, args.out)]
  print(
    "%d made, %d failed %s"
    % (len(chosen) - len(failed), len(failed), " ".join(failed))
  )
  sys.exit(bool(failed))


if __name__ == "__main__":
  main()
