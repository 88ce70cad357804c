"""Sequences: the shift by one, sums over tokens, and what the student itself has written.

Tokens are integers ``(batch, steps)``. Their losses are those of
:mod:`~distill_lib.losses.response`. Two chain rules make losses of whole sequences,
``(batch,)``, of them: KL(p || q) is the expected sum of KL(p_t || q_t) over prefixes that the
*teacher* writes, and KL(q || p) that of KL(q_t || p_t) over prefixes that the *student* writes.
A mask is ``(batch, steps)`` of tokens, or ``(batch,)`` of sequences.
"""

from math import inf

from keras import ops

from distill_lib.losses._checks import check_shape, require
from distill_lib.losses._inputs import (
    as_floats,
    as_logits,
    is_kept,
    logit_pair,
    one_hot,
    picked,
    without_masked,
)


def next_token_pairs(tokens, logits):
    """Put each token beside the logits that predicted it, which are those of the step before.

    The logits at step t speak of token t + 1. Returns tokens ``(batch, steps - 1)`` and logits
    ``(batch, steps - 1, vocabulary)``. A mask of the padding becomes ``mask[:, 1:]``.
    """
    tokens, logits = ops.convert_to_tensor(tokens), ops.convert_to_tensor(logits)
    _check_tokens("logits", tokens, logits)
    return tokens[:, 1:], logits[:, :-1]


def sum_over_tokens(token_losses, mask=None):
    """Return the losses of sequences ``(batch,)``: the sum of the ``(batch, steps)`` given."""
    (token_losses,) = as_floats(token_losses)
    check_shape("token_losses", token_losses, (None, None), "the shape (batch, steps)")
    return ops.sum(ops.where(is_kept(mask, token_losses), token_losses, 0.0), axis=1)


def sequence_log_probability(*, tokens, logits, mask=None):
    """Return sum_t log softmax(logits_t)[token_t] in nats, for aligned tokens and logits.

    It is -inf where a token's logit is, and ``(batch,)``.
    """
    return ops.sum(_log_probabilities("logits", tokens, logits, mask), axis=1)


def policy_gradient_loss(*, tokens, teacher_logits, student_logits, mask=None):
    """Return a surrogate whose expected gradient is that of KL(q || p).

    The tokens must be drawn from the student, and aligned with the logits. The loss is
    sum_t c_t log q_t[token_t], with the cost c_t = sum_{u >= t} (log q_u[token_u] -
    log p_u[token_u]) held fixed. The cost counts from t on, because earlier tokens are no
    fault of this one. The value, ``(batch,)``, means nothing: watch
    :func:`~distill_lib.losses.reverse_kl_loss` instead. A teacher that rules one of the tokens
    out (a logit of -inf) is refused, for the cost would be infinite.
    Source: Gu et al. (2024), section 2.2, without its variance reductions.
    """
    teacher, student = logit_pair(teacher_logits, student_logits)
    log_q = _log_probabilities("student_logits", tokens, student, mask)
    log_p = _log_probabilities("teacher_logits", tokens, teacher, mask)
    rule = "allow every token that the student has drawn"
    log_p = require("teacher_logits", log_p, ops.not_equal(log_p, -inf), rule)
    # The same sum in the other order: the cost of u with log q of every t up to u.
    return ops.sum(ops.stop_gradient(log_q - log_p) * ops.cumsum(log_q, axis=1), axis=1)


def _check_tokens(name, tokens, logits):
    check_shape(name, logits, (None, None, None), "the shape (batch, steps, vocabulary)")
    check_shape("tokens", tokens, logits.shape[:2], f"the batch and steps of {name}")


def _log_probabilities(name, tokens, logits, mask):
    """Return log softmax(logits)[token] ``(batch, steps)``, and 0 where masked."""
    tokens, logits = ops.convert_to_tensor(tokens), as_logits(name, logits)
    _check_tokens(name, tokens, logits)
    kept = is_kept(mask, logits[..., 0])
    tokens = ops.where(kept, tokens, ops.zeros_like(tokens))
    log_q = ops.log_softmax(without_masked(logits, kept), axis=-1)
    return ops.where(kept, picked(log_q, one_hot("tokens", tokens, log_q)), 0.0)
