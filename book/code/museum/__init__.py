"""Bugs of distillation code that really happened, each re-created in a few lines.

The functions of `values`, `batches`, `gradients`, `pairs` and `modes` are wrong, and their
docstrings say what they are meant to be. None is anybody's code; the places where such a bug
was found are in `EXHIBITS`, beside what this book's library does instead, the check that
tells the two apart, and a test of the library that the bug does not survive.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

from distill_lib import losses, models

from . import batches, checks, gradients, modes, pairs, sound, values

__all__ = ["EXHIBITS", "Exhibit", "checks", "show"]  # and the folders of the exhibits


class Exhibit(NamedTuple):
    """A bug, what stands in its place in the library, and what tells the two apart."""

    bug: Callable
    ours: Callable
    check: Callable
    source: str  # a public place where it was found
    guard: str = ""  # a test of the library, under tests/, that fails with `bug` for `ours`


def show(*bugs):
    """Print the code of one exhibit or more."""
    print("\n\n".join(inspect.getsource(bug).rstrip() for bug in bugs))


EXHIBITS = (
    Exhibit(
        values.raw_logits,
        losses.soft_target_loss,
        checks.equal_answers,
        "https://github.com/keras-team/keras/pull/21572",
        "losses/test_response.py::test_what_every_response_loss_keeps",
    ),
    Exhibit(
        values.missing_log,
        losses.soft_target_loss,
        checks.equal_answers,
        "https://github.com/microsoft/ProDA/issues/20",
        "losses/test_response.py::test_no_loss_at_equality_and_never_a_negative_one",
    ),
    Exhibit(
        values.mean_of_terms,
        losses.soft_target_loss,
        checks.sure_teacher,
        "https://github.com/haitongli/knowledge-distillation-pytorch/issues/2",
        "losses/test_response.py::test_soft_values_equal_the_loops",
    ),
    Exhibit(
        values.without_square,
        losses.soft_target_loss,
        checks.hot_gradient,
        "https://github.com/keras-team/keras-io/issues/869",
        "losses/test_response_limits.py::test_temperature_squared_keeps_the_size_of_the_gradient",
    ),
    Exhibit(
        values.idle_temperature,
        losses.soft_target_loss,
        checks.divided_logits,
        "https://github.com/huggingface/trl/pull/6847",
        "losses/test_response.py::test_soft_values_equal_the_loops",
    ),
    Exhibit(
        values.other_direction,
        losses.soft_target_loss,
        checks.by_hand,
        "https://github.com/paiml/aprender/pull/2153",
        "losses/test_response.py::test_soft_targets_by_hand_and_their_defaults",
    ),
    Exhibit(
        values.same_answer_twice,
        losses.soft_target_loss,
        checks.pull,
        "https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/66",
        "losses/test_response.py::test_soft_values_equal_the_loops",
    ),
    Exhibit(
        values.exchanged_beta,
        losses.jensen_shannon_loss,
        checks.nothing_in_common,
        "https://github.com/huggingface/trl/pull/3043",
        "losses/test_response_limits.py::test_shannon_and_skew_by_hand",
    ),
    Exhibit(
        values.mixed_logarithms,
        losses.jensen_shannon_loss,
        checks.nothing_in_common,
        "https://github.com/huggingface/trl/issues/2202",
        "losses/test_response_limits.py::test_the_bounds_are_reached",
    ),
    Exhibit(
        values.jump_at_the_end,
        losses.jensen_shannon_loss,
        checks.small_step,
        "https://github.com/modelscope/ms-swift/issues/10078",
        "losses/test_response.py::test_knobs",
    ),
    Exhibit(
        batches.unweighted,
        losses.weighted_mean,
        checks.doubled_weights,
        "https://github.com/keras-team/keras/pull/21572",
        "losses/test_reduction.py::test_doubled_weights_double_the_result",
    ),
    Exhibit(
        batches.divided_twice,
        losses.weighted_mean,
        checks.repeated_batch,
        "https://github.com/modelscope/easydistill/pull/16",
        "losses/test_reduction.py::test_equals_keras",
    ),
    Exhibit(
        batches.padding_counted,
        losses.weighted_mean,
        checks.more_padding,
        "https://github.com/peremartra/optipfair/issues/34",
        "losses/test_reduction.py::test_masked_nan_poisons_neither_value_nor_gradient",
    ),
    Exhibit(
        batches.mean_of_means,
        losses.weighted_mean,
        checks.long_and_short,
        "https://github.com/huggingface/trl/issues/4719",
        "test_terms.py::test_masked_steps_count_nowhere_in_logits_and_features",
    ),
    Exhibit(
        batches.with_diagonal,
        losses.distance_relation_loss,
        checks.three_points,
        "https://github.com/PaddlePaddle/PaddleSlim/blob/develop/paddleslim/dygraph/dist/losses/basic_loss.py",
        "losses/test_relation.py::test_distances_by_hand",
    ),
    Exhibit(
        batches.neighbours_in_line,
        losses.distance_relation_loss,
        checks.shuffled_batch,
        "https://github.com/HobbitLong/RepDistiller/blob/master/distiller_zoo/CC.py",
        "losses/test_relation.py::test_distances_by_hand",
    ),
    Exhibit(
        gradients.log_of_softmax,
        sound.target_part,
        checks.large_gap,
        "https://github.com/zhengli97/CTKD/issues/9",
        "losses/test_response_decoupled.py::test_what_every_response_loss_keeps",
    ),
    Exhibit(
        gradients.clipped,
        losses.soft_target_loss,
        checks.sure_and_wrong,
        "https://github.com/keras-team/keras/pull/21572",
        "losses/test_response_limits.py::test_huge_logits_give_finite_losses_and_gradients",
    ),
    Exhibit(
        gradients.guarded_after_the_log,
        losses.reverse_kl_loss,
        checks.large_gap,
        "https://github.com/MakazhanAlpamys/Soup/issues/719",
        "losses/test_response.py::test_what_every_response_loss_keeps",
    ),
    Exhibit(
        gradients.rectified_logits,
        models.build_student,
        checks.silent_classes,
        "https://github.com/datawhalechina/awesome-compression",
    ),
    Exhibit(
        pairs.stored_by_batch,
        sound.batches,
        checks.own_answers,
        "https://github.com/haitongli/knowledge-distillation-pytorch/pull/16",
    ),
    Exhibit(
        pairs.shifted_too_far,
        losses.next_token_pairs,
        checks.next_tokens,
        "https://github.com/DeepOpt-com/WrinkleFree-Monorepo/issues/13",
        "losses/test_sequence.py::test_the_logits_of_one_step_speak_of_the_next_token",
    ),
    Exhibit(
        pairs.nothing_but_the_top,
        sound.sampled,
        checks.mean_target,
        "https://github.com/arcee-ai/DistillKit/blob/main/distillkit/lossfuncs/kl.py",
    ),
    Exhibit(
        modes.Exchanged,
        sound.Trainer,
        checks.teacher_stays,
        "https://github.com/keras-team/keras-io/issues/257",
    ),
    Exhibit(
        modes.TeacherAwake,
        sound.Trainer,
        checks.teacher_stays,
        "https://github.com/Sharpiless/yolov5-distillation-5.0/issues/5",
    ),
    Exhibit(
        modes.AsleepAfterEvaluation,
        sound.Trainer,
        checks.dropout_stays,
        "https://github.com/SforAiDl/KD_Lib/blob/master/KD_Lib/KD/common/base_class.py",
    ),
    Exhibit(
        modes.evaluate_with_features,
        sound.evaluate_with_features,
        checks.looking_changes_nothing,
        "https://github.com/keras-team/keras/pull/21572",
    ),
)
