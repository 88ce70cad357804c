"""Sequences: the shift by one, sums over tokens, and what the student itself has written.

Tokens are integers ``(batch, steps)``, their losses those of
:mod:`~distill_lib.losses.response`. Two chain rules make losses of sequences, ``(batch,)``, of
them: KL(p || q) is the expected sum of KL(p_t || q_t) over prefixes that the *teacher* writes,
KL(q || p) that of KL(q_t || p_t) over prefixes that the *student* writes. What a mask of
tokens, or ``(batch,)`` of sequences, leaves out changes nothing, be it nan.
"""

from keras import ops

from distill_lib.losses._inputs import along, as_floats, check_shape, logit_pair, without_masked
from distill_lib.losses.response import hard_label_loss


def next_token_pairs(tokens, logits):
    """Put each token beside the logits that predicted it: those of the step before.

    The logits at step t speak of token t + 1. Returns tokens ``(batch, steps - 1)`` and logits
    ``(batch, steps - 1, vocabulary)``; a mask of the padding becomes ``mask[:, 1:]``.
    """
    tokens, logits = ops.convert_to_tensor(tokens), ops.convert_to_tensor(logits)
    _check_tokens("logits", tokens, logits)
    return tokens[:, 1:], logits[:, :-1]


def sum_over_tokens(token_losses, mask=None):
    """Losses of tokens ``(batch, steps)`` to losses of sequences ``(batch,)``: their sum."""
    (token_losses,) = as_floats(token_losses)
    check_shape("token_losses", token_losses, (None, None), "the shape (batch, steps)")
    kept = along("mask", mask, token_losses) != 0
    return ops.sum(ops.where(kept, token_losses, 0.0), axis=1)


def sequence_log_probability(*, tokens, logits, mask=None):
    """sum_t log softmax(logits_t)[token_t], for aligned tokens and logits, in nats."""
    return ops.sum(_log_probabilities("logits", tokens, logits, mask), axis=1)


def policy_gradient_loss(*, tokens, teacher_logits, student_logits, mask=None):
    """A surrogate with the expected gradient of KL(q || p), for tokens that the student drew.

    sum_t c_t log q_t[token_t], aligned, with c_t = sum_{u >= t} (log q_u[token_u] -
    log p_u[token_u]) held fixed: the cost from t on, for earlier tokens are no fault of this
    one. The value means nothing; watch :func:`~distill_lib.losses.reverse_kl_loss` instead.
    Source: Gu et al. (2024), section 2.2, without its variance reductions.
    """
    teacher, student = logit_pair(teacher_logits, student_logits)
    log_q = _log_probabilities("student_logits", tokens, student, mask)
    costs = log_q - _log_probabilities("teacher_logits", tokens, teacher, mask)
    # The same sum in the other order: the cost of u with log q of every t up to u.
    return ops.sum(ops.stop_gradient(costs) * ops.cumsum(log_q, axis=1), axis=1)


def _check_tokens(name, tokens, logits):
    check_shape(name, logits, (None, None, None), "the shape (batch, steps, vocabulary)")
    check_shape("tokens", tokens, logits.shape[:2], f"the batch and steps of {name}")


def _log_probabilities(name, tokens, logits, mask):
    """log softmax(logits)[token] ``(batch, steps)``, 0 where masked."""
    tokens, (logits,) = ops.convert_to_tensor(tokens), as_floats(logits)
    _check_tokens(name, tokens, logits)
    logits, kept = without_masked(mask, logits)
    return ops.where(kept > 0, -hard_label_loss(labels=tokens, student_logits=logits), 0.0)
