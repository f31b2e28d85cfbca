# SPDX-License-Identifier: Apache-2.0
"""Checkpoints, and the values of a graph's variables in them."""

from __future__ import annotations

from typing import (
  Any,
  Dict,
  Iterator,
  List,
  Mapping,
  Optional,
  Set,
  Tuple,
  Type,
)

import numpy as np
from google.protobuf.message import DecodeError

from bnexport.errors import SourceError, first_line, nearest
from bnexport.graph import Graph
from bnexport.graph.tensors import array_of
from bnexport.model.bundle import Bundle, Unusual
from bnexport.model.paths import refuse_special
from bnexport.model.prefixes import find_prefix
from bnexport.model.savers import (
  Saved,
  ScopeMap,
  mapped,
  restored_keys,
  saver_keys,
)
from bnexport.tf1 import ObjectGraph, session, tf1

# The key of what object-based checkpoints say of their objects.
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Tensors of more elements take longer to read than a session to start.
_LARGE = 1 << 20


def _unreadable() -> Tuple[Type[Exception], ...]:
  """What TensorFlow raises of a checkpoint.

  The last but one, of files that are cut short, the last of shapes and dtypes
  that make no array.
  """
  # Asked for where TensorFlow has read something: it takes importing it.
  found = tf1.errors.OpError
  return (found, ValueError, RuntimeError, IndexError, TypeError)


class Checkpoint:
  """A checkpoint's tensors by key; one is read when it is asked for.

  Attributes:
    prefix: of its files.
    shapes: lists of sizes by key.
    is_read: whether a value was asked for.
  """

  def __init__(self, path: str):
    """Opens a checkpoint of format V1 or V2.

    Raises:
      SourceError: it is missing, truncated or not a checkpoint.
    """
    self.is_read = False
    self._keys: Optional[Dict[str, str]] = None
    self._opened: Any = None
    self.prefix = find_prefix(path)
    self._is_v1 = not tf1.gfile.Exists(self.prefix + ".index")
    self._fetched = self._fetch()
    self._pattern = self._fetched.prefix
    if self._is_v1 and not tf1.gfile.Exists(self.prefix):
      self._pattern += "-?????-of-?????"
    for file in tf1.gfile.Glob(self.prefix + ".data-?????-of-?????"):
      refuse_special(file, f"read checkpoint '{self.prefix}'")
    self._bundle = self._own_bundle()
    if self._bundle is not None:
      self.shapes = self._bundle.shapes
    else:
      self.shapes = self._reader().get_variable_to_shape_map()

  def _fetch(self) -> Any:
    """The files, where TensorFlow can open them."""
    try:
      return tf1.gfile.Fetched(self.prefix)
    except OSError as error:
      raise self._unreadable(error) from error

  def _own_bundle(self) -> Optional[Bundle]:
    """What reads the checkpoint without TensorFlow, or None."""
    if self._is_v1 or not tf1.gfile.is_local(self._pattern):
      return None
    try:
      return Bundle(self._pattern)
    except (Unusual, OSError):
      return None  # TensorFlow tells why

  def _reader(self) -> Any:
    """TensorFlow's reader of the checkpoint."""
    if self._opened is None:
      try:
        self._opened = tf1.train.NewCheckpointReader(self._pattern)
      except _unreadable() as error:
        raise self._unreadable(error) from error
    return self._opened

  def __contains__(self, key: str) -> bool:
    return key in self.shapes

  def key_of(self, name: str) -> Optional[str]:
    """The key of the one object that had a variable of this name, or None.

    tf.train.Checkpoint and Keras call keys after attributes of objects, and
    note the names that the variables had.
    """
    if self._keys is None:
      found: Dict[str, Set[str]] = {}
      if _OBJECTS in self:
        packed = self.read(_OBJECTS).item()
        for node in self._objects(packed).nodes:
          for saved in node.attributes:
            found.setdefault(saved.full_name, set()).add(saved.checkpoint_key)
      self._keys = {n: keys.pop() for n, keys in found.items() if len(keys) < 2}
    return self._keys.get(name)

  def _objects(self, packed: bytes) -> ObjectGraph:
    try:
      return ObjectGraph.FromString(packed)
    except (DecodeError, TypeError) as error:
      raise self._unreadable(error, _OBJECTS) from error

  def read(self, key: str, slice_spec: str = "") -> np.ndarray:
    """Returns a tensor, or the slice of it that `slice_spec` names.

    Args:
      key: a key of the checkpoint.
      slice_spec: as SaveV2 writes it, `4,6 0,2:-`; empty for the whole.

    Raises:
      SourceError: the bytes are not there or not sound.
    """
    self.is_read = True
    if self._bundle is not None:
      try:
        return self._bundle.read(key, _extents(slice_spec))
      except (Unusual, OSError):
        pass  # TensorFlow tells why, or reads it
    try:
      # Only the op reads slices, and joins those of V1. The reader keeps
      # Python's lock while it reads, so nothing could be written meanwhile.
      if slice_spec or self._is_v1 or self._is_large(key):
        return self._restore(key, slice_spec)
      value = self._reader().get_tensor(key)
      # An array of bytes would lose the zeros at their end.
      return np.asarray(value, object if isinstance(value, bytes) else None)
    except _unreadable() as error:
      raise self._unreadable(error, key) from error

  @property
  def layout(self) -> Optional[Tuple[Dict[str, List[int]], Dict[str, int]]]:
    """Shapes and dtypes of all tensors; None where TensorFlow reads them."""
    found = self._bundle
    return None if found is None else (found.shapes, found.dtypes)

  def dtype(self, key: str) -> int:
    """The DataType enum of a tensor."""
    if self._bundle is not None:
      return self._bundle.dtypes[key]
    found = self._reader().get_variable_to_dtype_map()[key]
    return tf1.as_dtype(found).as_datatype_enum

  def content(
    self, key: str, slice_spec: str = ""
  ) -> Optional[Tuple[int, Iterator[bytes]]]:
    """The bytes of a tensor as they are stored, and how many they are.

    Returns:
      The number, and the bytes in pieces; None where `read` has to make them.
      The pieces end with a SourceError where they are not sound.
    """
    self.is_read = True
    if self._bundle is None or slice_spec:
      return None
    try:
      size, pieces = self._bundle.content(key)
    except Unusual:
      return None
    return size, self._told(key, pieces)

  def _told(self, key: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
      yield from pieces
    except (Unusual, OSError) as error:
      Checkpoint.read(self, key)  # TensorFlow tells why
      raise self._unreadable(error, key) from error

  def _is_large(self, key: str) -> bool:
    return bool(np.prod(self.shapes[key], dtype=np.int64) >= _LARGE)

  def _restore(self, key: str, slice_spec: str) -> np.ndarray:
    graph = tf1.Graph()
    with graph.as_default(), tf1.device("/cpu:0"):
      dtype = self._reader().get_variable_to_dtype_map()[key]
      tensor = tf1.raw_ops.RestoreV2(
        prefix=self._pattern,
        tensor_names=[key],
        shape_and_slices=[slice_spec],
        dtypes=[dtype],
      )[0]
    with session(graph) as run:
      return run.run(tensor)

  def _unreadable(
    self, error: Exception, key: Optional[str] = None
  ) -> SourceError:
    what = f"'{key}' of " if key else ""
    return SourceError(
      f"read {what}checkpoint '{self.prefix}'",
      first_line(error),
      "copy all files of the checkpoint again",
    )


# In the place of a slice: the graph's own file holds the value.
_IN_FILE = "in the file"


class Values:
  """The values of a graph's variables, by the variable's node name.

  What the graph's file itself holds comes first. In the checkpoint, a
  variable's key is what the graph's own Savers call it, else its name, else,
  in a graph without Savers, that of the object which had a variable of this
  name, else what the graph restores it from. Where a map of scopes gives a key
  that is there, that one goes first.
  Reading is lazy; nothing is kept.
  """

  def __init__(
    self,
    checkpoint: Optional[Checkpoint],
    graph: Graph,
    held: Optional[Mapping[str, tf1.TensorProto]] = None,
    saver: Optional[str] = None,
    scopes: ScopeMap = (),
  ):
    """Takes the keys from the graph's Savers.

    Args:
      checkpoint: a Checkpoint, or None.
      graph: the Graph with the variables and, perhaps, Savers.
      held: TensorProtos by variable, which a frozen graph holds; or None.
      saver: the tensor that the MetaGraph's own Saver saves with, or None.
      scopes: pairs of a scope of variables and that of their keys.
    """
    self.checkpoint = checkpoint
    self._scopes = scopes
    self._held = dict(held or {})
    self._saved = saver_keys(graph, saver)
    self._restored = restored_keys(graph)
    self._shared = {
      node.name: node.attr["shared_name"].s.decode("utf-8", "replace")
      for node in graph
      if node.op == "VarHandleOp"
    }
    self._instead: Dict[str, Saved] = {}

  def shared_name(self, variable: str) -> Optional[str]:
    """The name by which sessions share a resource, or None."""
    return self._shared.get(variable)

  def prefer(self, variable: str, saved: Saved) -> None:
    """Makes `saved` the place that the value of `variable` is read from."""
    self._instead[variable] = saved

  def hold(self, variable: str, tensor: tf1.TensorProto) -> None:
    """Takes a copy of a TensorProto for the value of `variable`."""
    self._held[variable] = type(tensor)()
    self._held[variable].CopyFrom(tensor)

  def find(self, variable: str) -> Optional[Saved]:
    """Returns the place of a variable's value, or None."""
    if variable in self._instead:
      return self._instead[variable]
    if variable in self._held:
      return Saved(variable, _IN_FILE)
    if self.checkpoint is None:
      return None
    candidates = list(self._saved.get(variable, ()))
    names = [variable, self._shared.get(variable)]
    if not self._saved:  # TF 2 saves graphs in which variables are renamed
      names.append(self.checkpoint.key_of(variable))
    candidates += [Saved(name, "") for name in names if name is not None]
    candidates += self._restored.get(variable, ())
    moved = [m for saved in candidates for m in mapped(saved, self._scopes)]
    for saved in moved + candidates:
      if saved.key in self.checkpoint:
        return saved
    return None

  def __contains__(self, variable: str) -> bool:
    return self.find(variable) is not None

  def shape(self, variable: str) -> Optional[Tuple[int, ...]]:
    """The shape of a variable's value, or None where there is none."""
    saved = self.find(variable)
    if saved is None:
      return None
    if saved.slice_spec == _IN_FILE:
      dims = self._held[saved.key].tensor_shape.dim
      return tuple(dim.size for dim in dims)
    if saved.slice_spec:
      return slice_shape(saved.slice_spec)
    assert self.checkpoint is not None  # it is where `find` has found it
    return tuple(self.checkpoint.shapes[saved.key])

  def dtype(self, variable: str) -> Optional[int]:
    """The DataType enum of a variable's value, or None where there is none."""
    saved = self.find(variable)
    if saved is None:
      return None
    if saved.slice_spec == _IN_FILE:
      return self._held[saved.key].dtype
    assert self.checkpoint is not None  # it is where `find` has found it
    return self.checkpoint.dtype(saved.key)

  def __getitem__(self, variable: str) -> np.ndarray:
    saved = self.find(variable)
    if saved is None:
      what = f"freeze variable '{variable}'"
      if self.checkpoint is None:
        raise SourceError(
          what, "no checkpoint is given", "pass --checkpoint=PREFIX"
        )
      raise SourceError(
        what,
        f"checkpoint '{self.checkpoint.prefix}' does not hold it",
        nearest(variable, self.checkpoint.shapes),
      )
    if saved.slice_spec == _IN_FILE:
      return array_of(self._held[saved.key])
    assert self.checkpoint is not None  # it is where `find` has found it
    return self.checkpoint.read(*saved)

  def content(self, variable: str) -> Optional[Tuple[int, Iterator[bytes]]]:
    """The bytes of a value as the checkpoint stores them; see Checkpoint."""
    saved = self.find(variable)
    if saved is None or self.checkpoint is None:
      return None
    return self.checkpoint.content(*saved)


def slice_shape(slice_spec: str) -> Tuple[int, ...]:
  """Shape of a slice: `4,6 0,2:-` is rows 0 and 1 of a 4 x 6 tensor."""
  sizes = map(int, slice_spec.split(" ")[:-1])
  extents = _extents(slice_spec)
  return tuple(
    size if extent is None else extent[1]
    for size, extent in zip(sizes, extents)
  )


def _extents(slice_spec: str) -> List[Optional[Tuple[int, int]]]:
  """Begin and length for each axis, None for all of it; none for no slice."""
  if not slice_spec:
    return []
  found: List[Optional[Tuple[int, int]]] = []
  for part in slice_spec.split(" ")[-1].split(":"):
    begin, comma, length = part.partition(",")
    found.append((int(begin), int(length)) if comma else None)
  return found
