# SPDX-License-Identifier: Apache-2.0
"""Training inputs that export has to cut: queues, iterators, odd ops.

The input of these cases is an inner tensor of the graph.
"""

import numpy as np
import tensorflow as tf

from tests.zoo import backbones
from tests.zoo.script import BATCH, recipe

SHAPE = [BATCH, 6, 6, 3]


def _layers(training):
  def norm(h, name):
    return tf.layers.batch_normalization(h, training=training, name=name)

  return norm


def _pictures():
  # Few different values: one-shot datasets hold them as a constant.
  values = np.arange(8 * 6 * 6 * 3, dtype=np.float32) % 5 - 2
  return values.reshape([8] + SHAPE[1:])


def _one_picture():
  picture = tf.random_normal(SHAPE[1:], name="picture")
  picture = tf.image.random_flip_left_right(picture)
  return tf.image.random_brightness(picture, 0.2)


def batch_queue(script):
  """tf.train.batch: QueueDequeueManyV2 with a batch known to the graph."""

  def make():
    images, _ = tf.train.batch(
      [_one_picture(), tf.constant(1, name="label")],
      BATCH,
      capacity=20,
      name="batch",
    )
    return images

  x = script.pipeline(make, SHAPE)
  return backbones.conv_net(x, _layers(script.training))


def shuffle_queue(script):
  """tf.train.shuffle_batch, then an identity the network reads."""

  def make():
    images, _ = tf.train.shuffle_batch(
      [_one_picture(), tf.constant(1)], BATCH, capacity=30, min_after_dequeue=10
    )
    return tf.identity(images, "image_batch")

  x = script.pipeline(make, SHAPE)
  return backbones.branch_net(x, _layers(script.phase("phase_train")))


def fifo_queue(script):
  """An explicit FIFOQueue fed by placeholders: facenet's way."""

  def make():
    queue = tf.FIFOQueue(
      50, [tf.string, tf.int64], [[1], [1]], name="input_queue"
    )
    paths = tf.placeholder(tf.string, [None, 1], name="image_paths")
    labels = tf.placeholder(tf.int64, [None, 1], name="label_paths")
    queue.enqueue_many([paths, labels], name="enqueue_op")
    names, label = queue.dequeue()
    picture = tf.decode_raw(tf.read_file(names[0]), tf.float32)
    picture = tf.reshape(picture, SHAPE[1:])
    images, _ = tf.train.batch_join(
      [[picture, label]],
      BATCH,
      shapes=[SHAPE[1:], [1]],
      allow_smaller_final_batch=True,
    )
    return tf.identity(images, "input")

  x = script.pipeline(make, [None] + SHAPE[1:])
  phase = script.phase("phase_train")
  h = tf.contrib.slim.conv2d(
    x,
    4,
    3,
    normalizer_fn=tf.contrib.slim.batch_norm,
    normalizer_params={"is_training": phase, "updates_collections": None},
  )
  h = tf.layers.dense(tf.layers.flatten(h), 4, name="bottleneck")
  h = tf.contrib.slim.batch_norm(
    h, is_training=phase, scope="bn_last", updates_collections=None
  )
  return tf.nn.l2_normalize(h, 1, 1e-10, name="embeddings")


def one_shot_iterator(script):
  """A tf.data one-shot iterator, whose dataset is a function."""

  def make():
    data = tf.data.Dataset.from_tensor_slices(_pictures()).repeat()
    data = data.shuffle(8).batch(BATCH, drop_remainder=True)
    return data.make_one_shot_iterator().get_next()

  x = script.pipeline(make, SHAPE)
  return backbones.conv_net(x, _layers(script.training))


def initializable_iterator(script):
  """An initializable iterator with a py_func and string ops in its map."""

  def make():
    def load(name):
      picture = tf.py_func(
        lambda n: _pictures()[len(n) % 8], [name], tf.float32
      )
      picture.set_shape(SHAPE[1:])
      label = tf.strings.to_number(tf.strings.substr(name, 3, 1))
      return picture, label

    names = tf.placeholder_with_default(
      ["img1", "img2", "img3"], [None], name="file_names"
    )
    data = tf.data.Dataset.from_tensor_slices(names).map(load)
    data = data.repeat().batch(BATCH)
    return data.make_initializable_iterator().get_next()[0]

  x = script.pipeline(make, [None] + SHAPE[1:])
  return backbones.residual_net(x, _layers(script.phase()))


def iterator_and_scaling(script):
  """The cut is behind the pipeline's own arithmetic: a scaled tensor."""

  def make():
    data = tf.data.Dataset.from_tensors(np.zeros(SHAPE, np.uint8)).repeat()
    images = data.make_one_shot_iterator().get_next()
    return tf.divide(
      tf.cast(images, tf.float32) - 128.0, 64.0, name="scaled_images"
    )

  x = script.pipeline(make, SHAPE)
  return backbones.conv_net(x, _layers(script.training))


def contrib_image(script):
  """tf.contrib.image ops in front of the cut; other TFs do not know them."""

  def make():
    raw = tf.placeholder(tf.float32, [None] + SHAPE[1:], name="raw_images")
    angle = tf.random_uniform([tf.shape(raw)[0]], -0.2, 0.2)
    turned = tf.contrib.image.rotate(raw, angle)
    turned = tf.contrib.image.transform(turned, [1, 0, 0.1, 0, 1, 0, 0, 0])
    return tf.identity(turned, name="augmented")

  x = script.pipeline(make, [None] + SHAPE[1:])
  script.feeds.update(_feed(script, "raw_images"))
  return backbones.branch_net(x, _layers(script.phase()))


def _feed(script, name):
  if not script.training:
    return {}
  return {
    tf.get_default_graph().get_tensor_by_name(name + ":0"): np.zeros(
      SHAPE, np.float32
    )
  }


def py_func_summary(script):
  """A plain input; tf.py_func feeds a summary, contrib a metric."""
  x = script.input([None] + SHAPE[1:], "images")
  logits = backbones.conv_net(x, _layers(script.training))
  if script.training:
    drawn = tf.py_func(lambda v: v * 0.5, [logits], tf.float32)
    tf.summary.histogram("logits", tf.reshape(drawn, [-1]))
    tf.summary.image("rotated", tf.contrib.image.rotate(x, 0.1))
    tf.contrib.metrics.streaming_accuracy(
      tf.argmax(logits, 1), tf.zeros_like(tf.argmax(logits, 1))
    )
  return logits


def staging_area(script):
  """A StagingArea between queue and network."""

  def make():
    area = tf.contrib.staging.StagingArea([tf.float32], [SHAPE])
    script.updates.append(area.put([tf.zeros(SHAPE)]))
    return area.get()[0]

  x = script.pipeline(make, SHAPE)
  return backbones.conv_net(x, _layers(script.training))


def reshaped_batch(script):
  """The training batch is baked into a reshape; rows answer together."""

  def make():
    data = tf.data.Dataset.from_tensors(_pictures()[:BATCH]).repeat()
    return data.make_one_shot_iterator().get_next()

  x = script.pipeline(make, SHAPE)
  h = tf.layers.conv2d(x, 4, 3, name="conv")
  h = tf.nn.relu(_layers(script.training)(h, "bn1"))
  h = tf.reshape(h, [BATCH, 64])
  h = tf.layers.dense(h[:, ::4], 5, name="fc")
  h = tf.nn.relu(_layers(script.training)(h, "bn2"))
  h = tf.reshape(h, [BATCH // 2, 10])
  scores = tf.layers.dense(h, 4, name="pair_scores")
  script.losses = [tf.reduce_mean(tf.square(scores))]
  return scores


def switchable_input(script):
  """placeholder_with_default over a queue: no cut is needed.

  The input is a placeholder with a default, which is the pipeline.
  """
  if script.training:
    images = tf.train.batch([_one_picture()], BATCH)
    x = tf.placeholder_with_default(
      images, [None] + SHAPE[1:], name="images_or_feed"
    )
    script.x = x
  else:
    x = script.input([None] + SHAPE[1:])
  return backbones.conv_net(x, _layers(script.training))


RECIPES = (
  recipe("input_batch_queue", batch_queue, cut_input=True),
  recipe("input_shuffle_queue", shuffle_queue, cut_input=True),
  recipe("input_fifo_queue", fifo_queue, cut_input=True),
  recipe("input_one_shot_iterator", one_shot_iterator, cut_input=True),
  recipe(
    "input_initializable_iterator", initializable_iterator, cut_input=True
  ),
  recipe("input_iterator_and_scaling", iterator_and_scaling, cut_input=True),
  recipe("input_contrib_image", contrib_image, cut_input=True),
  recipe("input_py_func_summary", py_func_summary),
  recipe("input_staging_area", staging_area, cut_input=True),
  recipe("input_reshaped_batch", reshaped_batch, cut_input=True, joint=True),
  recipe("input_default_queue", switchable_input, cut_input=True),
)
