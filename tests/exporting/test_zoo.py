# SPDX-License-Identifier: Apache-2.0
"""Every case of the zoo is exported right, or refused."""

import numpy as np
import pytest
import zoo
from judges import opening
from judges.exporting import assert_answers, assert_close, export
from judges.transforming import clone

from bnexport.batchnorm.forms import find
from bnexport.errors import Error
from bnexport.exporting.export import export as export_model
from bnexport.proof import comparison
from bnexport.transforms.folding.fold_batch_norms import FoldBatchNorms

# Exported as the rebuilt model answers, with a word about the averages.
_WARNED = ("warn_never_updated", "warn_variance_zero", "keep_gan_generator")

# Why a right export is not proven here.
_NOT_PROVEN = {
  # Python's functions are not in the file, so the graph can't be run.
  "anywhere_from_python": "there is no reference",
}

# Norms before and after folding, where anything else would be a loss.
_FOLDED = {
  "contrib_fused_literal": (2, 0),
  "contrib_siamese_phase": (4, 0),
  "formula_divide_sqrt": (2, 0),
  "keras_functional": (2, 0),
  "layers_nchw_literal": (2, 0),
  "layers_renorm_literal": (3, 1),
  "layers_volume_literal": (2, 0),
  "net_mobile": (4, 0),
}


@pytest.mark.part(1, oldest=4)
@pytest.mark.parametrize(
  "name", [name for name in zoo.names() if not name.startswith("refuse_")]
)
def test_export(cases, exports, name):
  case, exported = cases(name), exports(name)
  assert_answers(case, exported)
  proof = comparison.prove(
    exported.to_graph_def(),
    exported.model.outputs,
    exported.reference,
    keeps_batch=exported.keeps_batch,
  )
  if name in _NOT_PROVEN:
    assert (proof.verdict, proof.missing) == (
      comparison.NOT_PROVEN,
      _NOT_PROVEN[name],
    )
  else:
    assert proof.holds, proof
  if name in _WARNED:
    assert exported.model.warnings
  _assert_folded(name, exported)


def _assert_folded(name, exported):
  """Each norm that is gone was folded, and nothing is left to be folded."""
  model, before = exported.model, len(exported.norms)
  after = len(find(model.graph, model.outputs))
  folded = [line for line in model.history if line.startswith("folded")]
  assert len(folded) >= before - after
  assert (before, after) == _FOLDED.get(name, (before, after))
  again = clone(model)
  lines = FoldBatchNorms().apply(again)
  assert not [line for line in lines if line.startswith("folded")]
  assert again.graph.to_graph_def() == model.graph.to_graph_def()


@pytest.mark.parametrize(
  "name", [name for name in zoo.names() if name.startswith("refuse_")]
)
def test_refusal(cases, name):
  with pytest.raises(Error) as refused:
    export(cases(name))
  message = str(refused.value)
  assert message.startswith("cannot ")
  assert "\n" not in message


@pytest.mark.parametrize("name", ["moments/Squeeze", "batchnorm/Rsqrt"])
def test_what_would_depend_on_no_input_is_refused(cases, name):
  """An output that is a batch statistic would be a stored average."""
  case = cases("layers_unfused_literal")
  model = opening.trained(case.prefix, [f"norm1/{name}"])
  with pytest.raises(Error, match="no longer depend on 'images'") as refused:
    export_model(model)
  assert "--keep_batch_statistics" in str(refused.value)


def test_zoo_covers_training_that_differs(cases):
  """A case whose training answer is the truth would prove nothing."""
  case = cases("layers_fused_literal")
  with pytest.raises(AssertionError):
    assert_close(case.y_train, case.y, case.tol)


def test_assert_close_sees_differences():
  a = np.ones(3, np.float32)
  for b in (a + 1e-3, a[:2], a.astype(np.float64), a * np.nan):
    with pytest.raises(AssertionError):
      assert_close(b, a, 1e-4)
