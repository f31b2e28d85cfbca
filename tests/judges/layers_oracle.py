# SPDX-License-Identifier: Apache-2.0
"""What TF 1.15's own batch norm layers do, over a grid of their arguments.

Run under Python 3.7 with TF 1.15, this writes layers_oracle.npz beside it:

  python tests/judges/layers_oracle.py

Tests build the same cases with bnexport.layers and `measure` them the same way.
Members of the file: `facts`, JSON of what `measure` says about each case and of
the shapes of its arrays, and `data`, the bytes of all arrays end to end.
"""

import collections
import functools
import json
import os
import re
import zlib

import numpy as np
import tensorflow.compat.v1 as tf

PATH = os.path.join(
  os.path.dirname(os.path.abspath(__file__)), "layers_oracle.npz"
)
STEPS = 3
PHASES = (True, False, "placeholder")

# kind: 'layers' or 'contrib'.  options: of the layer; a value that is a
# function named `tensor_*` is called when the graph is built.
Case = collections.namedtuple("Case", "name kind shape dtype phase options how")


class Cases:
  """Collects cases; names are made of what differs."""

  def __init__(self):
    self.all = collections.OrderedDict()

  def add(
    self,
    kind,
    title,
    shape,
    phases=PHASES,
    dtype="float32",
    how=None,
    **options,
  ):
    for phase in phases:
      full = "%s_%s_%d_%s" % (kind, title, len(shape), str(phase).lower())
      assert full not in self.all, full
      self.all[full] = Case(full, kind, shape, dtype, phase, options, how or {})


class Half:
  """A partitioner of two parts along axis 0."""

  def __call__(self, shape, dtype, **_):
    return [2] + [1] * (len(shape.as_list()) - 1)


def tensor_momentum():
  return tf.constant(0.8)


def adjust_last(shape):
  scale = tf.linspace(0.8, 1.2, shape[-1])
  return scale, scale - 1.1


def adjust_axis_1(shape):
  scale = tf.reshape(tf.linspace(0.8, 1.2, shape[1]), [1, -1, 1, 1])
  return scale, scale - 1.1


def squares(v):
  return 0.3 * tf.reduce_sum(tf.square(v))


def absolutes(v):
  return 0.2 * tf.reduce_sum(tf.abs(v))


def clipped(v):
  return tf.clip_by_value(v, 0.2, 0.9)


def nothing(_):
  return None


INITIALIZERS = {
  "beta": tf.constant_initializer(0.25),
  "gamma": tf.constant_initializer([1.5, 0.5]),
  "moving_mean": tf.constant_initializer(-0.5),
  "moving_variance": tf.constant_initializer(4.0),
}
CLIPPING = {"rmin": 0.8, "rmax": 1.25, "dmax": 0.3}
FLAT, SERIES, MAPS, VOLUMES = (6, 5), (4, 3, 2), (4, 3, 3, 2), (4, 2, 2, 2, 3)
SHAPES = (FLAT, SERIES, MAPS, VOLUMES)


def layers_cases(add):
  """Cases of tf.layers.batch_normalization."""
  # What has nothing to do with the phase, or is no other way to treat it.
  once = functools.partial(add, phases=(True,))
  fed = functools.partial(add, phases=("placeholder",))
  for shape in SHAPES:
    add("plain", shape)
    fed("unfused", shape, fused=False)
    add("renorm", shape, renorm=True)
    add("resource", shape, how={"resource": True})
    fed("resource_renorm", shape, renorm=True, how={"resource": True})
    add("virtual", shape, virtual_batch_size=2)
    add("adjusted", shape, adjustment=adjust_last)
    fed("bare", shape, center=False, scale=False)
  for shape, axis in (
    (SERIES, 1),
    (SERIES, -2),
    (MAPS, 2),
    (MAPS, [1, 3]),
    (MAPS, [3, 1]),
    (MAPS, [-1]),
    (VOLUMES, 1),
    (VOLUMES, [1, 2, 4]),
  ):
    add("axis_%s" % axis, shape, axis=axis)
  add("axis_1", MAPS, axis=1, fused=False)
  add("axis_0", SERIES, axis=0, how={"static": True})
  add("axis_1_fused", MAPS, axis=1, how={"nchw": True})
  for fused in (True, False):
    word = "_fused" if fused else "_unfused"
    for axis in (1, [1, 3]) if not fused else ():
      add(
        "bare%s_axis_%s" % (word, axis),
        MAPS,
        center=False,
        scale=False,
        fused=fused,
        axis=axis,
      )
    once("no_center" + word, MAPS, center=False, fused=fused)
    once("no_scale" + word, MAPS, scale=False, fused=fused)
    add("float16" + word, MAPS, dtype="float16", fused=fused)
    fed("momentum_tensor" + word, MAPS, momentum=tensor_momentum, fused=fused)
    once("momentum" + word, MAPS, momentum=0.5, fused=fused)
    fed("small_epsilon" + word, MAPS, epsilon=1e-7, fused=fused)
    fed("frozen" + word, MAPS, trainable=False, fused=fused)
    once(
      "twice" + word,
      MAPS,
      name="norm",
      reuse=tf.AUTO_REUSE,
      fused=fused,
      how={"calls": 2},
    )
    once(
      "partitioned" + word,
      (4, 3, 3, 4),
      fused=fused,
      how={"scope": {"partitioner": Half()}},
    )
    once(
      "regularized" + word,
      MAPS,
      gamma_regularizer=squares,
      fused=fused,
      beta_regularizer=absolutes,
      how={"scope": {"regularizer": absolutes}},
    )
  once("fused_anyway", SERIES, fused=True)
  once("fused_renorm", MAPS, fused=True, renorm=True)
  add("float16", FLAT, dtype="float16")
  once("float16_renorm", MAPS, dtype="float16", renorm=True)
  fed("float16_virtual", MAPS, dtype="float16", virtual_batch_size=2)
  once("float64", FLAT, dtype="float64")
  once("float64_unfused", MAPS, dtype="float64", fused=False)
  add("renorm_axis_1", SERIES, renorm=True, axis=1)
  once("renorm_axes", MAPS, renorm=True, axis=[1, 3])
  once("renorm_bare", MAPS, renorm=True, center=False, scale=False)
  add(
    "renorm_clipped",
    MAPS,
    renorm=True,
    renorm_clipping=CLIPPING,
    renorm_momentum=0.7,
  )
  once("renorm_rmax", FLAT, renorm=True, renorm_clipping={"rmax": 1.1})
  fed("renorm_frozen", MAPS, renorm=True, trainable=False)
  add("virtual_axis_1", MAPS, virtual_batch_size=2, axis=1)
  add("virtual_axes", MAPS, virtual_batch_size=2, axis=[1, 3])
  fed("virtual_renorm", MAPS, virtual_batch_size=2, renorm=True)
  once("virtual_bare", MAPS, virtual_batch_size=4, center=False, scale=False)
  add("adjusted_axis_1", MAPS, adjustment=adjust_axis_1, axis=1)
  fed("adjusted_renorm", MAPS, adjustment=adjust_last, renorm=True)
  once("adjusted_bare", MAPS, adjustment=adjust_last, center=False, scale=False)
  once(
    "initialized",
    MAPS,
    renorm=True,
    **{k + "_initializer": v for k, v in INITIALIZERS.items()},
  )
  once("constrained", MAPS, gamma_constraint=clipped, beta_constraint=clipped)
  once("regularized_by_nothing", MAPS, gamma_regularizer=nothing)
  once(
    "regularized_parts",
    (4, 3, 3, 4),
    gamma_regularizer=squares,
    how={"scope": {"partitioner": Half()}},
  )
  once(
    "regularized_twice",
    MAPS,
    gamma_regularizer=squares,
    name="norm",
    reuse=tf.AUTO_REUSE,
    how={"calls": 2},
  )
  once("two_names", MAPS, how={"calls": 2})
  once("named", MAPS, name="a/b")
  once("reuse_default", MAPS, reuse=tf.AUTO_REUSE, how={"calls": 2})
  for phase in (0, 1, "constant", "folded", "variable"):
    add("phase", MAPS, phases=(phase,))
    add("phase_unfused", MAPS, phases=(phase,), fused=False)


def contrib_cases(add):
  """Cases of tf.contrib.layers.batch_norm."""
  once = functools.partial(add, phases=(True,))
  fed = functools.partial(add, phases=("placeholder",))
  for shape in SHAPES:
    add("plain", shape)
    add("unfused", shape, fused=False, scale=True)
    add("inplace", shape, updates_collections=None, scale=True)
    add("inplace_unfused", shape, updates_collections=None, fused=False)
    add("own", shape, updates_collections="own", decay=0.9)
    add("debiased", shape, zero_debias_moving_mean=True, decay=0.9)
    add(
      "debiased_unfused",
      shape,
      zero_debias_moving_mean=True,
      fused=False,
      decay=0.8,
    )
  for shape in (FLAT, MAPS):
    add("renorm", shape, renorm=True, renorm_decay=0.9)
    weights = np.arange(1, shape[0] + 1).astype(np.float32)
    add("weighted", shape, batch_weights=weights)
    fed("nchw", shape, data_format="NCHW", fused=False)
    fed(
      "nchw_own",
      shape,
      data_format="NCHW",
      fused=False,
      scale=True,
      updates_collections="own",
    )
    add("resource", shape, how={"resource": True}, scale=True)
    add(
      "resource_inplace",
      shape,
      how={"resource": True},
      updates_collections=None,
    )
    fed(
      "resource_debiased",
      shape,
      how={"resource": True},
      zero_debias_moving_mean=True,
    )
  add("nchw_fused", MAPS, data_format="NCHW", how={"nchw": True})
  add(
    "nchw_fused_own",
    MAPS,
    data_format="NCHW",
    how={"nchw": True},
    updates_collections="own",
  )
  add(
    "weighted_inplace",
    MAPS,
    updates_collections=None,
    scale=True,
    batch_weights=np.array([0.5, 2.0, 1.0, 0.0]),
  )
  fed(
    "weighted_nchw",
    MAPS,
    data_format="NCHW",
    fused=False,
    batch_weights=np.array([0.5, 2.0, 1.0, 0.0]),
  )
  add(
    "debiased_inplace",
    MAPS,
    updates_collections=None,
    zero_debias_moving_mean=True,
  )
  add(
    "debiased_inplace_unfused",
    MAPS,
    updates_collections=None,
    fused=False,
    zero_debias_moving_mean=True,
  )
  once(
    "debiased_twice",
    MAPS,
    zero_debias_moving_mean=True,
    scope="norm",
    reuse=tf.AUTO_REUSE,
    how={"calls": 2},
  )
  once("two_collections", MAPS, updates_collections=["one", "two"])
  add("adjusted", MAPS, adjustment=adjust_last, scale=True)
  once("adjusted_own", MAPS, adjustment=adjust_last, updates_collections="own")
  add("renorm_clipped", MAPS, renorm=True, renorm_clipping=CLIPPING)
  add("float16", MAPS, dtype="float16", scale=True)
  add("float16", FLAT, dtype="float16", scale=True)
  fed("float16_own", MAPS, dtype="float16", updates_collections="own")
  fed(
    "float16_unfused_own",
    MAPS,
    dtype="float16",
    fused=False,
    updates_collections="own",
  )
  once("float64", SERIES, dtype="float64", scale=True)
  once(
    "float64_unfused_own",
    MAPS,
    dtype="float64",
    fused=False,
    updates_collections="own",
  )
  for word, updates in (("", "update_ops"), ("_own", "own")):
    for fused in (True, False):
      end = word + ("_fused" if fused else "_unfused")
      once(
        "collected" + end,
        MAPS,
        updates_collections=updates,
        fused=fused,
        variables_collections=["mine"],
        outputs_collections="ends",
        activation_fn=tf.nn.relu,
        scale=True,
      )
      once(
        "collected_by_name" + end,
        MAPS,
        fused=fused,
        updates_collections=updates,
        outputs_collections=["a", "b"],
        variables_collections={"beta": ["betas"], "moving_mean": ["means"]},
      )
      fed(
        "frozen" + end,
        MAPS,
        updates_collections=updates,
        fused=fused,
        trainable=False,
        scale=True,
      )
      once(
        "initialized" + end,
        MAPS,
        updates_collections=updates,
        fused=fused,
        param_initializers=INITIALIZERS,
        scale=True,
      )
      once(
        "regularized" + end,
        MAPS,
        updates_collections=updates,
        scale=True,
        fused=fused,
        param_regularizers={"gamma": squares, "beta": absolutes},
      )
      once(
        "regularized_scope" + end,
        MAPS,
        updates_collections=updates,
        scale=True,
        fused=fused,
        param_regularizers={"gamma": squares},
        how={"scope": {"regularizer": absolutes}},
      )
      once(
        "partitioned" + end,
        (4, 3, 3, 4),
        updates_collections=updates,
        scale=True,
        fused=fused,
        how={"scope": {"partitioner": Half()}},
      )
      fed(
        "bare" + end,
        MAPS,
        updates_collections=updates,
        fused=fused,
        center=False,
      )
      once(
        "decay_tensor" + end,
        MAPS,
        updates_collections=updates,
        fused=fused,
        decay=tensor_momentum,
      )
      once(
        "twice" + end,
        MAPS,
        updates_collections=updates,
        fused=fused,
        scope="norm",
        reuse=tf.AUTO_REUSE,
        how={"calls": 2},
        variables_collections=["mine"],
      )
  once("two_names", MAPS, how={"calls": 2})
  once("two_names_own", MAPS, updates_collections="own", how={"calls": 2})
  for phase in (0, 1, "constant", "folded", "variable"):
    add("phase", MAPS, phases=(phase,))
    if phase != "folded":
      add("phase_own", MAPS, phases=(phase,), updates_collections="own")


def cases():
  """All cases, by name."""
  made = Cases()
  layers_cases(lambda *a, **k: made.add("layers", *a, **k))
  contrib_cases(lambda *a, **k: made.add("contrib", *a, **k))
  return made.all


def build(case, layer, oracle=False):
  """Builds a case in the default graph.

  Args:
    case: Case.
    layer: function, the layer.
    oracle: whether NCHW is normalised as NHWC, which every CPU can run.

  Returns:
    The input, the phase placeholder or None, the output.
  """
  batch = case.shape[0] if case.how.get("static") else None
  x = tf.placeholder(case.dtype, (batch,) + case.shape[1:], name="x")
  options = {
    k: v() if getattr(v, "__name__", "").startswith("tensor_") else v
    for k, v in case.options.items()
  }
  transposed = oracle and case.how.get("nchw")
  if transposed:
    options.pop("axis", None)
    options.pop("data_format", None)
  training, fed = _phase(case.phase)
  key = "training" if case.kind == "layers" else "is_training"
  options[key] = training
  with tf.variable_scope(
    "net",
    use_resource=bool(case.how.get("resource")),
    **case.how.get("scope", {}),
  ):
    y = tf.transpose(x, [0, 2, 3, 1]) if transposed else x
    for _ in range(case.how.get("calls", 1)):
      y = layer(y, **options)
    y = tf.transpose(y, [0, 3, 1, 2]) if transposed else y
  return x, fed, y


def _phase(phase):
  if phase == "placeholder":
    fed = tf.placeholder(tf.bool, [], name="phase")
    return fed, fed
  if phase == "variable":
    with tf.variable_scope("", use_resource=False):
      return tf.get_variable(
        "phase",
        initializer=True,
        trainable=False,
        dtype=tf.bool,
        collections=["local_variables"],
      ), None
  made = {
    "constant": lambda: tf.constant(True),
    "folded": lambda: tf.logical_not(tf.constant(True)),
  }
  return made.get(phase, lambda: phase)(), None


def measure(case, layer, oracle=False):
  """Builds, trains for some steps, and says what is the case afterwards.

  Args: as of `build`.

  Returns:
    Facts, a dict of lists and numbers, and a dict of arrays:
      initial/NAME: value of a variable as initialised
      y, dx, d/NAME: of the last step, and gradients of sum(y * w) + losses
      end/NAME: value of a variable after the steps, from drawn values on
      y_false, false/NAME: the same with the phase fed False
  """
  with tf.Graph().as_default() as graph:
    x, fed, y = build(case, layer, oracle)
    losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    facts = {
      "variables": _variables(),
      "collections": _collections(graph),
      "shape": y.shape.as_list(),
      "dtype": y.dtype.name,
    }
    weights = _random("weights", case.shape)
    loss = tf.reduce_sum(tf.cast(y, tf.float64) * weights)
    loss += sum(tf.cast(part, tf.float64) for part in losses)
    trained = tf.trainable_variables()
    gradients = tf.gradients(loss, [x] + trained)
    named = [("y", y)] + [
      (n, g)
      for n, g in zip(["dx"] + ["d/" + v.op.name for v in trained], gradients)
      if g is not None
    ]
    updates = [
      u for key in ("update_ops", "own", "one") for u in tf.get_collection(key)
    ]
    arrays = collections.OrderedDict()
    config = tf.ConfigProto(
      intra_op_parallelism_threads=1,
      inter_op_parallelism_threads=1,
      device_count={"GPU": 0},
    )
    # Grappler takes as long as all that it would speed up.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Session(config=config) as session:
      session.run(
        [tf.global_variables_initializer(), tf.local_variables_initializer()]
      )
      _keep(session, arrays, "initial/")
      drawn = [
        v
        for v in tf.global_variables()
        if not v.op.name.endswith(("biased", "local_step"))
      ]
      session.run(
        [v.initializer for v in drawn],
        {v.initializer.inputs[1]: _value(v) for v in drawn},
      )
      feeds = {} if fed is None else {fed: True}
      for step in range(STEPS):
        feeds[x] = _random("x%d" % step, case.shape).astype(case.dtype)
        if case.how.get("calls", 1) > 1:
          # Two updates of one variable would race.
          got = session.run([t for _, t in named], feeds)
          for update in updates:
            session.run(update, feeds)
        else:
          got = session.run([t for _, t in named] + updates, feeds)
      arrays.update(zip([n for n, _ in named], got))
      _keep(session, arrays, "end/")
      if fed is not None:
        feeds[fed] = False
        arrays["y_false"] = session.run([y] + updates, feeds)[0]
        _keep(session, arrays, "false/")
  return facts, arrays


def _keep(session, arrays, prefix):
  variables = tf.global_variables()
  for variable, value in zip(variables, session.run(variables)):
    arrays[prefix + variable.op.name] = value


def _random(name, shape):
  random = np.random.RandomState(zlib.crc32(name.encode()))
  return random.normal(0.7, 1.5, shape)


def _value(variable):
  """A value that the name and shape of a variable decide."""
  name, shape = variable.op.name, variable.shape.as_list()
  random = np.random.RandomState(zlib.crc32(name.encode()))
  value = random.uniform(0.5, 1.8, shape)
  if "mean" in name or "beta" in name:
    value -= 1.0
  return value.astype(variable.dtype.base_dtype.as_numpy_dtype)


def _variables():
  trained = {id(v) for v in tf.trainable_variables()}
  return [
    [v.op.name, v.shape.as_list(), v.dtype.base_dtype.name, id(v) in trained]
    for v in tf.global_variables()
  ]


def _collections(graph):
  """Names in each collection that a user reads and finds something in."""
  found = {}
  for key in graph.get_all_collection_keys():
    items = graph.get_collection_ref(key)
    if isinstance(key, str) and not re.match("_|cond|while", key) and items:
      found[key] = [getattr(item, "op", item).name for item in items]
  return found


def write():
  """Measures TF 1.15's own layers and writes the file."""
  import tensorflow

  real = {
    "layers": tensorflow.layers.batch_normalization,
    "contrib": tensorflow.contrib.layers.batch_norm,
  }
  tf.logging.set_verbosity(tf.logging.ERROR)
  store(
    {
      name: measure(case, real[case.kind], oracle=True)
      for name, case in cases().items()
    }
  )


def store(measured):
  """Writes {case: (facts, arrays)}."""
  every, data = {}, []
  for name in sorted(measured):
    facts, arrays = measured[name]
    shapes = [[k, list(v.shape), v.dtype.name] for k, v in arrays.items()]
    every[name] = dict(facts, arrays=shapes)
    data += [np.ascontiguousarray(v).tobytes() for v in arrays.values()]
  np.savez_compressed(
    PATH,
    facts=np.frombuffer(json.dumps(every, sort_keys=True).encode(), np.uint8),
    # One member: the head of each would be as large as what is in it.
    data=np.frombuffer(b"".join(data), np.uint8),
  )


def read():
  """Returns {case: (facts, arrays)} of the file."""
  with np.load(PATH) as stored:
    every = json.loads(stored["facts"].tobytes().decode())
    data = stored["data"].tobytes()
  found, start = {}, 0
  for name in sorted(every):
    facts, arrays = every[name], collections.OrderedDict()
    for key, shape, dtype in facts.pop("arrays"):
      end = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
      arrays[key] = np.frombuffer(data[start:end], dtype).reshape(shape)
      start = end
    found[name] = facts, arrays
  return found


if __name__ == "__main__":
  write()
