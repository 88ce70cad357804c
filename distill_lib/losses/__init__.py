"""Losses, one file for each kind of knowledge; what holds for all of them stands here.

- *Signals* are keyword arguments, because most losses are not symmetric and must not be
  swapped: ``labels``, ``teacher_logits``, ``student_logits``, ``teacher_features``,
  ``student_features``. Further arguments are knobs: a number, a scalar tensor, or a
  ``keras.Variable`` that a callback may change between steps.
- *Notation*: z and v are the student's and the teacher's logits, N the number of classes (the
  last axis), T the temperature, p = softmax(v / T), q = softmax(z / T). Divergences are in
  nats. Labels are integers from 0 to N - 1.
- *Shapes*: logits are ``(..., N)`` and labels ``(...)``; features are ``(batch, ...)``, vectors
  or maps with the channels last. Every loss returns one value for each example, ``(...)`` or
  ``(batch,)``. :func:`weighted_mean` turns these into the number that is minimised, with
  weights and masks. Where the value of an example depends on the others of the batch, the loss
  takes a ``mask`` itself, true where the example counts: a masked example is compared with no
  other, and its loss is 0. What a mask leaves out may hold anything, nan too.
- *Precision*: float32 or wider. Values and gradients are finite for logits of plus or minus
  ten thousand. Where the teacher trains too, pass ``keras.ops.stop_gradient`` of its signals.
- *Never*: a logit of -inf rules a class out. Its probability is 0, and 0 * (-inf) is 0: the
  class adds nothing to a sum over p, and gradients are finite. A loss that would be infinite
  because of it, or that has no use for it, refuses such a teacher and says so. A student that
  rules out what the teacher, or the label, thinks possible has a loss of infinity.
- *Broken numbers*: where logits or features hold nan, or logits +inf, the loss is not finite.
- *Errors*: ``ValueError`` for shapes that do not fit, fewer classes or examples than the
  formula needs, labels that are no classes, and knobs out of range (``check_knob``). Inside
  a traced program values are not known: there such a label or knob makes the loss nan.
"""

from distill_lib.losses._checks import check_knob
from distill_lib.losses.bernoulli import bernoulli_soft_target_loss, binary_label_loss
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
from distill_lib.losses.truncated import kept_mass, teacher_kept_mass, top_k_soft_target_loss
