# SPDX-License-Identifier: Apache-2.0
"""Resizing inside of the convolution."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

import numpy as np

from bnexport.analysis.shapes import flag
from bnexport.graph.nodes import bool_attr, constant
from bnexport.model import Model
from bnexport.tf1 import tf1
from bnexport.transforms.fusing.fused_convolution import fuse


@dataclasses.dataclass(frozen=True)
class FuseResizeAndConv:
  """A Conv2D of a ResizeBilinear is one op, which pads by nothing.

  Before: x = Placeholder() {shape=[1,?,?,3]}
          r = ResizeBilinear(x, size) {align_corners=true}
          y = Conv2D(r, w) {strides=(1, 1, 1, 1), padding="SAME"}
  After:  y = FusedResizeAndPadConv2D(x, size, y_dummy_paddings, w)
              {resize_align_corners=true, mode="REFLECT",
               strides=(1, 1, 1, 1), padding="SAME"}
          y_dummy_paddings = Const()
              {value=<int32 [4,2] 0 0 0 0 0 0 0 0>}

  Leaves a convolution alone that is dilated, NCHW or explicitly padded, and a
  ResizeBilinear that has half_pixel_centers, another reader or another input
  than float. The fused op has kernels for CPUs only, which are wrong for all
  images of a batch but the first: it is left alone where the batch is not
  stated to be 1.
  """

  name: ClassVar[str] = "fuse_resize_and_conv"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph

    def inputs(uses, chain):
      conv, resize = chain
      image, size = graph.data_inputs(resize)
      paddings = constant(
        graph,
        conv + "_dummy_paddings",
        np.zeros((4, 2), np.int32),
        control=uses.beside(image),
      )
      return [image, size, paddings, graph.data_inputs(conv)[1]]

    def attrs(chain):
      corners = bool(flag(graph.node(chain[1]), "align_corners"))
      return {
        "resize_align_corners": bool_attr(corners),
        "mode": tf1.AttrValue(s=b"REFLECT"),
      }

    return fuse(
      model,
      ("Conv2D", "ResizeBilinear"),
      "FusedResizeAndPadConv2D",
      inputs,
      attrs,
      "resizing and convolution",
    )
