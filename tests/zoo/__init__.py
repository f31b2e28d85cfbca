# SPDX-License-Identifier: Apache-2.0
"""The project's own zoo: graphs and checkpoints as TF 1.15 training left them.

`data/NAME.zip` holds one case; `make.py` writes it under Python 3.7 and
TensorFlow 1.15.  This module only reads, and imports no TensorFlow:

  for name in zoo.names():
    case = zoo.load(name, tmp_path)
    case.prefix       # checkpoint prefix; prefix + '.meta' is the graph
    case.x, case.y    # y is what the model answers for inference

Members of a zip:
  model.ckpt.*   training graph (.meta) and checkpoint
  truth.npz      x, y, y_train, also_0, also_1, ...
  naive.pb       convert_variables_to_constants on the training graph, where
                 that works; the phase is not decided in it
  case.json      the fields of `Case` below that are not their default
"""

import collections
import json
import os
import zipfile

import numpy as np

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")

# What case.json leaves out.
DEFAULTS = collections.OrderedDict(
  [
    ("input", None),  # node name of the input
    ("output", None),  # node name of the output
    ("kind", "const"),  # const, placeholder, default_true, default_false,
    # variable, keras: how the phase is given
    ("switch", None),  # node name of the phase, None for a literal
    ("tol", 2e-4),  # relative to max(1, max |y|)
    ("set", {}),  # values that a user has to state
    ("ema", False),  # export the moving averages of the weights
    ("average", ""),  # which of several, by how its name ends
    ("also", ()),  # further outputs
    ("joint", False),  # rows answer only together
    ("cut_input", False),  # input is an inner tensor, not a placeholder
    ("keep", False),  # batch statistics are meant: y is y_train
    ("keep_scopes", ()),  # norms a user names to keep their batch statistics
    ("no_run_115", False),  # NCHW, which no CPU runs
    ("expect", None),  # 'refuse'; 'warn': exported, but worth a finding
  ]
)

Case = collections.namedtuple(
  "Case",
  ["name", "folder", "prefix", "naive"]
  + list(DEFAULTS)
  + ["x", "y", "y_train", "also_y"],
)


def names():
  """Names of all stored cases, sorted."""
  return sorted(
    f[: -len(".zip")] for f in os.listdir(DATA) if f.endswith(".zip")
  )


def load(name, folder):
  """Unpacks a case and reads its truth.

  Args:
    name: one of `names()`.
    folder: an existing folder; the case is unpacked to `folder/name`.

  Returns:
    A `Case`.  `naive` is the path of naive.pb, or None where it has none;
    `also_y` lists the truths of `also`.
  """
  target = os.path.join(str(folder), name)
  with zipfile.ZipFile(os.path.join(DATA, name + ".zip")) as archive:
    archive.extractall(target)
  return read(target)


def read(target):
  """Reads the case that a folder holds; see `load`."""
  with open(os.path.join(target, "case.json")) as f:
    stored = json.load(f)
  fields = {key: stored.get(key, default) for key, default in DEFAULTS.items()}
  with np.load(os.path.join(target, "truth.npz")) as truth:
    fields.update({key: truth[key] for key in ("x", "y", "y_train")})
    fields["also_y"] = [
      truth["also_%d" % i] for i in range(len(fields["also"]))
    ]
  naive = os.path.join(target, "naive.pb")
  return Case(
    name=os.path.basename(target),
    folder=target,
    prefix=os.path.join(target, "model.ckpt"),
    naive=naive if os.path.exists(naive) else None,
    **fields,
  )
