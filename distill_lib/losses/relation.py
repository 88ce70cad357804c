"""Relation knowledge: losses on how the examples of a batch lie to one another."""

from keras import ops

from distill_lib.losses._inputs import as_floats


def distance_relation_loss(*, teacher_features, student_features):
    """Distance-wise relational distillation, RKD-D.

    psi_ij = |f_i - f_j| / (mean distance over i != j), for each network; the loss of
    example i is the mean over j != i of Huber(psi^S_ij - psi^T_ij), with
    Huber(x) = x^2 / 2 for |x| <= 1 and |x| - 1/2 beyond. It does not change when one
    network's features are shifted, rotated, reflected or scaled, and the two may have
    different widths. The paper sums over pairs; its code averages over all batch^2
    entries, the zero diagonal included, which gives (batch - 1) / batch of this mean.

    Args:
        teacher_features: ``(batch, ...)``; further axes are flattened.
        student_features: ``(batch, ...)``. The differences take batch^2 x width numbers
            of memory: use vectors rather than large maps.

    Returns:
        loss ``(batch,)``, without unit. Gradients are finite, also for equal rows.

    Raises:
        ValueError: batch sizes differ, no feature axis, or a batch of one, which has no
            pair. (If the size is unknown while tracing, a batch of one costs 0.)

    Source: Park et al. (2019), equations 6 to 8.
    """
    teacher, student = as_floats(teacher_features, student_features)
    _check_batches(teacher, student)
    difference = _relative_distances(student) - _relative_distances(teacher)
    size = ops.abs(difference)
    huber = ops.where(size <= 1, 0.5 * ops.square(difference), size - 0.5)
    return ops.sum(huber, axis=1) / ops.cast(_partner_count(student), huber.dtype)


def _relative_distances(features):
    """``(batch, ...)`` -> ``(batch, batch)`` distances with mean 1 outside the diagonal."""
    rows = ops.reshape(features, (ops.shape(features)[0], -1))
    # Differences, not the Gram matrix: |a|^2 + |b|^2 - 2ab cancels for near rows.
    squared = ops.sum(ops.square(rows[:, None] - rows[None, :]), axis=-1)
    # The square root's slope at 0 is infinite, and infinity times the outer 0 is nan:
    # the inner `where` keeps 0 away from the root, the outer one puts it back.
    positive = squared > 0
    distances = ops.where(positive, ops.sqrt(ops.where(positive, squared, 1.0)), 0.0)
    partners = ops.cast(_partner_count(rows), rows.dtype)
    mean = ops.sum(distances) / (partners * (partners + 1))
    return distances / ops.where(mean > 0, mean, 1.0)


def _partner_count(features):
    return ops.maximum(ops.shape(features)[0] - 1, 1)


def _check_batches(teacher, student):
    for name, features in (("teacher_features", teacher), ("student_features", student)):
        shape = tuple(features.shape)
        if len(shape) < 2 or shape[0] == 1:
            raise ValueError(
                f"{name} must hold two examples or more, each with a feature axis, "
                f"got shape {shape}"
            )
    sizes = teacher.shape[0], student.shape[0]
    if None not in sizes and sizes[0] != sizes[1]:
        raise ValueError(
            f"teacher_features must have the batch size of student_features {sizes[1]}, "
            f"got {sizes[0]}"
        )
