# SPDX-License-Identifier: Apache-2.0
"""Graphs that TensorFlow froze from training graphs are repaired, or refused.

The naive.pb of a zoo case is what convert_variables_to_constants made of its
training graph.
"""

import os
import zipfile

import numpy as np
import pytest
import zoo
from judges.counting import assert_linear
from judges.exporting import assert_answers
from judges.transforming import model_of

from bnexport import sources, text
from bnexport.batchnorm.forms import find
from bnexport.errors import Error, GraphError, SourceError
from bnexport.exporting.export import Options
from bnexport.exporting.export import export as export_model
from bnexport.exporting.mend import is_same
from bnexport.graph import Graph
from bnexport.graph.nodes import Signatures
from bnexport.mending import mending
from bnexport.mending.completion import complete
from bnexport.model.request import Request
from bnexport.proof import comparison, runs
from bnexport.sources.files import read_proto
from bnexport.tf1 import tf1

# The checkpoint lacks their averages, which naive.pb holds; y is no truth.
_NO_TRUTH = "refuse_trainable_saver_phase"
# The weights were frozen, and their averages, which the Saver puts in their
# place, are the truth.
_WEIGHTS_FROZEN = {
  "averages_swapped",
  "averages_swapped_by_hand",
  "averages_swapped_resource",
}
# Without the updates only names are left, and here they lie.
_NAMES_LIE = {"decoy_swapped_scopes", "decoy_unused_moving_mean"}
# Python's functions are not in the file, so it can't be run.
_NO_REFERENCE = {"anywhere_from_python"}
# Names tell nothing, or more than one thing, or there are no averages.
_NAMES_ARE_SILENT = set(
  """
  anywhere_domain anywhere_domain_none anywhere_float_blend
  anywhere_not_frozen_yet anywhere_raw_or_average anywhere_task
  averages_by_hand averages_from_a_step_on averages_running_mean
  averages_target_and_average contrib_renorm_literal
  contrib_scale_only_unfused_literal decoy_crossed_names
  decoy_meaningless_names decoy_same_shapes decoy_two_norms_one_pair
  flow_data_cond_norm inverse_deviation inverse_deviation_elsewhere
  inverse_deviation_power inverse_deviation_used inverse_fused_log
  inverse_fused_negative inverse_fused_second_moment inverse_half
  inverse_log1p inverse_log_images_resource inverse_log_of_all_batches
  inverse_log_variance inverse_log_variance_debiased inverse_lower_limit
  inverse_negative_log inverse_negative_mean inverse_of_all_batches
  inverse_precision inverse_rate_of_half inverse_rate_of_third inverse_rsqrt
  inverse_scaled inverse_second_moment inverse_second_moment_negative
  inverse_second_moment_of_both inverse_second_moment_used inverse_shifted
  inverse_squared_variance keep_gan_generator keep_gan_generator_fused
  keep_instance_fused keep_layer_fused keep_mixed_fused layers_adjustment
  layers_renorm_clipping layers_renorm_literal noise_adjustment_rows
  noise_depth_cond noise_depth_cond_scaled noise_whole quant_default
  quant_delay_over quant_delay_set quant_dense quant_depthwise
  quant_fixed_batch quant_fold_frozen quant_fold_only quant_layers
  quant_mobile quant_norms_frozen quant_norms_not_frozen quant_residual
  quant_resource quant_symmetric quant_unfused shared_blended_rows
  shared_blended_unstacked shared_decayed_sums shared_element shared_joined
  shared_squared_deviation shared_stacked shared_stacked_last_axis
  shared_stacked_resource shared_steps_masked shared_steps_masked_in_turn
  shared_steps_stacked state_weight_norm weights_moved_scope
  written_both_in_one written_chained written_decayed_row
  written_decayed_then_added written_divided_sums written_domain
  written_domain_resource written_fixed_count written_fused_rows
  written_log_rows written_masked written_masked_lengths
  written_multiplied_row written_passes_first written_passes_second
  written_rows_add written_rows_nd written_rows_resource written_rows_slice
  written_rows_sub written_rows_update written_rows_wide_slice
  written_sums_of_means written_sums_of_rows written_sums_of_squares
  written_synchronised written_two_norms written_weighted
  """.split()
)


# Freezing pruned the updates: nothing but the checkpoint has their averages.
_LOST = set(
  """
  answer_argmax_literal anywhere_delayed anywhere_domain anywhere_domain_none
  anywhere_float_blend anywhere_mode_variable anywhere_not_frozen_yet
  anywhere_option anywhere_pooling anywhere_raw_or_average anywhere_task
  averages_by_hand averages_copied_network averages_counted
  averages_crossed_elsewhere averages_from_a_step_on averages_not_swapped
  averages_online_network averages_running_mean averages_target_and_average
  averages_teacher averages_to_restore averages_two_decays
  averages_two_decays_other contrib_activation_inside
  contrib_arg_scope_literal contrib_batch_weights contrib_dense_literal
  contrib_fused_literal contrib_nchw_literal contrib_neither_literal
  contrib_own_collection contrib_param_initializers contrib_renorm_literal
  contrib_scale_only_unfused_literal contrib_siamese_literal
  contrib_true_constant contrib_true_constant_unfused contrib_unfused_literal
  contrib_variable_flag contrib_zero_debias_literal decoy_crossed_names
  decoy_global_pool decoy_in_use decoy_meaningless_names
  decoy_moments_of_another decoy_same_shapes decoy_swapped_scopes
  decoy_two_norms_one_pair decoy_unused_moving_mean dropout_by_hand_literal
  dropout_keep_prob dropout_keep_prob_default dropout_layers_literal
  dropout_rate ema_literal ema_shared_object flow_data_cond_norm
  flow_defun_moments flow_defun_norm function_defuns function_partitioned_call
  hand_assign_sub hand_bessel hand_fused_separate_moments hand_resource_assign
  hand_tensorpack hand_update_conditional handed_out handed_out_corrected
  handed_out_features input_batch_queue input_default_queue
  input_iterator_and_scaling input_one_shot_iterator input_py_func_summary
  input_reshaped_batch input_staging_area inverse_deviation
  inverse_deviation_elsewhere inverse_deviation_power inverse_deviation_used
  inverse_fused_log inverse_fused_negative inverse_fused_second_moment
  inverse_half inverse_log1p inverse_log_images_resource
  inverse_log_of_all_batches inverse_log_variance
  inverse_log_variance_debiased inverse_lower_limit inverse_negative_log
  inverse_negative_mean inverse_of_all_batches inverse_precision
  inverse_rate_of_half inverse_rate_of_third inverse_rsqrt inverse_scaled
  inverse_second_moment inverse_second_moment_negative
  inverse_second_moment_of_both inverse_second_moment_used inverse_shifted
  inverse_squared_variance keep_gan_generator keep_gan_generator_fused
  keep_instance_fused keep_layer_fused keep_mixed_fused keep_mixed_literal
  keep_named_scope keep_named_scopes_unfused keep_standardized_input
  keras_learning_phase_true keras_subclassed keras_training_true
  layers_adjustment layers_axis_1 layers_axis_1_3 layers_axis_1_of_3
  layers_dense_literal layers_float16_literal layers_float64
  layers_frozen_middle layers_fused_literal layers_momentum_tensor
  layers_nchw_inner layers_nchw_literal layers_objects layers_partitioned
  layers_reference_variables layers_regularized layers_renorm_clipping
  layers_renorm_literal layers_resource_literal layers_resource_sequence
  layers_unfused_literal layers_virtual_batch layers_volume_literal
  loop_map_fn loop_while_v2_literal net_autoencoder net_capsules net_mobile
  net_residual_v2 net_segmenter net_speech_recognizer net_squeeze_excite
  noise_adjustment_rows noise_alpha_contrib noise_alpha_fed noise_alpha_keras
  noise_bernoulli noise_block_set noise_broadcast_dims noise_categories_set
  noise_code noise_connect noise_connect_unscaled noise_depth_cond
  noise_depth_cond_scaled noise_depth_gate noise_depth_if noise_depth_rows
  noise_deviation noise_direction noise_experts noise_gates noise_gates_loop
  noise_gaussian noise_gaussian_annealed noise_gaussian_keras
  noise_gaussian_residual noise_gumbel_set noise_half noise_input
  noise_input_contrast_set noise_input_flip_cond_set noise_input_flip_set
  noise_input_light noise_input_mask_set noise_layer_norm noise_local
  noise_loop noise_mixup_fed_set noise_mixup_hidden_set noise_mixup_set
  noise_neuron_set noise_noisy_layer noise_normal noise_open_vector
  noise_path_nasnet noise_path_unscaled noise_recurrent_keras
  noise_scaled_later noise_scheduled noise_several_samples noise_shake_drop
  noise_shake_even noise_shake_shake noise_spatial noise_spatial_keras
  noise_state noise_stored_chance noise_stored_chance_unscaled noise_style
  noise_style_mixing_set noise_survival_set noise_swapout noise_tied
  noise_unknown_word_set noise_unscaled noise_variational noise_vector
  noise_vector_sliced noise_weights noise_whole noise_words noise_zoneout
  noise_zoneout_dropout phase_resource_variable phase_true_constant
  phase_variable quant_default quant_delay_over quant_delay_set quant_dense
  quant_depthwise quant_fixed_batch quant_fold_frozen quant_fold_only
  quant_hand_average quant_hand_running quant_hand_waits quant_layers
  quant_mobile quant_norms_frozen quant_norms_not_frozen quant_per_channel
  quant_residual quant_resource quant_symmetric quant_unfused
  shared_blended_rows shared_blended_unstacked shared_clipped
  shared_clipped_narrow shared_decayed_sums shared_element shared_joined
  shared_squared_deviation shared_stacked shared_stacked_last_axis
  shared_stacked_resource shared_steps_masked shared_steps_masked_in_turn
  shared_steps_stacked shared_variance_about_both_means
  shared_variance_about_new_mean shared_variance_about_old_mean
  state_memory_bank state_spectral_control state_weight_norm towers_first
  towers_first_all_updates towers_parameter_server towers_second
  towers_second_by_hand towers_second_dropped_updates towers_split_batch
  warn_never_updated warn_variance_zero weights_average_everything
  weights_average_ignored weights_average_kernels weights_average_phase
  weights_average_trainable weights_format_v1 weights_moved_scope
  weights_quantize_nodes weights_renamed weights_sharded weights_shared_kernel
  weights_two_savers written_both_in_one written_chained written_decayed_row
  written_decayed_then_added written_divided_sums written_domain
  written_domain_resource written_fixed_count written_fused_rows
  written_limited_weights written_log_rows written_masked
  written_masked_lengths written_multiplied_row written_passes_first
  written_passes_second written_rows_add written_rows_nd written_rows_resource
  written_rows_slice written_rows_sub written_rows_update
  written_rows_wide_slice written_sums_of_means written_sums_of_rows
  written_sums_of_squares written_synchronised written_twice written_two_norms
  written_weighted
  """.split()
)
# Refused though the file holds updates; the checkpoint or the .meta helps.
_UPDATES_NOT_SEEN = {"loop_unrolled_steps"}
# What is stated of them is not in the file, a write that nothing follows is, or
# what random numbers of a loop are for.
_REFUSED_WITHOUT_META = {
  "dropout_in_rnn",
  "noise_scanned",
  "shared_averages_of_last",
  "written_domain_fed",
  "written_domain_fed_slice",
  "written_embedding",
  "written_embedding_resource",
}
# Nothing tells that their rows should not depend on each other.
_MIXED = {
  "shared_classes_of_rows",
  "shared_whitened_cholesky",
  "shared_whitened_groups",
  "shared_whitened_newton",
  "shared_whitened_other_axis",
  "written_ghost",
  "written_transposed",
}
_TOLD = _REFUSED_WITHOUT_META | _MIXED
# Of cases whose ops were renamed, those that have lost more by it.
_LOST_BY_RENAMING = {
  "meta": set(),
  "checkpoint": set(
    """
    contrib_zero_debias_inplace_literal hand_just_updated quant_default
    quant_delay_over quant_delay_set quant_dense quant_depthwise
    quant_fixed_batch quant_fold_frozen quant_layers quant_mobile
    quant_norms_frozen quant_norms_not_frozen quant_residual quant_symmetric
    quant_unfused written_twice
    """.split()
  ),
  "nothing": set(
    """
    contrib_zero_debias_inplace_literal hand_just_updated loop_unrolled_steps
    quant_default quant_delay_over quant_delay_set quant_dense quant_depthwise
    quant_fixed_batch quant_fold_frozen quant_hand_average quant_hand_running
    quant_hand_waits quant_layers quant_mobile quant_norms_frozen
    quant_norms_not_frozen quant_residual quant_symmetric quant_unfused
    shared_averages_of_last state_spectral_control state_weight_norm
    weights_average_phase written_limited_weights written_twice
    """.split()
  ),
}
# What was written is a value of the batch by renaming: answers are wrong, and
# not proven.
_NOT_PROVEN_BY_RENAMING = {
  ("quant_hand_average", "checkpoint"),
  ("quant_hand_running", "checkpoint"),
}
# Its stored range of weights was read as what was written there; renamed, that
# is the range of the weights, and nothing in the file says otherwise.
_NOT_TOLD = {"quant_per_channel"}


def _naive(name):
  """The bytes of a case's naive.pb; none where it has none."""
  with zipfile.ZipFile(os.path.join(zoo.DATA, name + ".zip")) as archive:
    held = "naive.pb" in archive.namelist()
    return archive.read("naive.pb") if held else b""


def _holds(name, kinds):
  """Whether a node's op is one of some, told by its bytes."""
  held = _naive(name)
  return any(b"\x12%c%s" % (len(op), op.encode()) in held for op in kinds)


_NAIVE = [name for name in zoo.names() if _naive(name)]
_REFUSED = {n for n in _NAIVE if n.startswith("refuse_")} - {_NO_TRUTH}
_RIGHT = set(_NAIVE) - _REFUSED - {_NO_TRUTH} - _WEIGHTS_FROZEN


def repair(case, checkpoint=True, meta=True, path=None, prefix=None, **options):
  """Repairs a case's naive.pb as the repair command would.

  Args:
    case: a zoo.Case.
    checkpoint: whether its checkpoint is at hand.
    meta: whether its training graph is; or the path of another one. Without,
      the names of its keys are taken at their word.
    path: of another frozen graph.
    prefix: of another checkpoint.
    **options: of Options.
  """
  meta = case.prefix + ".meta" if meta is True else meta or None
  named = ()
  if checkpoint and meta is None:
    named = tuple(key for key, _ in tf1.train.list_variables(case.prefix))
    named += ("import",)  # where a graph was imported below that scope
  model = sources.open(
    Request(
      "frozen_graph",
      str(path or case.naive),
      (prefix or case.prefix) if checkpoint else None,
      (case.output, *case.also),
      (case.input,) if case.cut_input else (),
      training=meta,
    )
  )
  asked = dict(
    settings={key: str(value) for key, value in case.set.items()},
    keep_batch_statistics=tuple(case.keep_scopes),
    moving_averages=case.ema,
    average_name=case.average,
    averages=named,
    data_format="NHWC" if case.no_run_115 else None,
  )
  asked.update(options)
  return export_model(model, Options(**asked))


def assert_repaired(case, export, proven=True):
  """Asserts the truth, and that the proof holds."""
  assert_answers(case, export)
  if proven:
    assert _proof(export).holds


def _proof(export):
  return comparison.prove(
    export.to_graph_def(),
    export.model.outputs,
    export.reference,
    keeps_batch=export.keeps_batch,
  )


def assert_refusal(refused, *words):
  message = str(refused.value)
  assert message.startswith("cannot ")
  assert "\n" not in message
  for word in words:
    assert word in message


def edit(case, folder, change, name="edited.pb"):
  """Writes a copy of naive.pb that `change` was applied to; its path."""
  graph_def = read_proto(case.naive, tf1.GraphDef, "the graph")
  change(graph_def)
  path = os.path.join(str(folder), name)
  with open(path, "wb") as f:
    f.write(graph_def.SerializeToString())
  return path


def by_name(graph_def):
  return {node.name: node for node in graph_def.node}


# The zoo. With the training graph, repair exports as test_zoo.py does with all of
# it, so a part is taken here that test_renamed.py leaves out.


@pytest.mark.part(8, 2)
@pytest.mark.parametrize("name", sorted(_RIGHT))
def test_with_the_training_graph(cases, name):
  case = cases(name)
  assert_repaired(case, repair(case), proven=name not in _NO_REFERENCE)


@pytest.mark.parametrize("name", sorted(_REFUSED))
def test_refused_with_the_training_graph(cases, name):
  with pytest.raises(Error) as refused:
    repair(cases(name))
  assert_refusal(refused)


@pytest.mark.part(6, 0)
@pytest.mark.parametrize(
  "name", sorted(_RIGHT - _NAMES_LIE - _NAMES_ARE_SILENT - _TOLD)
)
def test_with_the_checkpoint_alone(cases, name):
  case = cases(name)
  assert_repaired(case, repair(case, meta=False), proven=False)


@pytest.mark.part(3, 1)
@pytest.mark.parametrize(
  "name",
  sorted(
    (_REFUSED | _NAMES_ARE_SILENT | _REFUSED_WITHOUT_META)
    - {"written_embedding"}
  ),
)
def test_refused_with_the_checkpoint_alone(cases, name):
  with pytest.raises(Error) as refused:
    repair(cases(name), meta=False)
  assert_refusal(refused)


@pytest.mark.parametrize("name", sorted(_MIXED))
def test_rows_that_depend_on_each_other_are_not_proven(cases, name):
  proof = repair(cases(name), checkpoint=False, meta=False).prove()
  assert proof.verdict == comparison.NOT_PROVEN
  assert "rows depend on each other" in proof.missing


@pytest.mark.parametrize("name", sorted(_NAMES_LIE))
def test_names_that_lie_are_doubted(cases, name):
  export = repair(cases(name), meta=False)
  warned = [w for w in export.model.warnings if "by their names" in w]
  assert len(warned) == len(export.norms)


@pytest.mark.parametrize(
  "name", sorted(_NAMES_LIE) + ["layers_fused_literal", "contrib_dense_literal"]
)
def test_nothing_is_taken_for_an_average_by_its_name(cases, name):
  with pytest.raises(Error) as refused:
    repair(cases(name), meta=False, averages=())
  assert_refusal(refused, "nothing but their names", "--meta_graph")
  named = str(refused.value).partition("--averages=")[2].partition(" ")[0]
  assert repair(cases(name), meta=False, averages=tuple(named.split(",")))


@pytest.mark.part(6, 4)
@pytest.mark.parametrize(
  "name", sorted(_RIGHT - _LOST - _TOLD - _UPDATES_NOT_SEEN)
)
def test_with_nothing_else(cases, name):
  case = cases(name)
  export = repair(case, checkpoint=False, meta=False)
  assert_repaired(case, export, proven=False)


@pytest.mark.part(6, 1)
@pytest.mark.parametrize(
  "name",
  sorted(_LOST | _REFUSED | _REFUSED_WITHOUT_META | _UPDATES_NOT_SEEN),
)
def test_refused_with_nothing_else(cases, name):
  case = cases(name)
  with pytest.raises(Error) as refused:
    repair(case, checkpoint=False, meta=False)
  if case.ema:  # they are in the checkpoint alone
    flag = "--average_name" if case.average else "--moving_averages"
    assert_refusal(refused, flag)
  elif name in _LOST and not name.startswith(("quant_", "state_")):
    assert_refusal(refused, "--checkpoint", "--calibration_data")
  else:
    assert_refusal(refused)


@pytest.mark.parametrize("name", sorted(_LOST))
def test_lost_is_what_holds_no_updates(cases, name):
  """Of other state, of averages of weights and of ranges, theirs may be left."""
  case = cases(name)
  assert (
    name.startswith(("state_", "quant_", "written_"))
    or case.ema
    or not _holds_updates(case)
  )


def _holds_updates(case):
  """Whether freezing left anything that says what the averages are."""
  nodes = read_proto(case.naive, tf1.GraphDef, "the graph").node
  return any(node.op.startswith(("Assign", "RefSwitch")) for node in nodes)


def test_sweeps_see_enough():
  """Most cases have a naive.pb, and the exceptions are cases."""
  assert len(_RIGHT) > 280 and len(_REFUSED) > 6
  assert _NAMES_LIE | _NAMES_ARE_SILENT | _LOST <= _RIGHT
  assert len(_RIGHT - _LOST) > 200 and len(_LOST) > 300
  assert len(_RENAMED) >= 3 * 83


@pytest.mark.parametrize("has_meta", [False, True])
def test_file_holds_what_its_checkpoint_lacks(cases, has_meta):
  case = cases(_NO_TRUTH)
  export = repair(case, meta=has_meta, fold_batch_norms=False)
  assert {n.statistics for n in export.norms} == {"stored"}
  assert _proof(export).holds
  held = by_name(read_proto(case.naive, tf1.GraphDef, "the graph"))
  given = by_name(export.to_graph_def())
  averages = {n.moving_mean for n in export.norms}
  averages |= {n.moving_variance for n in export.norms}
  assert len(averages) == 4
  for name in averages:
    values = [
      tf1.make_ndarray(n[name].attr["value"].tensor) for n in (held, given)
    ]
    np.testing.assert_array_equal(*values)


# What users do to such files before they ask for help.


_RENAMED_OPS = ("Assign", "AssignAdd", "AssignSub", "RefSwitch")


def rename_ops(graph_def):
  """The fix that the web has for `float_ref`; returns how much it changed."""
  changed = 0
  for node in graph_def.node:
    if node.op == "RefSwitch":
      node.op = "Switch"
      for slot, text_ in enumerate(node.input):
        if "moving_" in text_ and "Switch" not in text_:
          node.input[slot] = text_ + "/read"
    elif node.op in ("AssignSub", "AssignAdd"):
      node.op = node.op[len("Assign") :]
    elif node.op == "Assign":
      node.op = "Identity"
      del node.input[0]
      del node.attr["validate_shape"]
    else:
      continue
    node.attr.pop("use_locking", None)
    changed += 1
  return changed


_RENAMED = [
  (name, how)
  for name in sorted(_RIGHT - _NOT_TOLD)
  if _holds(name, _RENAMED_OPS)
  for how in ("meta", "checkpoint", "nothing")
]


@pytest.mark.part(4, 1)
@pytest.mark.parametrize("name, how", _RENAMED)
def test_renamed_ops(cases, tmp_path, name, how):
  changed = []
  path = edit(cases(name), tmp_path, lambda g: changed.append(rename_ops(g)))
  assert changed[0]
  again = cases(name), how != "nothing", how == "meta", path
  if name in _LOST_BY_RENAMING[how]:
    with pytest.raises(Error) as refused:
      repair(*again)
    assert_refusal(refused)
  elif (name, how) in _NOT_PROVEN_BY_RENAMING:
    made = repair(*again)
    assert made.prove().verdict == comparison.NOT_PROVEN
  else:
    assert_repaired(cases(name), repair(*again), proven=False)


@pytest.mark.parametrize("how", ["meta", "checkpoint", "nothing"])
def test_inference_without_statistics(cases, tmp_path, how):
  """is_training set by hand, where the norm has no statistics to use."""
  case = cases("layers_fused_literal")

  def change(graph_def):
    for node in graph_def.node:
      if node.op.startswith("FusedBatchNorm"):
        node.attr["is_training"].b = False

  path = edit(case, tmp_path, change)
  if how == "nothing":
    with pytest.raises(Error) as refused:
      repair(case, False, False, path)
    assert_refusal(refused, "--checkpoint", "--calibration_data")
  else:
    assert_repaired(case, repair(case, True, how == "meta", path))


def test_devices(cases, tmp_path):
  case = cases("layers_fused_phase")

  def change(graph_def):
    for node in graph_def.node:
      node.device = "/job:worker/task:3/device:GPU:7"

  export = repair(case, path=edit(case, tmp_path, change))
  assert_repaired(case, export)
  assert any("devices" in line for line in export.model.history)


@pytest.mark.parametrize("literal", [True, False])
def test_lost_nodes_are_restored(cases, tmp_path, literal):
  case = cases("layers_fused_%s" % ("literal" if literal else "phase"))
  conv = next(
    node.name
    for node in read_proto(case.naive, tf1.GraphDef, "the graph").node
    if node.op == "Conv2D"
  )

  def change(graph_def):
    kept = [node for node in graph_def.node if node.name != conv]
    graph_def.ClearField("node")
    graph_def.node.extend(kept)

  path = edit(case, tmp_path, change)
  export = repair(case, path=path)
  assert_repaired(case, export)
  assert any("'%s' is restored" % conv in line for line in export.model.history)
  with pytest.raises(GraphError) as refused:
    repair(case, meta=False, path=path)
  assert_refusal(
    refused, conv, "not in the graph", "--meta_graph", "--input_node=" + conv
  )


def test_lost_constant_is_read_from_the_checkpoint(cases, tmp_path):
  case = cases("layers_fused_phase")

  def change(graph_def):
    kept = [n for n in graph_def.node if not n.name.endswith("gamma")]
    assert len(kept) < len(graph_def.node)
    graph_def.ClearField("node")
    graph_def.node.extend(kept)

  assert_repaired(case, repair(case, path=edit(case, tmp_path, change)))


@pytest.mark.parametrize("name", ["flow_defun_norm", "flow_defun_moments"])
def test_lost_functions_are_restored(cases, tmp_path, name):
  case = cases(name)
  path = edit(case, tmp_path, lambda g: g.library.Clear())
  export = repair(case, path=path)
  assert_repaired(case, export)
  assert any("is restored" in line for line in export.model.history)
  with pytest.raises(Error) as refused:
    _proof(repair(case, meta=False, path=path))
  assert_refusal(refused)


@pytest.mark.parametrize("has_meta", [False, True])
def test_control_inputs_before_data_inputs(cases, tmp_path, has_meta):
  case = cases("contrib_fused_inplace_phase")
  moved = []

  def change(graph_def):
    for node in graph_def.node:
      control = [t for t in node.input if t.startswith("^")]
      if control and len(control) < len(node.input):
        data = [t for t in node.input if not t.startswith("^")]
        del node.input[:]
        node.input.extend(control + data)
        moved.append(node.name)

  path = edit(case, tmp_path, change)
  assert moved
  export = repair(case, meta=has_meta, path=path)
  assert_repaired(case, export)


@pytest.mark.parametrize("has_meta", [False, True])
def test_repeated_nodes(cases, tmp_path, has_meta):
  case = cases("layers_fused_phase")

  def twice(graph_def):
    graph_def.node.extend(list(graph_def.node)[::3])

  export = repair(case, meta=has_meta, path=edit(case, tmp_path, twice))
  assert_repaired(case, export)

  def other(graph_def):
    node = graph_def.node.add()
    node.CopyFrom(by_name(graph_def)[case.output])
    node.op = "Relu6"

  with pytest.raises(GraphError) as refused:
    repair(case, meta=has_meta, path=edit(case, tmp_path, other))
  assert_refusal(refused, "'%s'" % case.output, "Relu6", "rename")


def test_missing_input_is_fed(cases, tmp_path):
  case = cases("layers_fused_phase")

  def change(graph_def):
    kept = [n for n in graph_def.node if n.name != case.input]
    graph_def.ClearField("node")
    graph_def.node.extend(kept)

  path = edit(case, tmp_path, change)
  case = case._replace(cut_input=True)
  assert_repaired(case, repair(case, meta=False, path=path))


# Graphs below a scope, as import_graph_def puts them.


def _import(graph_def):
  for node in graph_def.node:
    node.name = "import/" + node.name
    for slot, name in enumerate(node.input):
      control = "^" if name.startswith("^") else ""
      node.input[slot] = control + "import/" + name[len(control) :]


@pytest.mark.parametrize("has_meta", [False, True])
@pytest.mark.parametrize(
  "name",
  [
    "layers_fused_phase",
    "layers_fused_literal",
    "layers_resource_literal",
    "contrib_fused_inplace_phase",
    "ema_cond_pointnet",
    "weights_average_everything",
    "keep_named_scope",
    "towers_first_all_updates",
    "weights_sharded",
  ],
)
def test_imported_below_a_scope(cases, tmp_path, name, has_meta):
  case = cases(name)
  path = edit(case, tmp_path, _import)
  case = case._replace(
    input="import/" + case.input,
    output="import/" + case.output,
    also=["import/" + other for other in case.also],
    set={"import/" + key: value for key, value in case.set.items()},
    keep_scopes=["import/" + scope for scope in case.keep_scopes],
  )
  assert_repaired(case, repair(case, meta=has_meta, path=path))


# What somebody changed stays changed.


def test_edited_constant_stays(cases, tmp_path):
  case = cases("layers_fused_phase")
  added = 0.75

  def change(graph_def):
    beta = next(n for n in graph_def.node if n.name.endswith("/beta"))
    value = tf1.make_ndarray(beta.attr["value"].tensor)
    beta.attr["value"].tensor.CopyFrom(tf1.make_tensor_proto(value + added))
    change.name, change.value = beta.name, value + added

  path = edit(case, tmp_path, change)
  export = repair(case, path=path, fold_batch_norms=False)
  assert _proof(export).holds
  value = by_name(export.to_graph_def())[change.name].attr["value"].tensor
  np.testing.assert_array_equal(tf1.make_ndarray(value), change.value)
  with pytest.raises(AssertionError):
    assert_answers(case, export)


def test_replaced_op_stays(cases, tmp_path):
  case = cases("layers_fused_phase")

  def change(graph_def):
    for node in graph_def.node:
      if node.op == "Relu":
        node.op = "Relu6"

  export = repair(case, path=edit(case, tmp_path, change))
  assert _proof(export).holds
  used = [node.op for node in export.to_graph_def().node]
  assert "Relu6" in used and "Relu" not in used


def test_rewired_node_stays(cases, tmp_path):
  """An output that somebody put behind another node."""
  case = cases("layers_fused_phase")
  path = edit(
    case,
    tmp_path,
    lambda graph_def: graph_def.node.add(
      name="my_output",
      op="Neg",
      input=[case.output],
      attr={"T": tf1.AttrValue(type=1)},
    ),
  )
  model = sources.open(
    Request(
      "frozen_graph",
      path,
      case.prefix,
      ("my_output",),
      training=case.prefix + ".meta",
    )
  )
  export = export_model(model, Options())
  runner = runs.ImportedGraph(export.to_graph_def(), export.model.outputs)
  (answer,) = runner.run({case.input: case.x})
  runner.close()
  np.testing.assert_allclose(-answer, case.y, atol=1e-3)


def test_training_graph_of_another_model(cases):
  case, other = cases("layers_fused_phase"), cases("net_residual_v2")
  export = repair(case, meta=other.prefix + ".meta")
  assert_repaired(case, export)
  assert any("of another model" in w for w in export.model.warnings)
  export = repair(case)
  assert not any("of another model" in w for w in export.model.warnings)


# Graphs that other tools went over.


def _optimized(case, folder):
  """naive.pb after TensorFlow's optimize_for_inference."""
  from tensorflow.python.tools import optimize_for_inference_lib as library

  graph_def = read_proto(case.naive, tf1.GraphDef, "the graph")
  done = library.optimize_for_inference(
    graph_def, [case.input], [case.output], 1
  )
  path = os.path.join(str(folder), "optimized.pb")
  with open(path, "wb") as f:
    f.write(done.SerializeToString())
  return path


_OPTIMIZED = (
  "layers_fused_literal",
  "layers_fused_phase",
  "layers_unfused_literal",
  "contrib_fused_inplace_phase",
  "keras_placeholder",
  "net_residual_v2",
)


@pytest.mark.parametrize("how", ["meta", "checkpoint", "nothing"])
@pytest.mark.parametrize("name", _OPTIMIZED)
def test_optimized_for_inference(cases, tmp_path, name, how):
  case = cases(name)
  path = _optimized(case, tmp_path)
  is_lost = how == "nothing" and name in _LOST
  # It takes the reads of handles for identities, and removes them.
  if is_lost or (name, how) == ("keras_placeholder", "meta"):
    with pytest.raises(Error) as refused:
      repair(case, how != "nothing", how == "meta", path)
    assert_refusal(refused)
  else:
    assert_repaired(case, repair(case, how != "nothing", how == "meta", path))


# A graph that is fine.


@pytest.mark.parametrize(
  "name",
  [
    "layers_fused_literal",
    "layers_unfused_phase",
    "contrib_fused_inplace_phase",
    "ema_cond_pointnet",
    "flow_defun_norm",
    "keep_instance_hand",
  ],
)
def test_repaired_graph_is_fine(cases, tmp_path, name):
  case = cases(name)
  once = repair(case)
  path = str(tmp_path / "once.pb")
  with open(path, "wb") as f:
    f.write(once.to_graph_def().SerializeToString())
  assert repair(case, False, False, path).is_unchanged


@pytest.mark.parametrize(
  "after, same",
  [
    ("x = Placeholder()  y = LeakyRelu(x) {alpha=0.5}", True),
    ("x = Placeholder()  y = LeakyRelu(x) {alpha=0.5, _note=1}", True),
    ("x = Placeholder()  y = LeakyRelu(x) {alpha=0.5}  z = Neg(y)", True),
    ("x = Placeholder()  y = LeakyRelu(x) {alpha=0.25}", False),
    ("x = Placeholder()  y = AnOp(x) {alpha=0.5, T=float}", False),
    ("x = Placeholder()  y = Relu(x)", False),
    ("w = Placeholder()  y = LeakyRelu(w) {alpha=0.5}", False),
    (
      "x = Placeholder()  a = Neg(x)  y = LeakyRelu(a) {alpha=0.5}",
      False,
    ),
  ],
)
def test_unchanged_is_the_same_in_all_that_the_outputs_need(after, same):
  before = model_of("x = Placeholder()  y = LeakyRelu(x) {alpha=0.5}")
  assert is_same(before, model_of(after)) == same


# Flags.


def test_stated_phase(cases):
  case = cases("anywhere_option")
  assert case.set == {"option": "false"}
  assert "option" not in repair(case).model.placeholders()
  assert "option" in repair(case, settings={}).model.placeholders()


def test_frozen_graph_that_is_to_be_frozen(cases):
  """It has lost its averages, and repair finds them."""
  case = cases("layers_fused_literal")
  request = Request("graph_def", case.naive, case.prefix, (case.output,))
  with pytest.raises(Error) as refused:
    export_model(sources.open(request))
  assert_refusal(refused, "frozen before", "run python -m bnexport.repair")
  assert f"--checkpoint={case.prefix}" in str(refused.value)
  model = sources.open(request)
  names = tuple(norm.name for norm in find(model.graph, model.outputs))
  assert export_model(model, Options(keep_batch_statistics=names)).keeps_batch


def test_frozen_graph_that_is_right_is_frozen_again(cases):
  case = cases("layers_fused_phase")
  request = Request("graph_def", case.naive, None, (case.output,))
  assert_answers(case, export_model(sources.open(request)))


def test_graph_that_waits_for_an_update_is_not_fine(tmp_path):
  graph = """
    x = Placeholder() {shape=[?,2], dtype=float}
    v = Const() {value=<float [2] 1>}   u = Assign(v, v) {T=float}
    r = Identity(^u, x) {T=float}   y = Relu(r) {T=float}
  """
  path = str(tmp_path / "graph.pb")
  with open(path, "wb") as f:
    f.write(text.loads(graph).SerializeToString())
  request = Request("frozen_graph", path, None, ("y",))
  export = export_model(sources.open(request))
  assert not export.is_unchanged
  assert export.prove().repeats


def test_large_graphs_take_linear_time():
  """Graphs with a fault in each node."""

  def prepare(count):
    statements = [
      "x = Placeholder() {shape=[?,3]}",
      "c = NoOp()",
      "n0 = Relu(x)",
    ]
    statements += ["n%d = Relu(^c, n%d)" % (i, i - 1) for i in range(1, count)]
    graph_def = text.loads("\n".join(statements))
    training = tf1.GraphDef()
    training.CopyFrom(graph_def)

    def work():
      assert complete(graph_def, training, Signatures()).is_used
      told = mending.mend(graph_def, Signatures())
      Graph(graph_def, copy=False).lint()
      assert len(told) == count - 1

    return work

  assert_linear(prepare, 200, 1000)


# What can't be loaded.


def test_empty_graph(cases, tmp_path):
  path = tmp_path / "empty.pbtxt"
  path.write_text("versions { producer: 134 }\n")
  with pytest.raises(SourceError) as refused:
    repair(cases("layers_fused_phase"), path=path)
  assert_refusal(refused, "empty.pbtxt", "empty")


@pytest.mark.parametrize("output", ["nowhere", "prob:3"])
def test_wrong_output(cases, output):
  case = cases("layers_fused_phase")._replace(output=output)
  with pytest.raises(SourceError) as refused:
    repair(case)
  assert_refusal(refused, "'%s'" % output)
