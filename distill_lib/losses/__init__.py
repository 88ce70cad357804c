"""Losses, one file for each kind of knowledge; what holds for all of them stands here.

- *Signals* are keyword arguments, because most losses are not symmetric and must not be
  swapped: ``labels``, ``teacher_logits``, ``student_logits``, ``teacher_features``,
  ``student_features``. Further arguments are knobs: a number, a scalar tensor, or a
  ``keras.Variable`` that a callback may change between steps.
- *Notation*: z and v are the student's and the teacher's logits, N the number of classes (the
  last axis), T the temperature, p = softmax(v / T), q = softmax(z / T); divergences are in
  nats. Labels are integers from 0 to N - 1, another one gives nan.
- *Shapes*: logits are ``(..., N)``, labels ``(...)``; features are ``(batch, ...)``, vectors or
  maps with the channels last. Every loss returns one value for each example, ``(...)`` or
  ``(batch,)``; :func:`weighted_mean` turns them into the number that is minimised, with
  weights and masks. Where an example's value depends on the others of the batch, the loss
  takes a ``mask`` ``(batch,)`` itself: what is masked is nobody's partner and costs 0.
- *Precision*: float32 or wider; values and gradients are finite for logits of plus or minus
  ten thousand. Where the teacher trains too, pass ``keras.ops.stop_gradient`` of its signals.
- *Errors*: ``ValueError`` for shapes that do not fit, fewer classes or examples than the
  formula needs, and numbers out of range (not of a tensor or Variable).
"""

from distill_lib.losses.decoupled import decoupled_loss, decoupled_parts
from distill_lib.losses.feature import (
    attention_transfer_loss,
    hint_loss,
    variational_information_loss,
)
from distill_lib.losses.reduction import weighted_mean
from distill_lib.losses.relation import (
    angle_relation_loss,
    contrastive_loss,
    distance_relation_loss,
    probabilistic_transfer_loss,
    similarity_preserving_loss,
)
from distill_lib.losses.response import (
    hard_label_loss,
    jensen_shannon_loss,
    logit_matching_loss,
    mixed_loss,
    reverse_kl_loss,
    skew_kl_loss,
    smoothed_label_loss,
    soft_target_loss,
    soft_targets,
)
from distill_lib.losses.sequence import (
    next_token_pairs,
    policy_gradient_loss,
    sequence_log_probability,
    sum_over_tokens,
)
from distill_lib.losses.standardised import correlation_loss, standardised_target_loss
