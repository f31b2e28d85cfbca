# SPDX-License-Identifier: Apache-2.0
"""Writes tests/saved/data: what TensorFlow and Keras save models as.

  .venv37/bin/python tests/saved/make.py     slim, layers and keras of TF 1.15
  .venv/bin/python tests/saved/make.py       module, keras3 and tf_keras

Every model was trained for some steps, or has random statistics; truth.npz
holds input and the answers of the TensorFlow that wrote it.
"""

import os
import subprocess
import sys
import tempfile
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf

HERE = os.path.dirname(os.path.abspath(__file__))
_STAMP = (1980, 1, 1, 0, 0, 0)
_SHAPE = [None, 6, 6, 3]


def random(name):
  return np.random.RandomState(sum(map(ord, name)))


def images(name, rows=5):
  return random(name).normal(0.4, 1.2, [rows, 6, 6, 3]).astype(np.float32)


def stored(name, write):
  """Packs what `write`, called with a folder, writes; it returns the truth."""
  with tempfile.TemporaryDirectory() as folder:
    np.savez(os.path.join(folder, "truth.npz"), **write(folder))
    path = os.path.join(HERE, "data", name + ".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
      for where, _, files in sorted(os.walk(folder)):
        for member in sorted(files):
          full = os.path.join(where, member)
          info = zipfile.ZipInfo(os.path.relpath(full, folder), _STAMP)
          info.compress_type = zipfile.ZIP_LZMA
          with open(full, "rb") as f:
            archive.writestr(info, f.read())
    print(name, os.path.getsize(path))


# TF 1.15: checkpoints of training, without the graph.


def slim_net(x, is_training):
  slim = tf.contrib.slim
  norm = dict(is_training=is_training, decay=0.8)
  with tf.variable_scope("net"):
    x = slim.conv2d(
      x,
      4,
      3,
      normalizer_fn=slim.batch_norm,
      normalizer_params=dict(norm, scale=True),
      scope="conv1",
    )
    x = slim.conv2d(
      x,
      6,
      3,
      stride=2,
      normalizer_fn=slim.batch_norm,
      normalizer_params=norm,
      scope="conv2",
    )
    x = tf.reduce_mean(x, [1, 2])
    x = slim.fully_connected(x, 3, activation_fn=None, scope="logits")
  return x, tf.nn.softmax(x)


def layers_net(x, is_training):
  x = tf.layers.conv2d(x, 4, 3, padding="same")
  x = tf.layers.batch_normalization(x, momentum=0.7, training=is_training)
  x = tf.layers.conv2d(tf.nn.relu(x), 5, 3, 2, padding="same", use_bias=False)
  x = tf.layers.batch_normalization(
    x, momentum=0.7, center=False, epsilon=1e-2, training=is_training
  )
  x = tf.layers.dense(tf.reduce_max(tf.nn.relu(x), [1, 2]), 3)
  return x, x


def trained(net, name):
  """Trains a network of TF 1 and saves its checkpoint."""

  def write(folder):
    rng = random(name)
    with tf.Graph().as_default(), tf.Session() as running:
      tf.set_random_seed(7)
      x = tf.placeholder(tf.float32, _SHAPE, "x")
      logits, _ = net(x, True)
      loss = tf.reduce_mean(tf.square(logits - tf.reduce_mean(x, [1, 2])))
      step = tf.train.get_or_create_global_step()
      with tf.control_dependencies(tf.get_collection("update_ops")):
        train = tf.train.AdamOptimizer(0.05).minimize(loss, step)
      running.run(tf.global_variables_initializer())
      for _ in range(12):
        running.run(train, {x: rng.normal(0.7, 1.5, [8, 6, 6, 3])})
      prefix = os.path.join(folder, "model.ckpt")
      tf.train.Saver().save(
        running, prefix, write_meta_graph=False, write_state=False
      )
    with tf.Graph().as_default(), tf.Session() as running:
      x = tf.placeholder(tf.float32, _SHAPE, "x")
      _, answer = net(x, False)
      tf.train.Saver().restore(running, prefix)
      return {"x": images(name), "y": running.run(answer, {x: images(name)})}

  return write


def keras_115(folder):
  """A model of tf.keras in a file, as a SavedModel and as a checkpoint."""
  layers = tf.keras.layers
  image = tf.keras.Input(_SHAPE[1:], name="image")
  h = layers.Conv2D(4, 3, padding="same", name="conv")(image)
  h = layers.BatchNormalization(momentum=0.7, name="norm")(h)
  h = layers.GlobalAveragePooling2D()(layers.ReLU()(h))
  h = layers.BatchNormalization(momentum=0.7, name="head_norm")(h)
  model = tf.keras.Model(image, layers.Dense(3, name="head")(h))
  model.compile("sgd", "mse")
  rng = random("keras")
  model.fit(
    rng.normal(0.7, 1.5, [24, 6, 6, 3]),
    rng.normal(size=[24, 3]),
    batch_size=8,
    epochs=3,
    verbose=0,
  )
  model.save(os.path.join(folder, "model.h5"), include_optimizer=False)
  model.save(
    os.path.join(folder, "saved"), save_format="tf", include_optimizer=False
  )
  model.save_weights(os.path.join(folder, "weights"), save_format="tf")
  model.save_weights(os.path.join(folder, "weights.h5"))
  return {"image": images("keras"), "head": model.predict(images("keras"))}


# The newest TensorFlow.


def two_ended(keras, training):
  """A nested model with two inputs and two outputs."""
  layers = keras.layers
  inner = keras.Sequential(
    [
      keras.Input((6, 6, 3)),
      layers.Conv2D(4, 3),
      layers.BatchNormalization(name="norm"),
    ],
    name="inner",
  )
  image = keras.Input((6, 6, 3), name="image")
  extra = keras.Input((2,), name="extra")
  h = layers.ReLU()(inner(image))
  h = layers.BatchNormalization(name="hot")(h, training=training)
  h = layers.GlobalAveragePooling2D()(h)
  h = layers.Concatenate()([h, extra])
  h = layers.Dropout(0.5)(h)
  return keras.Model(
    [image, extra],
    [
      layers.Dense(3, name="head")(h),
      layers.Dense(2, activation="sigmoid", name="score")(h),
    ],
  )


def recurrent(keras):
  """A recurrent model, in a file alone."""
  layers = keras.layers
  model = keras.Sequential(
    [
      keras.Input((6, 5), name="steps"),
      layers.GRU(4, return_sequences=True),
      layers.BatchNormalization(),
      layers.LSTM(3),
      layers.Dense(2, name="head"),
    ]
  )
  rng = random("recurrent")
  model.set_weights([0.2 + rng.rand(*w.shape) for w in model.get_weights()])
  return model


def keras_2(keras):
  """A model with a norm that was called with training=True, in three forms."""

  def write(folder):
    recurrent(keras).save(os.path.join(folder, "recurrent.keras"))
    model = two_ended(keras, True)
    rng = random("keras_2")
    weights = [0.2 + rng.rand(*w.shape) for w in model.get_weights()]
    model.set_weights(weights)
    model.save(os.path.join(folder, "model.keras"))
    model.save(os.path.join(folder, "model.h5"))
    saved = os.path.join(folder, "saved")
    if keras.__version__.startswith("3"):
      model.export(saved, verbose=False)
    else:
      model.save(saved, save_format="tf")
    meant = two_ended(keras, None)
    meant.set_weights(weights)
    fed = [images("keras_2"), rng.rand(5, 2).astype(np.float32)]
    answers = meant(fed, training=False)
    return {
      "image": fed[0],
      "extra": fed[1],
      "head": np.asarray(answers[0]),
      "score": np.asarray(answers[1]),
    }

  return write


class Norm(tf.Module):
  """Batch norm by hand, for inference, training or a phase."""

  def __init__(self, channels, rng):
    super().__init__()

    def variable(name, value):
      return tf.Variable(value.astype(np.float32), name=name)

    self.scale = variable("gamma", 0.5 + rng.rand(channels))
    self.offset = variable("beta", rng.normal(size=channels))
    # All of these have the same name: only the functions that save them tell.
    self.a = variable("average", rng.normal(size=channels))
    self.b = variable("average", 0.5 + rng.rand(channels))

  def __call__(self, x, training):
    def batch():
      y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        x, self.scale, self.offset, epsilon=1e-3, is_training=True
      )
      self.a.assign_sub(0.1 * (self.a - mean))
      self.b.assign_sub(0.1 * (self.b - variance))
      return y

    def average():
      return tf.compat.v1.nn.fused_batch_norm(
        x,
        self.scale,
        self.offset,
        self.a,
        self.b,
        epsilon=1e-3,
        is_training=False,
      )[0]

    if isinstance(training, bool):
      return batch() if training else average()
    return tf.cond(training, batch, average)


def module(folder):
  """A tf.Module with a signature for each way to call it."""
  rng = random("module")
  net = tf.Module()
  net.norms = [Norm(3, rng), Norm(3, rng)]
  net.weights = tf.Variable(rng.normal(size=[3, 2]).astype(np.float32))
  words = os.path.join(folder, "words.txt")
  with open(words, "w") as f:
    f.write("cat\ndog\r\nbird\n")
  net.names = tf.lookup.StaticHashTable(
    tf.lookup.TextFileInitializer(
      words,
      tf.int64,
      tf.lookup.TextFileIndex.LINE_NUMBER,
      tf.string,
      tf.lookup.TextFileIndex.WHOLE_LINE,
    ),
    "none",
  )
  net.costs = tf.lookup.StaticHashTable(
    tf.lookup.KeyValueTensorInitializer(["cat", "dog"], [2.5, -1.0]), 0.0
  )
  net.counts = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)

  def forward(x, training):
    for norm in net.norms:
      x = norm(x, training)
    return tf.matmul(tf.reduce_mean(tf.nn.relu(x), [1, 2]), net.weights)

  fed = images("module")
  gaps = np.sort(np.diff(forward(fed, False).numpy(), axis=1)[:, 0])
  # So that rows differ in their largest logit.
  net.shift = tf.constant([(gaps[1] + gaps[2]) / 2, 0.0])

  def named(x):
    logits = forward(x, False) + net.shift
    name = net.names.lookup(tf.argmax(logits, -1))
    return {"name": name, "cost": net.costs.lookup(name), "logits": logits}

  x = tf.TensorSpec(_SHAPE, name="x")
  phase = tf.TensorSpec([], tf.bool, "training")
  signatures = {
    "serving_default": tf.function(
      lambda x: {"logits": forward(x, False)}, [x]
    ),
    "train": tf.function(lambda x: {"logits": forward(x, True)}, [x]),
    "phase": tf.function(
      lambda x, training: {"logits": forward(x, training)}, [x, phase]
    ),
    "named": tf.function(named, [x]),
    "counted": tf.function(
      lambda x: {"count": net.counts.lookup(tf.argmax(forward(x, False), -1))},
      [x],
    ),
  }
  net.functions = signatures
  truth = {key: value.numpy() for key, value in named(fed).items()}
  truth["name"] = np.array([n.decode() for n in truth["name"]])
  truth = dict(truth, x=fed, shift=net.shift.numpy())
  saved = os.path.join(folder, "saved")
  tf.saved_model.save(net, saved, signatures)
  os.remove(words)
  return truth


def main():
  if tf.__version__.startswith("1."):
    if sys.argv[1:] == ["keras"]:
      tf.compat.v1.enable_v2_behavior()  # model.save writes SavedModels then
      stored("keras", keras_115)
      return
    stored("slim", trained(slim_net, "slim"))
    stored("layers", trained(layers_net, "layers"))
    subprocess.check_call([sys.executable, __file__, "keras"])
    return
  import keras
  import tf_keras

  stored("module", module)
  stored("keras3", keras_2(keras))
  stored("tf_keras", keras_2(tf_keras))


if __name__ == "__main__":
  main()
