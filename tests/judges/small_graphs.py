# SPDX-License-Identifier: Apache-2.0
"""Small graphs, from `x` to `y`, on which transforms are put to the test."""

from __future__ import annotations

import dataclasses
from typing import Dict, Optional

import numpy as np

from bnexport import text
from bnexport.graph import Graph, TensorRef
from bnexport.graph.nodes import static_shape


@dataclasses.dataclass(frozen=True)
class Small:
  """A graph, and what it has to answer.

  Attributes:
    graph: in the project's notation.
    values: what the checkpoint holds, by key.
    same: a graph that gives the answer, where `graph` itself does not: it is
      random, needs a phase, or TensorFlow does not run it.
  """

  graph: str
  values: Dict[str, object] = dataclasses.field(default_factory=dict)
  same: Optional[str] = None

  def feed(self):
    """A value for `x`: -2, -1, 0, 1, 2, 3, 4 and so on, over and over again."""
    shape = static_shape(Graph(text.loads(self.graph)), TensorRef("x"))
    shape = [abs(size) for size in shape]
    size = int(np.prod(shape))
    return (np.arange(size) % 7 - 2).astype(np.float32).reshape(shape)


def _numbers(*shape):
  """A tensor in the notation; no two of its numbers are the same."""
  count = int(np.prod(shape))
  numbers = " ".join(f"{v:.6f}" for v in np.sin(np.arange(1, count + 1)))
  return f"<float [{','.join(map(str, shape))}] {numbers}>"


_RELU = "x = Placeholder() {shape=[2,3]}   y = Relu(x)"
_X = "x = Placeholder() {shape=[2,3]}   y = Identity(x)"
_NORM = """
  x = Placeholder() {shape=[2,3,3,2]}   none = Const() {value=<float [0]>}
  g = Const() {value=<float [2] 1.5 0.5>}   b = Const() {value=<float [2] 0 1>}
"""
_INFERENCE = (
  _NORM
  + """
  m = Const() {value=<float [2] 1 -1>}   v = Const() {value=<float [2] 4 9>}
  n = FusedBatchNorm(x, g, b, m, v) {is_training=false}   y = Relu(n)
"""
)
_KERNEL = _numbers(3, 3, 2, 4)

# Models that every transform meets.
SMALL = {
  "functions": Small("""
    graph {producer=134}
    x = Placeholder() {shape=[2,3]}
    c = Const() {value=<float [3] 1 2 3>}   d = Const() {value=<float 2>}
    m = Mul(c, d) {_a=1}
    a = PartitionedCall(x, m) {Tin=(float, float), Tout=(float), f=f{}}
    i = Identity(a) @"/device:CPU:0"
    y = Relu(i)
    function f(x float, s float) -> (z float = r:output:0) {
      p = Mul(x, s)
      r = Identity(p:z:0)
    }
    function unused(x float) -> (z float = x) {}
  """),
  "arrays": Small("""
    graph {producer=134}
    x = Placeholder() {shape=[2,3]}
    n = Const() {value=<int32 2>}   i = Const() {value=<int32 0>}
    j = Const() {value=<int32 1>}   r = Const() {value=<int32 [2] 0 1>}
    t = TensorArrayV3(n) {dtype=float}
    u = TensorArrayWriteV3(t, i, x, t:1)   v = TensorArrayWriteV3(t, j, x, u)
    g = TensorArrayGatherV3(t, r, v) {dtype=float, element_shape=[2,3]}
    axis = Const() {value=<int32 0>}
    y = ConcatV2(g, g, axis)
  """),
  "convolutions": Small(f"""
    graph {{producer=134}}
    x = Placeholder() {{shape=[1,6,6,2]}}   k = Const() {{value={_KERNEL}}}
    p = Const() {{value=<int32 [4,2] 0 0 1 1 2 2 0 0>}}
    size = Const() {{value=<int32 [2] 9 9>}}
    a = MirrorPad(x, p) {{mode=REFLECT}}
    b = Conv2D(a, k) {{strides=(1, 2, 1, 1), padding=VALID}}
    c = ResizeBilinear(x, size) {{align_corners=true}}
    d = Conv2D(c, k) {{strides=(1, 1, 1, 1), padding=SAME}}
    e = ResizeBilinear(x, size)
    f = MirrorPad(e, p) {{mode=SYMMETRIC}}
    g = Conv2D(f, k) {{strides=(1, 1, 1, 1), padding=SAME}}
    block = Const() {{value=<int32 [2] 2 2>}}
    pads = Const() {{value=<int32 [2,2] 2 2 2 2>}}
    crops = Const() {{value=<int32 [2,2] 0 0 0 0>}}
    h = SpaceToBatchND(x, block, pads)
    i = Conv2D(h, k) {{strides=(1, 1, 1, 1), padding=VALID}}
    j = BatchToSpaceND(i, block, crops)
    axes = Const() {{value=<int32 [2] 1 2>}}
    l = Mean(b, axes)   m = Mean(d, axes)   n = Mean(g, axes)   o = Mean(j, axes)
    y = AddN(l, m, n, o)
  """),
  "weights": Small(f"""
    graph {{producer=134}}
    x = Placeholder() {{shape=[2,3]}}   w = Const() {{value={_numbers(3, 400)}}}
    t = Const() {{value=<float [4,1] 0 2 0 3>}}
    least = Const() {{value=<float 0>}}   most = Const() {{value=<float 3>}}
    a = Maximum(x, least)   b = Minimum(a, most)   i = Cast(b) {{DstT=int64}}
    g = Gather(t, i) {{Tindices=int64}}   s = Squeeze(g) {{squeeze_dims=(2)}}
    y = MatMul(s, w)
  """),
  "waiting": Small("""
    graph {producer=134}
    x = Placeholder() {shape=[2,3]}   c = Const() {value=<bool true>}
    a = Assert(c, x) {T=(float)}
    y = Relu(x, ^a)
  """),
  "inner input": Small("""
    graph {producer=134}
    w = Placeholder() {shape=[?,3]}
    x = Neg(w) {_output_shapes=([?,3])}
    y = Relu(x)
  """),
}

# Models of training, malformed, or told of by name: each for one transform.
OWN = {
  "decide": Small(
    _NORM
    + """
      m = Const() {value=<float [2] 1 -1>}   v = Const() {value=<float [2] 4 9>}
      p = Placeholder() {shape=[], dtype=bool}   s = Switch(x, p)
      a = FusedBatchNorm(s, g, b, m, v) {is_training=false}
      t = FusedBatchNorm(s:1, g, b, none, none) {is_training=true}
      n = Merge(a, t)   y = Relu(n)
    """,
    same=_INFERENCE,
  ),
  "use_stored_statistics": Small(
    _NORM
    + """
      mm = VariableV2() {shape=[2]}   mv = VariableV2() {shape=[2]}
      n = FusedBatchNorm(x, g, b, none, none) {is_training=true}
      a = Assign(mm, n:1)   c = Assign(mv, n:2)
      y = Relu(n)
    """,
    values={"mm": [1, -1], "mv": [4, 9]},
    same=_INFERENCE,
  ),
  "leave_loops": Small(
    """
      x = Placeholder() {shape=[2,3]}   w = Const() {value=<float [3] 1 2 3>}
      i = Const() {value=<int32 0>}   n = Const() {value=<int32 9>}
      e = Enter(i) {frame_name="f"}   m = Merge(e, next)
      c = Enter(n) {frame_name="f", is_constant=true}
      less = Less(m, c)   loop = LoopCond(less)   s = Switch(m, loop)
      one = Const(^m) {value=<int32 1>}   more = Add(s:1, one)
      next = NextIteration(more)
      k = Enter(w) {frame_name="f", is_constant=true}   y = Mul(x, k)
    """,
    same="""
      x = Placeholder() {shape=[2,3]}   w = Const() {value=<float [3] 1 2 3>}
      y = Mul(x, w)
    """,
  ),
  "use_one_replica": Small(
    """
      x = Placeholder() {shape=[2,3]}
      r = TPUReplicatedInput(x) {T=float}
      g = Const() {value=<int32 [1,2] 0 1>}
      s = CrossReplicaSum(r, g) {T=float}
      y = TPUReplicatedOutput(s) {T=float, num_replicas=2}
    """,
    same="""
      x = Placeholder() {shape=[2,3]}   two = Const() {value=<float 2>}
      y = Mul(x, two)
    """,
  ),
  "separate_loops": Small(
    """
      x = Placeholder() {shape=[2,3]}   one = Const() {value=<float 1>}
      o = Const() {value=<float 0>}
      a = Enter(o) {frame_name="f"}     b = Merge(a, d)
      l = Enter(one) {frame_name="f", is_constant=true}
      k = Less(b, l)   p = LoopCond(k)   c = Switch(b, p)
      u = Add(c:1, l)   d = NextIteration(u)   e = Exit(c)
      g = Enter(e) {frame_name="f"}     h = Merge(g, j)
      w = Enter(e) {frame_name="f", is_constant=true}
      v = Less(h, w)   q = LoopCond(v)   i = Switch(h, q)
      j = NextIteration(i:1)   z = Exit(i)
      y = Mul(x, z)
    """,
    same=_X,
  ),
  "use_stored_ranges": Small(
    """
      x = Placeholder() {shape=[2,3]}
      mn = VariableV2() {shape=[]}   lo = Const() {value=<float -9>}
      mx = VariableV2() {shape=[]}   hi = Const() {value=<float 9>}
      a = Assign(mn, lo)   b = Assign(mx, hi)
      y = FakeQuantWithMinMaxVars(x, a, b)
    """,
    values={"mn": -1.0, "mx": 2.0},
    same="""
      x = Placeholder() {shape=[2,3]}
      lo = Const() {value=<float -1>}   hi = Const() {value=<float 2>}
      y = FakeQuantWithMinMaxVars(x, lo, hi)
    """,
  ),
  "fold_views": Small(
    """
      x = Placeholder() {shape=[2,3]}
      a = Const() {value=<float [3] 4 9 -1>}
      s = Const() {value=<int32 [2] 1 3>}   r = Reshape(a, s)
      q = Squeeze(r)   m = Mul(x, r)   y = Add(m, q)
    """
  ),
  "fuse_batch_norms": Small(
    """
      x = Placeholder() {shape=[2,3,3,2]}
      m = Const() {value=<float [2] 1 -2>}   v = Const() {value=<float [2] 4 9>}
      e = Const() {value=<float 0.01>}   s = Add(v, e)   r = Rsqrt(s)
      c = Sub(x, m)   y = Mul(c, r)
    """
  ),
  "remove_neutral_arithmetic": Small(
    """
      x = Placeholder() {shape=[2,3]}
      v = Const() {value=<float [3] 4 5 6>}   o = Const() {value=<float [3] 0>}
      s = RealDiv(v, v)   m = Mul(s, x)   a = Add(m, o)   y = Relu(a)
    """,
    same=_RELU,
  ),
  "restore_updates": Small(
    """
      x = Placeholder() {shape=[2,3,3,2]}   none = Const() {value=<float [0]>}
      gamma = Const() {value=<float [2] 1.5 0.5>}
      beta = Const() {value=<float [2] 0 1>}
      n = FusedBatchNorm(x, gamma, beta, none, none) {is_training=true}
      y = Relu(n)
    """,
    values={
      "gamma": [1.5, 0.5],
      "moving_mean": [1, -1],
      "moving_variance": [4, 9],
    },
  ),
  "remove_dropout": Small(
    """
      x = Placeholder() {shape=[2,3]}   keep = Const() {value=<float 0.5>}
      n = Shape(x)   u = RandomUniform(n)   a = Add(u, keep)   m = Floor(a)
      d = RealDiv(x, keep)   e = Mul(d, m)   y = Relu(e)
    """,
    same=_RELU,
  ),
  "remove_noise": Small(
    """
      x = Placeholder() {shape=[2,3]}   s = Const() {value=<float 0.5>}
      n = Shape(x)   r = RandomStandardNormal(n)   m = Mul(r, s)
      a = AddV2(x, m)   y = Relu(a)
    """,
    same=_RELU,
  ),
  "use_written_values": Small(
    """
      x = Placeholder() {shape=[2,3]}   v = VariableV2() {shape=[3]}
      d = Const() {value=<float [3] 1 2 3>}
      u = AssignAdd(v, d)   y = Mul(x, u)
    """,
    values={"v": [4, 5, 6]},
  ),
  "read_variables": Small(
    """
      x = Placeholder() {shape=[2,3]}   p = Const() {value=<bool true>}
      v = VariableV2() {shape=[3]}   s = RefSwitch(v, p)   i = Identity(s:1)
      h = VarHandleOp() {shape=[3], dtype=float, shared_name="h"}
      r = ReadVariableOp(h) {dtype=float}
      a = Add(i, r)   y = Mul(x, a)
    """,
    values={"v": [4, 5, 6], "h": [1, 2, 3]},
  ),
  "freeze_variables": Small(
    """
      x = Placeholder() {shape=[2,3]}
      v = VariableV2() {shape=[3]}   i = Identity(v)
      h = VarHandleOp() {shape=[3], dtype=float, shared_name="h"}
      r = ReadVariableOp(h) {dtype=float}
      a = Add(i, r)   y = Mul(x, a)
    """,
    values={"v": [4, 5, 6], "h": [1, 2, 3]},
  ),
  "use_moving_averages": Small(
    """
      x = Placeholder() {shape=[2,3]}   c = Const() {value=<float 0.1>}
      v = VariableV2() {shape=[3]}   i = Identity(v)
      e = VariableV2() {shape=[3]}   j = Identity(e)
      d = Sub(j, i)   m = Mul(d, c)   u = AssignSub(e, m)
      y = Mul(x, i)
    """,
    values={"v": [4, 5, 6], "e": [1, 2, 3]},
    same="""
      x = Placeholder() {shape=[2,3]}   v = Const() {value=<float [3] 1 2 3>}
      y = Mul(x, v)
    """,
  ),
  "thaw_variables": Small(
    """
      x = Placeholder() {shape=[2,3]}   v = Const() {value=<float [3] 1 2 3>}
      d = Const() {value=<float [3] 4 5 6>}
      u = AssignSub(v, d)   y = Relu(x, ^u)
    """,
    same=_RELU,
  ),
  "convert_layout": Small(
    f"""
      x = Placeholder() {{shape=[2,2,4,4]}}   k = Const() {{value={_KERNEL}}}
      c = Conv2D(x, k)
          {{data_format=NCHW, strides=(1, 1, 1, 1), padding=SAME}}
      axes = Const() {{value=<int32 [2] 2 3>}}
      r = Relu(c)   y = Mean(r, axes)
    """,
    same=f"""
      x = Placeholder() {{shape=[2,2,4,4]}}   k = Const() {{value={_KERNEL}}}
      last = Const() {{value=<int32 [4] 0 2 3 1>}}   t = Transpose(x, last)
      c = Conv2D(t, k) {{strides=(1, 1, 1, 1), padding=SAME}}
      axes = Const() {{value=<int32 [2] 1 2>}}
      r = Relu(c)   y = Mean(r, axes)
    """,
  ),
  "freeze_requantization_ranges": Small(
    """
      x = Placeholder() {shape=[2,3]}
      a = Const() {value=<float -8>}   b = Const() {value=<float 8>}
      q = QuantizeV2(x, a, b) {T=qint32}
      r = RequantizationRange(q, q:1, q:2)
      z = Requantize(q, q:1, q:2, r, r:1) {out_type=quint8}
      y = Dequantize(z, z:1, z:2) {mode=MIN_FIRST}
    """
  ),
  "rename_node": Small("""
    x = Placeholder() {shape=[2,3]}   m = Neg(x)   y = Relu(m)
  """),
}
