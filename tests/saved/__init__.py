# SPDX-License-Identifier: Apache-2.0
"""Models as TensorFlow and Keras save them, for the sources that read them.

`data/NAME.zip` holds what `make.py` wrote under TF 1.15 or the newest; this
module only unpacks, and imports no TensorFlow.
"""

import os
import zipfile

import numpy as np

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


def load(name, folder):
  """Unpacks one; returns its directory, and the arrays of its truth.npz."""
  target = os.path.join(str(folder), name)
  with zipfile.ZipFile(os.path.join(DATA, name + ".zip")) as archive:
    archive.extractall(target)
  with np.load(os.path.join(target, "truth.npz")) as truth:
    return target, {key: truth[key] for key in truth.files}
