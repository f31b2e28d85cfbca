# SPDX-License-Identifier: Apache-2.0
"""Mirror padding inside of the convolution."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, List

from bnexport.model import Model
from bnexport.transforms.fusing.fused_convolution import fuse, mirror_paddings


@dataclasses.dataclass(frozen=True)
class FusePadAndConv:
  """A Conv2D of a MirrorPad is one FusedPadConv2D, which copies less.

  Before: x = Placeholder() {shape=[1,?,?,3]}
          p = Const() {value=<int32 [4,2] 0 0 1 1 2 2 0 0>}
          m = MirrorPad(x, p) {mode="REFLECT"}
          y = Conv2D(m, w) {strides=(1, 2, 2, 1), padding="VALID"}
  After:  y = FusedPadConv2D(x, p, w)
              {mode="REFLECT", strides=(1, 2, 2, 1), padding="VALID"}

  Leaves a convolution alone that is dilated, NCHW or explicitly padded; a
  MirrorPad that has another reader or is an end of the model, that pads batch
  or channels, or whose paddings are not constant. The fused op has kernels
  for CPUs only, which are wrong for all images of a batch but the first: it
  is left alone where the batch is not stated to be 1.
  """

  name: ClassVar[str] = "fuse_pad_and_conv"

  def apply(self, model: Model) -> List[str]:
    graph = model.graph

    def inputs(uses, chain):
      conv, pad = chain
      image, weights = graph.data_inputs(pad)[0], graph.data_inputs(conv)[1]
      return [image, mirror_paddings(graph, uses, conv, pad), weights]

    def attrs(chain):
      return {"mode": graph.node(chain[1]).attr["mode"]}

    return fuse(
      model,
      ("Conv2D", "MirrorPad"),
      "FusedPadConv2D",
      inputs,
      attrs,
      "padding and convolution",
    )
