# SPDX-License-Identifier: Apache-2.0
"""Resizing and mirror padding inside of the convolution."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.analysis.shapes import flag
from bnexport.graph.nodes import bool_attr
from bnexport.model import Model
from bnexport.transforms.fusing.fused_convolution import fuse, mirror_paddings


@dataclasses.dataclass(frozen=True)
class FuseResizePadAndConv:
  """A Conv2D of a MirrorPad of a ResizeBilinear is one op.

  Before: x = Placeholder() {shape=[1,?,?,3]}
          p = Const() {value=<int32 [4,2] 0 0 1 1 2 2 0 0>}
          r = ResizeBilinear(x, size) {align_corners=true}
          m = MirrorPad(r, p) {mode="SYMMETRIC"}
          y = Conv2D(m, w) {strides=(1, 1, 1, 1), padding="SAME"}
  After:  y = FusedResizeAndPadConv2D(x, size, p, w)
              {resize_align_corners=true, mode="SYMMETRIC",
               strides=(1, 1, 1, 1), padding="SAME"}

  Leaves alone what fuse_pad_and_conv does, and a ResizeBilinear that has
  half_pixel_centers, another reader or another input than float. The fused op
  has kernels for CPUs only, which are wrong for all images of a batch but the
  first: it is left alone where the batch is not stated to be 1.
  """

  name: ClassVar[str] = "fuse_resize_pad_and_conv"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph

    def inputs(uses, chain):
      conv, pad, resize = chain
      return graph.data_inputs(resize) + [
        mirror_paddings(graph, uses, conv, pad),
        graph.data_inputs(conv)[1],
      ]

    def attrs(chain):
      _, pad, resize = chain
      corners = bool(flag(graph.node(resize), "align_corners"))
      return {
        "resize_align_corners": bool_attr(corners),
        "mode": graph.node(pad).attr["mode"],
      }

    return fuse(
      model,
      ("Conv2D", "MirrorPad", "ResizeBilinear"),
      "FusedResizeAndPadConv2D",
      inputs,
      attrs,
      "resizing, padding and convolution",
    )
