"""Relation knowledge: the shape that the examples of a batch make, RKD.

Both losses stay as they are when one network's features are shifted, rotated, reflected
or scaled; the two networks may have different widths. ``mask`` is ``(batch,)``, true counts.
"""

from keras import ops

from distill_lib.losses._inputs import huber, partners, root, rows, unit


def distance_relation_loss(*, teacher_features, student_features, mask=None):
    """RKD-D: mean over j != i of Huber(psi^S_ij - psi^T_ij), for each example i.

    psi_ij = |f_i - f_j| / (mean distance over i != j), for each network; Huber(x) is x^2 / 2
    for |x| <= 1 and |x| - 1/2 beyond. The paper sums over pairs; its code averages over all
    batch^2 entries, the zero diagonal included: (batch - 1) / batch of this mean.

    Args:
        teacher_features, student_features: ``(batch, ...)``, two examples or more; further
            axes are flattened. The differences take batch^2 x width numbers of memory.

    Source: Park et al. (2019), section 3.2.1.
    """
    teacher, student, kept = rows(teacher_features, student_features, mask)
    pairs, count = partners(kept)
    difference = _relative_distances(student, pairs) - _relative_distances(teacher, pairs)
    return ops.sum(pairs * huber(difference), axis=1) / count


def angle_relation_loss(*, teacher_features, student_features, mask=None):
    """RKD-A: mean over i != k of Huber(cos^S_ijk - cos^T_ijk), for each example j.

    cos_ijk is the cosine of the angle at j between i and k, all three different; it counts
    as 0 where an example equals j. The paper sums over triplets; its code averages over all
    batch^3 entries: (batch - 1)(batch - 2) / batch^2 of this mean.

    Args:
        teacher_features, student_features: ``(batch, ...)``, three examples or more. The
            directions take batch^2 x width numbers, the cosines batch^3.

    Source: Park et al. (2019), section 3.2.2.
    """
    teacher, student, kept = rows(teacher_features, student_features, mask, least=3)
    pairs, count = partners(kept)
    # (j, i, k): i and k are partners of the vertex j and of one another.
    triples = pairs[:, :, None] * pairs[:, None, :] * pairs
    differences = huber(_cosines(student) - _cosines(teacher))
    return ops.sum(triples * differences, axis=(1, 2)) / ops.maximum(count * (count - 1), 1)


def _relative_distances(features, pairs):
    """``(batch, width)`` -> ``(batch, batch)`` distances with mean 1 over the pairs."""
    # Differences, not the Gram matrix: |a|^2 + |b|^2 - 2ab cancels for near rows.
    distances = root(ops.sum(ops.square(features[:, None] - features[None, :]), axis=-1))
    mean = ops.sum(pairs * distances) / ops.maximum(ops.sum(pairs), 1)
    return distances / ops.where(mean > 0, mean, 1.0)


def _cosines(features):
    """``(batch, width)`` -> cosines ``(j, i, k)`` of the angles at j."""
    directions = unit(features[None, :] - features[:, None])  # (j, i, width), from j to i
    return ops.matmul(directions, ops.swapaxes(directions, 1, 2))
