"""Relation knowledge: who resembles whom in a batch, by products and by cosines.

Both losses stay as they are when one network's features are rotated, reflected or scaled,
not when they are shifted; the two networks may have different widths. Features are
``(batch, ...)`` with two examples or more, ``mask`` is ``(batch,)``, true counts.
"""

from keras import ops

from distill_lib.losses._inputs import partners, rows, unit


def similarity_preserving_loss(*, teacher_features, student_features, mask=None):
    """SP, mean_j (G^S_ij - G^T_ij)^2 for each example i, G = F F' with rows of length 1.

    The mean over examples is the paper's value. The diagonal counts.

    Source: Tung and Mori (2019), section 3.
    """
    teacher, student, kept = rows(teacher_features, student_features, mask)
    products = [unit(ops.matmul(x, ops.transpose(x))) for x in (student, teacher)]
    squares = ops.square(products[0] - products[1])
    return ops.sum(squares, axis=1) / ops.maximum(ops.sum(kept), 1)


def probabilistic_transfer_loss(*, teacher_features, student_features, mask=None):
    """PKT, KL(P_i || Q_i) for each example i, over its neighbours j != i.

    P_ij is the teacher's (1 + cosine_ij) / 2, divided by the row's sum; Q_ij the student's.
    The paper sums over i. Its code also counts each example as its own neighbour, and
    divides the sum by batch^2, so that a larger batch weighs less.

    Source: Passalis and Tefas (2018), section 3.
    """
    teacher, student, kept = rows(teacher_features, student_features, mask)
    pairs, _ = partners(kept)
    p, q = (_neighbour_probabilities(x, pairs) for x in (teacher, student))
    log_p, log_q = (ops.log(ops.where(pairs > 0, x, 1.0)) for x in (p, q))
    return ops.sum(p * (log_p - log_q), axis=1)


def _neighbour_probabilities(features, pairs):
    cosines = ops.matmul(unit(features), ops.transpose(unit(features)))
    # Opposite directions have similarity 0, whose logarithm is not finite.
    similarities = pairs * ops.maximum(0.5 * (1 + cosines), 1e-6)
    total = ops.sum(similarities, axis=1, keepdims=True)
    return similarities / ops.where(total > 0, total, 1.0)
