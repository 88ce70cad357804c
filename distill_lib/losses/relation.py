"""Relation knowledge: the shape that the examples of a batch make, whatever the widths.

Features ``(batch, ...)`` are flattened; the mask and every loss are ``(batch,)``. The losses of
distances and angles stay as they are when the features of one network are shifted, rotated,
reflected or scaled. Those of products and cosines also stay, except under a shift.
"""

from keras import ops

from distill_lib.losses._checks import check_shape, knob
from distill_lib.losses._inputs import flat_features
from distill_lib.losses._safe import root, unit

MASKED_SCORE = -1e30  # its softmax is 0; finite, because all scores may be masked


def distance_relation_loss(*, teacher_features, student_features, mask=None):
    """Return RKD-D, the mean over j != i of Huber(psi^S_ij - psi^T_ij), for each example i.

    psi_ij = |f_i - f_j| / (mean distance over i != j), for each network. Huber(x) is x^2 / 2
    for |x| <= 1, and |x| - 1/2 beyond. The paper sums over pairs. Its code averages over all
    batch^2 entries, the zero diagonal included: (batch - 1) / batch of this mean.
    Source: Park et al. (2019), section 3.2.1.
    """
    teacher, student, kept = flat_features(teacher_features, student_features, mask)
    pairs, count = _partners(kept)
    difference = _relative_distances(student, pairs) - _relative_distances(teacher, pairs)
    return ops.sum(pairs * _huber(difference), axis=1) / count


def angle_relation_loss(*, teacher_features, student_features, mask=None):
    """Return RKD-A, the mean over i != k of Huber(cos^S_ijk - cos^T_ijk), for each example j.

    cos_ijk is the cosine of the angle at j between i and k, all three different. It is 0 where
    the features of i or k equal those of j. The loss takes batch^3 numbers of memory. The paper
    sums over triplets. Its code averages over all batch^3 entries:
    (batch - 1)(batch - 2) / batch^2 of this mean.
    Source: Park et al. (2019), section 3.2.2.
    """
    teacher, student, kept = flat_features(teacher_features, student_features, mask, least=3)
    pairs, count = _partners(kept)
    # (j, i, k): i and k are partners of the vertex j and of one another.
    triples = pairs[:, :, None] * pairs[:, None, :] * pairs
    differences = _huber(_angle_cosines(student) - _angle_cosines(teacher))
    return ops.sum(triples * differences, axis=(1, 2)) / ops.maximum(count * (count - 1), 1)


def similarity_preserving_loss(*, teacher_features, student_features, mask=None):
    """Return SP, mean_j (G^S_ij - G^T_ij)^2 for each example i.

    G = F F' holds the products of all pairs of examples, and each of its rows is divided by its
    length. The mean over examples is the paper's value. The diagonal counts.
    Source: Tung and Mori (2019), section 3.
    """
    teacher, student, kept = flat_features(teacher_features, student_features, mask)
    teacher_products = unit(ops.matmul(teacher, ops.transpose(teacher)))
    student_products = unit(ops.matmul(student, ops.transpose(student)))
    squares = ops.square(student_products - teacher_products)
    return ops.sum(squares, axis=1) / ops.maximum(ops.sum(kept), 1)


def probabilistic_transfer_loss(*, teacher_features, student_features, mask=None):
    """Return PKT, KL(P_i || Q_i) for each example i, over its neighbours j != i.

    P_ij is the teacher's (1 + cosine_ij) / 2, divided by the sum of the row; Q_ij is the
    student's. The paper sums over i. Its code also counts j = i, and divides the sum by
    batch^2.
    Source: Passalis and Tefas (2018), section 3.
    """
    teacher, student, kept = flat_features(teacher_features, student_features, mask)
    pairs, _ = _partners(kept)
    p, q = _neighbour_probabilities(teacher, pairs), _neighbour_probabilities(student, pairs)
    log_p, log_q = (ops.log(ops.where(pairs > 0, x, 1.0)) for x in (p, q))
    return ops.sum(p * (log_p - log_q), axis=1)


def contrastive_loss(*, teacher_features, student_features, temperature=0.1, mask=None):
    """Return in-batch InfoNCE, -log softmax_j(cos(s_i, t_j) / T)[i] for each example i.

    Teacher and student have equal widths. log(batch) minus the expected mean of the loss is at
    most the mutual information of the two layers. CRD itself draws thousands of negatives from
    a memory of the data set, and trains a critic on them. Where the student equals the teacher
    the loss is not 0, for other examples still resemble this one. Unlike its neighbours here it
    sees a rotation of one side.
    Source: van den Oord et al. (2018), equation 4; Tian et al. (2020) for distillation.
    """
    teacher, student, kept = flat_features(teacher_features, student_features, mask)
    check_shape("teacher_features", teacher, student.shape, "the width of student_features")
    temperature = knob("temperature", temperature, student.dtype)
    scores = ops.matmul(unit(student), ops.transpose(unit(teacher))) / temperature
    log_shares = ops.log_softmax(ops.where(kept > 0, scores, MASKED_SCORE), axis=1)
    own = ops.eye(ops.shape(scores)[0], dtype=scores.dtype)
    return -kept * ops.sum(own * log_shares, axis=1)


def _partners(kept):
    """Return ``(batch, batch)``, 1 for two different kept examples; and how many each has."""
    pairs = kept[:, None] * kept[None, :] * (1 - ops.eye(ops.shape(kept)[0], dtype=kept.dtype))
    return pairs, ops.maximum(ops.sum(kept) - 1, 1)


def _huber(difference):
    size = ops.abs(difference)
    return ops.where(size <= 1, 0.5 * ops.square(difference), size - 0.5)


def _relative_distances(features, pairs):
    """Return the distances ``(batch, batch)``, divided by their mean over the pairs."""
    # Differences, not the Gram matrix: |a|^2 + |b|^2 - 2ab cancels for near features.
    distances = root(ops.sum(ops.square(features[:, None] - features[None, :]), axis=-1))
    mean = ops.sum(pairs * distances) / ops.maximum(ops.sum(pairs), 1)
    return distances / ops.where(ops.equal(mean, 0), 1.0, mean)


def _angle_cosines(features):
    """Return the cosines ``(j, i, k)`` of the angles at j between i and k."""
    directions = unit(features[None, :] - features[:, None])  # (j, i, width), from j to i
    return ops.matmul(directions, ops.swapaxes(directions, 1, 2))


def _neighbour_probabilities(features, pairs):
    """Return the similarities ``(batch, batch)`` of the pairs, each row with the sum 1."""
    cosines = ops.matmul(unit(features), ops.transpose(unit(features)))
    similarities = 0.5 * (1 + cosines)
    # Opposite directions have similarity 0, whose logarithm is not finite.
    similarities = pairs * ops.where(similarities < 1e-6, 1e-6, similarities)
    sums = ops.sum(similarities, axis=1, keepdims=True)
    return similarities / ops.where(ops.equal(sums, 0), 1.0, sums)
