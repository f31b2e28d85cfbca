# SPDX-License-Identifier: Apache-2.0
"""Files to damage, and the command lines that are given them."""

from __future__ import annotations

import os
import random
import shutil
from typing import Dict, List, NamedTuple, Tuple

import saved
import zoo

# Where the files of every input lie; the arguments name them so.
FOLDER = "in"
_OUT = "out/made"
_SPECS = (
  "fold_constants",
  "strip_unused_nodes fold_constants fold_batch_norms fold_old_batch_norms",
  "remove_nodes(op=Identity) merge_duplicate_nodes sort_by_execution_order",
  "quantize_weights(minimum_size=2) round_weights",
  "quantize_nodes",
  "decide use_stored_statistics remove_dropout remove_noise",
  "inline_functions remove_side_effects read_variables",
  "convert_layout fold_constants",
  "backport(target_tf=1.4)",
  "insert_logging(op=Relu) obfuscate_names",
  "optimize_for_inference",
  "remove_attribute(attribute_name=T) remove_device",
  "flatten_atrous_conv fuse_pad_and_conv fuse_resize_pad_and_conv",
  "thaw_variables restore_updates state_shapes",
  "sparsify_gather add_default_attributes remove_control_dependencies",
)


class Artefact(NamedTuple):
  """Some files and what may be asked of them.

  Attributes:
    name: of the artefact.
    folder: where its files lie; copied to `FOLDER`.
    lines: command lines, each a command and its arguments.
    text: pairs of a binary GraphDef and the text that is made of it.
  """

  name: str
  folder: str
  lines: Tuple[Tuple[str, ...], ...]
  text: Dict[str, str]


def names() -> List[str]:
  """Of all artefacts, those of the zoo several times as often."""
  return zoo.names() + ["saved:" + n for n in _SAVED] * 3


def unpacked(name: str, folder: str) -> zoo.Case:
  """Copies the files of a case of the zoo into `folder/FOLDER`."""
  case = zoo.load(name, folder)
  shutil.move(case.folder, os.path.join(folder, FOLDER))
  return case


def load(name: str, folder: str, draw: random.Random) -> Artefact:
  """Copies an artefact's files into `folder/FOLDER`."""
  target = os.path.join(folder, FOLDER)
  if name.startswith("saved:"):
    name = name[len("saved:") :]
    found, _ = saved.load(name, folder)
    shutil.move(found, target)
    return Artefact(name, target, _saved_lines(_SAVED[name]), {})
  case = unpacked(name, folder)
  shutil.copy(
    os.path.join(target, "truth.npz"), os.path.join(target, "feeds.npz")
  )
  return Artefact(name, target, _lines(case, draw), {"text.pbtxt": "naive.pb"})


def _lines(case, draw):
  # A proof takes most of the time that a command takes, and is the same for
  # all damage that it does not see.
  proof = draw.choice(_PROOFS)
  end = (
    f"--output_node={case.output}",
    f"--output_graph={_OUT}.pb",
    proof,
    _PATIENT,
  )
  trained = f"--checkpoint={FOLDER}/model.ckpt"
  lines = [
    ("freeze", trained, *end),
    ("freeze", trained, *end, "--engine=session"),
    ("freeze", trained, *end, f"--report=out/report.{draw.choice(_KINDS)}"),
    ("freeze", trained, *end, f"--feeds={FOLDER}/feeds.npz"),
    ("freeze", trained, *end, f"--calibration_data={FOLDER}/feeds.npz"),
    ("inspect", trained),
    ("inspect", trained, "--format=json", f"--target_tf={draw.choice(_OLD)}"),
  ]
  if case.naive is None:
    return tuple(lines)
  graph = f"{FOLDER}/" + draw.choice(("naive.pb", "naive.pb", "text.pbtxt"))
  transforms = [
    (
      "transform",
      f"--in_graph={graph}",
      f"--out_graph={_OUT}.pb",
      f"--outputs={case.output}",
      f"--transforms={spec}",
    )
    for spec in draw.sample(_SPECS, 4)
  ]
  return tuple(
    lines
    + transforms
    + [
      ("repair", f"--graph_def={graph}", *end),
      ("repair", f"--graph_def={graph}", trained, *end),
      ("inspect", f"--graph_def={graph}"),
      ("inspect", f"--graph_def={graph}", trained, "--format=json"),
      (
        "validate",
        f"--graph={graph}",
        f"--output_node={case.output}",
        _PATIENT,
      ),
      (
        "validate",
        f"--graph={graph}",
        f"--reference={FOLDER}/model.ckpt",
        _PATIENT,
      ),
      ("freeze", f"--graph_def={graph}", trained, *end),
    ]
  )


# What waits for something in a proof, such as a queue that nobody fills, is
# given less time than a command has to answer in.
_PATIENT = "--proof_timeout=15"
_PROOFS = (
  "--validate=false",
  "--validate=false",
  "--proof=quick",
  "--proof=auto",
)
_KINDS = ("html", "md", "json")
_OLD = ("1.0", "1.4", "1.13", "2.4")
# What the saved models hold.
_SAVED = {
  "keras": ("model.h5", "saved"),
  "keras3": ("model.keras", "saved"),
  "module": ("saved",),
  "tf_keras": ("model.keras", "model.h5", "saved"),
}


def _saved_lines(held):
  lines = []
  for name in held:
    path = f"{FOLDER}/{name}"
    flag = "--saved_model=" if name == "saved" else "--keras="
    lines += [
      ("freeze", flag + path, f"--output_graph={_OUT}.pb", _PATIENT),
      ("inspect", flag + path),
    ]
    if name == "saved":
      lines += [
        ("inspect", flag + path, "--format=json"),
        (
          "transform",
          f"--in_graph={path}",
          f"--out_graph={_OUT}",
          "--transforms=fold_constants strip_unused_nodes",
        ),
        ("validate", f"--graph={path}", _PATIENT),
      ]
  return tuple(lines)
