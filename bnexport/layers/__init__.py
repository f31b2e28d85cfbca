# SPDX-License-Identifier: Apache-2.0
"""Batch norm for model code: the same variables in training and in export.

`batch_normalization` stands in for `tf.layers.batch_normalization` and
`batch_norm` for `tf.contrib.layers.batch_norm` and slim's. Both need neither
Keras nor tf.contrib, and run on TF 1.15 to the newest: they take the arguments
of TF 1.15, make variables of the same names, shapes and dtypes, so checkpoints
restore unchanged, and compute the same outputs, gradients and averages.
"""

from bnexport.layers.contrib import batch_norm
from bnexport.layers.parameters import LayerError
from bnexport.layers.tf_layers import batch_normalization

__all__ = ["LayerError", "batch_norm", "batch_normalization"]
