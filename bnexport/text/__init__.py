# SPDX-License-Identifier: Apache-2.0
"""Graphs as text: `y = Op(a, b:1, ^c) {attr=value} @"/gpu:0"`.

A text is a list of statements; blanks and line ends between their parts are
free, and `#` starts a comment. Names, ops and keys of other characters than
letters, digits and `_./:?\\-` are quoted. Values of attributes:

  3  -1                    int
  0.5  1e-05  inf  nan     float
  true  false              bool
  float  int32  resource   type, as DataType names it
  "NHWC\\n\\xff"  NHWC       string; capitals need no quotes
  [?,3]  []  ?             shape; the last one's rank is unknown
  <float [3] 1 2 3>        tensor; one without a shape is a scalar
  <float [1000] 0.5>       tensor of one stored value, which it stays
  cond_true{T=float}       function with its attributes
  $T                       placeholder, in the body of a function
  (1, 2)  ()               list of any of these

Attributes that a node leaves out are filled in as bnexport.text.defaults
says. A function of the library:

  function f(x float, n int32) {attr=value} -> (y float = add:z:0, ^c = op) {
    add = Add(x, x)
  }

`graph {complete=true, producer=134, min_consumer=12}` at the beginning states
the versions, and that nothing is to be filled in. What the notation lacks
stands behind a plus, as protobuf's text format writes it:
`y = Op(a) +"experimental_debug_info { ... }"`, `attr=+"..."`. A tensor is
`listed` or `packed` where it keeps its values in another field than is
usual: `<float packed 0.5>`.
"""

from bnexport.text.emitting import Emitter
from bnexport.text.reading import loads
from bnexport.text.writing import dumps

__all__ = ["Emitter", "dumps", "loads"]
