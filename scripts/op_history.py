# SPDX-License-Identifier: Apache-2.0
"""Adds the ops of the TensorFlow it runs in to what the package has on record.

Run it once in each TensorFlow, oldest first, with that TensorFlow's Python:

  python scripts/op_history.py

It adds to bnexport/graph/op_history.json and, of a TensorFlow whose messages
the package reads without it, the whole OpDefs to
bnexport/tf1/op_definitions.json; a file that has the version already stays as
it is. To start over, delete a file. It runs under Python 3.6, which is the
newest that TensorFlow 1.4 has a wheel for.
"""

import base64
import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.framework import op_def_pb2

_PACKAGE = os.path.join(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bnexport"
)
_FILE = os.path.join(_PACKAGE, "graph", "op_history.json")
_DEFINITIONS = os.path.join(_PACKAGE, "tf1", "op_definitions.json")
# Older ones have their messages elsewhere, or a protobuf that makes them twice.
_OLDEST_DEFINED = [2, 12]


def registered_ops():
  """OpDefs of everything `import tensorflow` registers."""
  try:
    from tensorflow.python.client import pywrap_tf_session

    data = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
  except (ImportError, AttributeError):  # TF 1
    from tensorflow.python import pywrap_tensorflow

    data = pywrap_tensorflow.TF_GetBuffer(pywrap_tensorflow.TF_GetAllOpList())
  return op_def_pb2.OpList.FromString(bytes(data)).op


def add_version(history, version, graph_versions, op_defs):
  """Adds one TensorFlow, newer than all that are there.

  Args:
    history: what the file holds; is edited. See bnexport/op_history.py.
    version: as "1.15".
    graph_versions: its producer and min_consumer.
    op_defs: its OpDefs.
  """
  before = list(history["versions"])
  history["versions"][version] = graph_versions
  for op in op_defs:
    arguments = "%d %d" % (len(op.input_arg), len(op.output_arg))
    entry = history["ops"].get(op.name)
    if entry is None or entry["arguments"] != arguments:
      # With other arguments it is another op: nodes of one can't be read as
      # nodes of the other.
      entry = {"since": version, "arguments": arguments}
      entry["attributes"] = " ".join(sorted(attr.name for attr in op.attr))
      history["ops"][op.name] = entry
    entry.pop("until", None)
    for attr in op.attr:
      _add_attribute(entry, attr, version)
      _add_allowed(history["allowed"], entry, attr, version)
  registered = {op.name for op in op_defs}
  for name, entry in history["ops"].items():
    if name not in registered:
      entry.setdefault("until", before[-1])


def _add_attribute(entry, attr, version):
  """Notes an attribute that the op has not always had."""
  if attr.name in entry["attributes"].split():
    return
  later = entry.setdefault("later", {})
  if attr.name not in later:
    text = text_format.MessageToString(attr.default_value, as_one_line=True)
    default = text if attr.HasField("default_value") else None
    later[attr.name] = [version, default]


def _add_allowed(table, entry, attr, version):
  """Notes the values an attribute may have, where they are not as before."""
  values = list(attr.allowed_values.list.type)
  values += [s.decode() for s in attr.allowed_values.list.s]
  values.sort()
  states = entry.get("allowed", {}).get(attr.name, "")
  if values not in table:
    table.append(values)
  index = str(table.index(values))
  # The last state is the newest.
  if index != (states.split(":")[-1] if states else "0"):
    state = "%s:%s" % (version, index)
    entry.setdefault("allowed", {})[attr.name] = (states + " " + state).strip()


def write(history, path):
  """Writes one op a line, so that a new version makes a readable diff."""
  lines = []
  for key in ("versions", "allowed"):
    lines.append('"%s": %s' % (key, json.dumps(history[key])))
  ops = ",\n".join(
    '"%s":%s' % (name, json.dumps(_packed(entry), separators=(",", ":")))
    for name, entry in sorted(history["ops"].items())
  )
  lines.append('"ops": {\n%s\n}' % ops)
  with open(path, "w") as f:
    f.write("{\n%s\n}\n" % ",\n".join(lines))


# What every op has stands without its key: it is half of the file.
_ALWAYS = ("since", "arguments", "attributes")


def _packed(entry):
  rest = {key: entry[key] for key in sorted(entry) if key not in _ALWAYS}
  return [entry[key] for key in _ALWAYS] + ([rest] if rest else [])


def _unpacked(entry):
  return dict(zip(_ALWAYS, entry), **(entry[3] if len(entry) > 3 else {}))


def add_definitions(record, version, producer, op_defs):
  """Adds one TensorFlow's OpDefs, newer than all that are there.

  Args:
    record: what the file holds; is edited. See bnexport/tf1/definitions.py.
    version: as "2.21".
    producer: the version of the graphs that it writes.
    op_defs: its OpDefs.
  """
  record["versions"][str(producer)] = version
  own = {op.name: _encoded(op) for op in op_defs}
  for name in sorted(set(own) | set(record["ops"])):
    states = record["ops"].setdefault(name, [])
    data = own.get(name, "")  # empty where it is gone
    if not states or states[-1][1] != data:
      states.append([version, data])


def _encoded(op):
  plain = type(op)()
  plain.CopyFrom(op)
  for part in [plain, *plain.attr, *plain.input_arg, *plain.output_arg]:
    part.ClearField("description")
  plain.ClearField("summary")
  data = plain.SerializeToString(deterministic=True)
  return base64.b64encode(data).decode()


def write_definitions(record, path):
  """Writes one op a line."""
  ops = ",\n".join(
    "%s:%s" % (json.dumps(name), json.dumps(states, separators=(",", ":")))
    for name, states in sorted(record["ops"].items())
  )
  with open(path, "w") as f:
    versions = json.dumps(record["versions"])
    f.write('{\n"versions": %s,\n"ops": {\n%s\n}\n}\n' % (versions, ops))


def read(path, empty):
  """What a file holds, or what is in it before there is one."""
  if not os.path.exists(path):
    return empty
  with open(path) as f:
    return json.load(f)


def numbers(version):
  return [int(part) for part in version.split(".")]


def refuse_older(version, versions):
  """Ends the script where the file has a newer version than this one."""
  for other in versions:
    if numbers(other) > numbers(version):
      sys.exit(
        "op_history: cannot add TF %s: the file has TF %s already; delete it "
        "and begin with the oldest" % (version, other)
      )


def main():
  version = ".".join(tf.__version__.split(".")[:2])
  versions = tf.Graph().as_graph_def().versions
  op_defs = registered_ops()
  history = read(_FILE, {"versions": {}, "allowed": [[]], "ops": {}})
  history["ops"] = {
    name: _unpacked(entry) for name, entry in history["ops"].items()
  }
  if version not in history["versions"]:
    refuse_older(version, history["versions"])
    known = {
      "producer": versions.producer,
      "min_consumer": versions.min_consumer,
    }
    add_version(history, version, known, op_defs)
    write(history, _FILE)
    print("added TF %s: %d ops" % (version, len(history["ops"])))
  record = read(_DEFINITIONS, {"versions": {}, "ops": {}})
  is_new = version not in record["versions"].values()
  if is_new and numbers(version) >= _OLDEST_DEFINED:
    refuse_older(version, record["versions"].values())
    add_definitions(record, version, versions.producer, op_defs)
    write_definitions(record, _DEFINITIONS)
    print("added the definitions of TF %s" % version)


if __name__ == "__main__":
  main()
