# SPDX-License-Identifier: Apache-2.0
"""tf.keras.layers.BatchNormalization in graph mode."""

import tensorflow as tf

from tests.zoo.script import recipe

layers = tf.keras.layers
K = tf.keras.backend


def _learning_phase(script):
  """Sets the phase of the rebuild; the training script's is fed."""
  if script.training:
    phase = K.learning_phase()
    script.feeds[phase], script.decided[phase] = True, False
    script.switch = phase.op.name
  else:
    K.set_learning_phase(0)


def functional(script):
  """A functional model; updates come from model.updates."""
  _learning_phase(script)
  inputs = layers.Input([6, 6, 3], name="image")
  h = layers.Conv2D(4, 3, use_bias=False)(inputs)
  h = layers.ReLU(6.0)(layers.BatchNormalization()(h))
  h = layers.Conv2D(4, 3, padding="same")(h)
  h = layers.Activation("relu")(layers.BatchNormalization()(h))
  h = layers.GlobalAveragePooling2D()(h)
  outputs = layers.Dense(5, activation="softmax", name="predictions")(h)
  return _finish(script, tf.keras.Model(inputs, outputs))


def _finish(script, model):
  script.x = model.inputs[0]
  script.updates += model.updates
  return model.outputs[0]


def sequential_dense(script):
  """Sequential, rank 2: unfused norms, dropout beside them."""
  _learning_phase(script)
  model = tf.keras.Sequential(
    [
      layers.Dense(7, input_shape=[9]),
      layers.BatchNormalization(momentum=0.9, epsilon=1e-4),
      layers.Activation("elu"),
      layers.Dropout(0.4),
      layers.Dense(6, use_bias=False),
      layers.BatchNormalization(scale=False),
      layers.Activation("tanh"),
      layers.Dense(4),
    ]
  )
  return _finish(script, model)


def dropout_and_noise(script):
  """Dropout, SpatialDropout and GaussianNoise, which only train."""
  _learning_phase(script)
  inputs = layers.Input([6, 6, 3])
  h = layers.GaussianNoise(0.3)(inputs)
  h = layers.Conv2D(4, 3)(h)
  h = layers.LeakyReLU(0.2)(layers.BatchNormalization(fused=False)(h))
  h = layers.SpatialDropout2D(0.3)(h)
  h = layers.BatchNormalization(center=False)(layers.SeparableConv2D(4, 3)(h))
  h = layers.Dropout(0.5)(layers.Flatten()(h))
  return _finish(script, tf.keras.Model(inputs, layers.Dense(4)(h)))


def training_true(script):
  """The layer called with training=True: no learning phase at all."""
  x = script.input([None, 6, 6, 3])
  h = layers.Conv2D(4, 3, name="conv")(x)
  for name in ("norm_a", "norm_b"):
    norm = layers.BatchNormalization(name=name)
    h = tf.nn.relu(norm(h, training=script.training))
    script.updates += norm.updates
    h = layers.Conv2D(4, 2, name=name + "_conv")(h)
  return layers.Dense(4, name="out")(tf.reduce_mean(h, [1, 2]))


def placeholder(script):
  """The layers called with a placeholder of the user's own."""
  x = script.input([None, 6, 6, 3])
  phase = script.phase("train_ph")
  h = layers.Conv2D(4, 3, name="conv")(x)
  norms = [
    layers.BatchNormalization(name="bn0"),
    layers.BatchNormalization(name="bn1", fused=False),
  ]
  h = tf.nn.relu(norms[0](h, training=phase))
  h = layers.DepthwiseConv2D(3, name="dw")(h)
  h = tf.nn.relu(norms[1](h, training=phase))
  script.updates += norms[0].updates + norms[1].updates
  return layers.Dense(4, name="out")(layers.Flatten()(h))


def learning_phase_true(script):
  """K.set_learning_phase(1) in the training script: a literal."""
  K.set_learning_phase(1 if script.training else 0)
  inputs = layers.Input([6, 6, 3])
  h = layers.Conv2D(4, 3, activation="relu")(inputs)
  h = layers.BatchNormalization()(h)
  h = layers.Conv2DTranspose(3, 2, strides=2)(h)
  h = layers.Activation("relu")(layers.BatchNormalization()(h))
  h = layers.Dropout(0.2)(h)
  h = layers.Conv2D(1, 3, activation="sigmoid", name="mask")(h)
  return _finish(script, tf.keras.Model(inputs, h))


def frozen_layer(script):
  """One layer with trainable=False, which in TF 1 still uses the batch."""
  _learning_phase(script)
  inputs = layers.Input([9])
  h = layers.Dense(6, name="fc")(inputs)
  h = layers.BatchNormalization(trainable=False, name="frozen")(h)
  h = layers.Dense(5, activation="tanh")(h)
  h = layers.BatchNormalization(name="live")(h)
  return _finish(
    script, tf.keras.Model(inputs, layers.Dense(3, activation="softmax")(h))
  )


def time_distributed(script):
  """TimeDistributed around a norm, an unrolled RNN after it."""
  _learning_phase(script)
  inputs = layers.Input([2, 5, 2])
  h = layers.TimeDistributed(layers.Conv1D(3, 3, name="conv"))(inputs)
  h = layers.BatchNormalization(name="bn")(h)
  h = layers.TimeDistributed(layers.GlobalMaxPooling1D())(h)
  h = layers.Activation("relu")(layers.BatchNormalization(name="bn2")(h))
  h = layers.SimpleRNN(4, unroll=True, name="rnn")(h)
  return _finish(script, tf.keras.Model(inputs, layers.Dense(3)(h)))


def subclassed(script):
  """A subclassed model called with training=True."""

  class Block(tf.keras.Model):
    def __init__(self):
      super(Block, self).__init__(name="block")
      self.fc1 = layers.Dense(6)
      self.bn1 = layers.BatchNormalization()
      self.fc2 = layers.Dense(5)
      self.bn2 = layers.BatchNormalization()
      self.out = layers.Dense(3)

    def call(self, inputs, training=None):
      h = tf.nn.relu(self.bn1(self.fc1(inputs), training=training))
      h = tf.nn.relu(self.bn2(self.fc2(h), training=training))
      return self.out(h)

  x = script.input([None, 9])
  model = Block()
  outputs = model(x, training=script.training)
  script.updates += model.updates
  return tf.identity(outputs, name="outputs")


RECIPES = (
  recipe("keras_functional", functional, kind="keras"),
  recipe("keras_sequential_dense", sequential_dense, kind="keras"),
  recipe("keras_dropout_and_noise", dropout_and_noise, kind="keras"),
  recipe("keras_training_true", training_true),
  recipe("keras_placeholder", placeholder),
  recipe("keras_learning_phase_true", learning_phase_true),
  recipe("keras_frozen_layer", frozen_layer, kind="keras"),
  recipe("keras_time_distributed", time_distributed, kind="keras"),
  recipe("keras_subclassed", subclassed),
)
