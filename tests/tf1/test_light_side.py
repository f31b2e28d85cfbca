# SPDX-License-Identifier: Apache-2.0
"""What is had without TensorFlow, against what TensorFlow itself gives."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pickle
import signal
import sys
import time

import numpy as np
import pytest
from judges.commands import ROOT, run_process

from bnexport.tf1 import (
  arrays,
  definitions,
  dtypes,
  full,
  gfile,
  is_dtype,
  loading,
  op_def,
  protos,
)
from bnexport.tf1 import tf1 as door
from bnexport.transforms.spec import value_text

tf = full.tf1
if not protos.are_light():  # TensorFlow was imported first, or has to be
  dtypes.define(protos.classes()["DataType"])
IS_NEW = protos.folder() is not None


def known():
  """Numbers of all types that this TensorFlow has."""
  for number in range(1, 200):
    try:
      yield tf.as_dtype(number).as_datatype_enum
    except (TypeError, KeyError):
      continue


KNOWN = list(known())


def test_a_process_has_messages_and_ops_without_tensorflow():
  code = (
    "import sys; from bnexport.tf1 import op_def, tf1; "
    "made = tf1.GraphDef(); made.node.add(name='a', op='Abs'); "
    "attr = tf1.AttrValue(tensor=tf1.make_tensor_proto([1.0, 2.0])); "
    "assert tf1.make_ndarray(attr.tensor).tolist() == [1, 2]; "
    "assert op_def('Abs').attr[0].name == 'T' and op_def('NoSuchOp') is None; "
    "assert not tf1.gfile.Exists('/no/such/file'); "
    "was = 'tensorflow' in sys.modules; kind = tf1.GraphDef; "
    "import tensorflow.compat.v1 as tf; assert tf.GraphDef is kind; "
    "tf.import_graph_def; assert tf1.Graph is tf.Graph; sys.exit(was)"
  )
  result = run_process("-c", code)
  assert result.status == (0 if IS_NEW else 1), result.err


@pytest.mark.skipif(not IS_NEW, reason="its messages take TensorFlow")
@pytest.mark.part(2, 1)
@pytest.mark.parametrize("broken", ["raise ValueError", "x = 1"])
def test_a_layout_that_is_not_known_takes_tensorflow(broken):
  """Messages that can't be had, or would be made twice, are TensorFlow's."""
  code = (
    "import sys, types; from bnexport.tf1 import protos\n"
    "def run(self, name):\n"
    f"  {broken}\n"
    "  return types.SimpleNamespace(**{m: type(m, (), {}) "
    "for ms in protos._MODULES.values() for m in ms})\n"
    "protos._Runner.run = run; protos._loaded.cache_clear()\n"
    "kind = protos.classes()['GraphDef']\n"
    "import tensorflow.compat.v1 as tf\n"
    "sys.exit(protos.are_light() or kind is not tf.GraphDef)"
  )
  result = run_process("-c", code)
  assert result.status == 0, result.err


@pytest.mark.parametrize("number", KNOWN)
def test_dtypes_are_tensorflows(number):
  ours, theirs = dtypes.as_dtype(number), tf.as_dtype(number)
  assert ours == theirs and theirs == ours and hash(ours) == hash(theirs)
  assert tf.as_dtype(ours) == theirs and dtypes.as_dtype(theirs) == ours
  for key in (
    *("name", "as_datatype_enum", "is_floating", "is_integer", "is_complex"),
    *("is_bool", "is_quantized", "is_unsigned", "base_dtype", "real_dtype"),
  ):
    assert getattr(ours, key) == getattr(theirs, key), key
  assert (repr(ours), str(ours), f"{ours}") == (
    repr(theirs),
    str(theirs),
    str(theirs),
  )
  assert dtypes.as_dtype(theirs.name) == theirs
  copied = pickle.loads(pickle.dumps(ours))
  assert copied == ours and type(copied) is dtypes.DType
  if ours.base_dtype.name in ("resource", "variant"):
    with pytest.raises(KeyError):
      _ = ours.as_numpy_dtype
  else:
    assert np.dtype(ours.as_numpy_dtype) == np.dtype(theirs.as_numpy_dtype)
    assert dtypes.as_dtype(ours.as_numpy_dtype) == ours.base_dtype
    if ours.base_dtype.name != "string":
      assert ours.size == theirs.size


@pytest.mark.parametrize(
  "value", [0, -1, 35, 99, 200, "float33", int, str, None]
)
def test_what_is_no_type_is_refused(value):
  if value == 35 and 35 in KNOWN:
    pytest.skip("it is one here")
  with pytest.raises(TypeError):
    dtypes.as_dtype(value)
  with pytest.raises(TypeError):
    tf.as_dtype(value)


@pytest.mark.parametrize(
  "value", ["float", "half", "double", float, bool, np.float32, np.dtype("i8")]
)
def test_other_words_for_a_type(value):
  assert dtypes.as_dtype(value) == tf.as_dtype(value)


def _arrays():
  random = np.random.RandomState(0)
  for number in KNOWN:
    dtype = dtypes.as_dtype(number)
    if number > 100 or dtype.name in ("resource", "variant", "string"):
      continue
    for shape in ((), (1,), (3,), (2, 3), (0,), (2, 0), (1, 1, 1)):
      values = random.randint(0, 2, size=shape)
      if dtype.is_quantized:
        made = np.zeros(shape, dtype.as_numpy_dtype)
        made[dtype.name] = values
      else:
        made = np.asarray(values).astype(dtype.as_numpy_dtype)
      yield made


@pytest.mark.skipif(not IS_NEW, reason="TensorFlow's own is used")
def test_arrays_become_the_same_bytes_and_come_back():
  count = 0
  for array in _arrays():
    text = f"{array.dtype} {array.shape}"
    made = _outcome(arrays.make_tensor_proto, array, None)
    assert made == _outcome(tf.make_tensor_proto, array, None), text
    if made is TypeError:
      assert array.dtype.name.startswith("float8"), text
      continue
    tensor = door.TensorProto.FromString(made)
    back, expected = arrays.make_ndarray(tensor), tf.make_ndarray(tensor)
    assert back.dtype == expected.dtype and back.shape == expected.shape, text
    assert back.tobytes() == expected.tobytes(), text
    count += 1
  assert count > 100


VALUES = [
  *(0, 1, -1, 1 << 40, 1.5, True, 1j, b"a", "ä", b"a\0", "", float("nan")),
  *([], [[]], [1], [1, 2], [1.5, 2], [[1, 2], [3, 4]], (1, 2), [True, False]),
  *([b"a\0", b""], ["a", "bc"], [["a"], [b"b"]], [1, True], [1j, 2]),
  *([1, "a"], [[1], [2, 3]], [[1], 2], [None], None, {}, [1 << 40, 1]),
  *(np.float64(1.5), np.int64(3), np.array(["a", "b"]), np.array([b"a\0b"])),
  *(np.array([b"a", "c"], object), np.array([1, "c"], object), np.bool_(True)),
  *(np.arange(6).reshape(2, 3).T, np.zeros(3, ">f4"), [np.float32(1), 2.5]),
  *(
    [np.arange(2), np.arange(2)],
    1 << 70,
    [1e300, 1],
    np.arange(3, dtype="u2"),
  ),
]
WANTED = [
  *(None, "float32", "int32", "int64", "float64", "string", "bool", "float16"),
  *("uint8", "int8", "bfloat16", "complex64", "complex128", "qint8", "uint16"),
]


def _outcome(make, value, dtype):
  """The bytes of what is made, or the kind of refusal."""
  try:
    return make(value, dtype).SerializeToString()
  except (TypeError, ValueError, OverflowError) as error:
    return type(error)


@pytest.mark.skipif(not IS_NEW, reason="TensorFlow's own is used")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wanted", WANTED)
def test_values_become_the_same_bytes_or_are_refused_alike(wanted):
  for value in VALUES:
    dtype = wanted and dtypes.as_dtype(wanted)
    ours = _outcome(arrays.make_tensor_proto, value, dtype)
    theirs = _outcome(tf.make_tensor_proto, value, wanted)
    assert ours == theirs, (value, wanted)


def _listed():
  """TensorProtos that list fewer values than they have, and none."""
  for number, dims, held in itertools.product(
    [n for n in KNOWN if n < 100], [(), (1,), (3,), (2, 2)], [0, 1, 2]
  ):
    dtype = dtypes.as_dtype(number)
    field = arrays._LISTED.get(dtype.name)
    if field is None or dtype.is_quantized:
      continue
    tensor = door.AttrValue().tensor
    tensor.dtype = number
    for size in dims:
      tensor.tensor_shape.dim.add(size=size)
    values = [b"a", b"b\0"] if field == "string_val" else [1, 0]
    getattr(tensor, field).extend(
      values[:held] * (2 if dtype.is_complex else 1)
    )
    if held <= np.prod(dims):
      yield tensor


@pytest.mark.skipif(not IS_NEW, reason="TensorFlow's own is used")
def test_a_value_stands_for_those_that_are_not_listed():
  count = 0
  for tensor in _listed():
    ours, theirs = arrays.make_ndarray(tensor), tf.make_ndarray(tensor)
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    assert ours.tolist() == theirs.tolist(), tensor
    count += 1
  assert count > 100


@pytest.fixture(scope="module")
def script():
  path = os.path.join(ROOT, "scripts", "op_history.py")
  spec = importlib.util.spec_from_file_location("op_history_script", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_definitions_are_what_the_registry_has(script):
  """Of every op; a version that is not on record has the registry itself."""
  version = tuple(map(int, tf.__version__.split(".")[:2]))
  assert definitions.installed() in (version, None)
  is_on_record = version in ((2, 12), (2, 16), (2, 18), (2, 21))
  assert (definitions.installed() == version) or not is_on_record
  registered = script.registered_ops()
  assert len(registered) > 1000
  loaded = []  # by libraries that came later, as Keras loads some
  for op in registered:
    expected = script._encoded(op)
    assert script._encoded(op_def(op.name)) == expected, op.name
    recorded = definitions.installed() and definitions._recorded(op.name)
    if recorded:
      assert script._encoded(recorded) == expected
    else:
      loaded.append(op.name)
  if definitions.installed():
    assert len(loaded) < len(registered) / 100, loaded
  assert op_def("NoSuchOp") is None
  if definitions.installed():
    assert definitions._recorded("NoSuchOp") is None


def test_script_adds_definitions(script):
  """What a newer TensorFlow changes is noted, what it keeps is not."""
  record = {"versions": {}, "ops": {}}
  changed = type(op_def("Relu"))()
  changed.CopyFrom(op_def("Relu"))
  changed.attr.add(name="slope", type="float").default_value.f = 0.5
  kept, gone = op_def("Abs"), op_def("Neg")
  script.add_definitions(record, "3.0", 7, [op_def("Relu"), kept, gone])
  script.add_definitions(record, "3.1", 8, [changed, kept])
  assert record["versions"] == {"7": "3.0", "8": "3.1"}
  found = {n: [since for since, _ in s] for n, s in record["ops"].items()}
  assert found == {
    "Relu": ["3.0", "3.1"],
    "Abs": ["3.0"],
    "Neg": ["3.0", "3.1"],
  }
  assert record["ops"]["Neg"][1] == ["3.1", ""]


def test_files(tmp_path):
  path, other = str(tmp_path / "a"), str(tmp_path / "b")
  with gfile.GFile(path, "w") as f:
    f.write("ä\r\n")
  with gfile.GFile(path) as f:
    assert f.read() == "ä\r\n"
  assert gfile.Stat(path).length == tf.gfile.Stat(path).length == 4
  gfile.Copy(path, other)
  with pytest.raises(OSError, match="exists"):
    gfile.Copy(path, other)
  with pytest.raises(OSError, match="exists"):
    gfile.Rename(path, other)
  gfile.Rename(path, other, overwrite=True)
  assert gfile.ListDirectory(str(tmp_path)) == ["b"]
  assert not gfile.Exists(path) and gfile.Exists(other)
  gfile.MakeDirs(str(tmp_path / "c" / "d"))
  gfile.MakeDirs(str(tmp_path / "c" / "d"))
  assert gfile.IsDirectory(str(tmp_path / "c")) and not gfile.IsDirectory(other)
  gfile.DeleteRecursively(str(tmp_path / "c"))
  gfile.Remove(other)
  assert gfile.ListDirectory(str(tmp_path)) == []
  for do in (gfile.Remove, gfile.Stat, gfile.ListDirectory):
    with pytest.raises(FileNotFoundError):
      do(path)
  assert not gfile.Exists("a\0b") and not gfile.Exists("")


@pytest.mark.parametrize("path", ["ram://light/none", "/no/such/file"])
def test_what_is_not_there_is_an_oserror_wherever(path):
  # TF 1.15 has no ram:// at all.
  kind = OSError if "://" in path else FileNotFoundError
  with pytest.raises(kind):
    with gfile.GFile(path, "rb") as f:
      f.read()


@pytest.mark.parametrize(
  "pattern", ["a-?????-of-?????", "*", "a*", "[ab]*", "*/x", "none*", "a", "no"]
)
def test_patterns_fit_what_tensorflows_fit(tmp_path, pattern):
  for name in ("a", "a-00000-of-00001", "b", ".hidden"):
    (tmp_path / name).write_text("")
  (tmp_path / "folder").mkdir()
  (tmp_path / "folder" / "x").write_text("")
  found = gfile.Glob(str(tmp_path / pattern))
  assert found == sorted(tf.gfile.Glob(str(tmp_path / pattern)))


def test_the_door_is_open_for_all_of_tensorflow():
  assert door.import_graph_def is tf.import_graph_def
  assert door.__version__ == tf.__version__
  assert "tensorflow" in sys.modules
  with pytest.raises(AttributeError):
    _ = door.no_such_thing


def test_types_of_either_side_are_types():
  """A program that has imported TensorFlow hands over its own."""
  assert is_dtype(tf.float16) and is_dtype(door.half) and not is_dtype(1)
  assert door.half == tf.half and door.double == tf.double
  assert value_text(tf.float16) == value_text(door.float16) == "float16"


def test_an_interrupt_waits_for_the_import():
  """TensorFlow can't be imported again where it was left half imported."""
  done = []
  with pytest.raises(KeyboardInterrupt):
    with loading.held():
      os.kill(os.getpid(), signal.SIGINT)
      time.sleep(0.01)
      done.append("all")
  assert done == ["all"]
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  with loading.held():
    done.append("again")
  assert done == ["all", "again"]


def test_a_signal_that_is_ignored_stays_so():
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with loading.held():
      assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
  finally:
    signal.signal(signal.SIGINT, before)
