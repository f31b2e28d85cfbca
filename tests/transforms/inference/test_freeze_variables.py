# SPDX-License-Identifier: Apache-2.0
"""Words for variables that a checkpoint does not hold under their names."""

import pytest
from judges.transforming import checkpoint, model_of

from bnexport.errors import SourceError
from bnexport.transforms import table
from bnexport.transforms.inference import freeze_variables

# CudnnRNN's ops need a GPU; these stand for what they do.
PACKED = """
  x = Placeholder() {shape=[?,4]}   packed = VariableV2() {shape=[4]}
  packed/read = Identity(packed)   y = Mul(x, packed/read)
  file = Const() {value=<string "model.ckpt">}
  keys = Const() {value=<string [2] "cell/kernel" "cell/bias">}
  slices = Const() {value=<string [2] "" "">}
  both = RestoreV2(file, keys, slices) {dtypes=(float, float)}
  axis = Const() {value=<int32 0>}   pack = ConcatV2(both, both:1, axis)
  restore = Assign(packed, pack)
"""


def test_what_is_saved_in_parts_is_told(tmp_path):
  saved = checkpoint(tmp_path, {"cell/kernel": [1, 2], "cell/bias": [3, 4]})
  model = model_of(PACKED, saved=saved)
  with pytest.raises(SourceError) as refused:
    table.apply_specs(model, "freeze_variables")
  message = str(refused.value)
  assert "holds it as other tensors, which 'pack' puts together" in message
  assert "--model=FILE.py:FUNCTION" in message


def test_what_is_missing_is_told(tmp_path):
  saved = checkpoint(tmp_path, {"cell/kernel": [1, 2]})
  graph = PACKED.replace("Assign(packed, pack)", "Identity(pack)")
  with pytest.raises(SourceError, match="lacks it.*--missing=initialize"):
    table.apply_specs(model_of(graph, saved=saved), "freeze_variables")


NET = """
  x = Placeholder() {shape=[?,2]}   w = VariableV2() {shape=[2], dtype=TYPE}
  y = Mul(x, w)
"""


@pytest.mark.parametrize("most", [0, 1 << 16])
def test_what_is_saved_as_another_type_is_told(tmp_path, monkeypatch, most):
  """Its bytes are other numbers, also where there are as many of them."""
  monkeypatch.setattr(freeze_variables, "_MOST_ELEMENTS", most)
  saved = checkpoint(tmp_path, {"w": [1, 2]})
  for dtype in ("int32", "float64"):
    model = model_of(NET.replace("TYPE", dtype), saved=saved)
    with pytest.raises(SourceError, match=f"holds {dtype} .*the checkpoint "):
      table.apply_specs(model, "freeze_variables")
  model = model_of(NET.replace("TYPE", "float"), saved=saved)
  table.apply_specs(model, "freeze_variables")
  assert model.array("w").tolist() == [1, 2]
