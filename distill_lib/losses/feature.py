"""Feature knowledge: losses on a network's inner representations."""

from keras import ops

from distill_lib.losses._inputs import as_floats, check_shape


def hint_loss(*, teacher_features, student_features):
    """The FitNets hint, 0.5 mean_k (s_k - t_k)^2 over all features k of one example.

    The paper sums over k; the mean used here is that sum divided by the number of
    features, so that one loss weight serves layers of any size. The student's features
    must already have the teacher's shape: see :func:`distill_lib.distiller.projector`.

    Args:
        teacher_features: ``(batch, ..., channels)``, vectors or maps.
        student_features: the same shape, after the projector.

    Returns:
        loss ``(batch,)``, in squared units of the features; float32 or wider.

    Raises:
        ValueError: shapes differ, or no feature axis beside the batch.

    Source: Romero et al. (2015), equation 3.
    """
    teacher, student = as_floats(teacher_features, student_features)
    if len(student.shape) < 2:
        raise ValueError(
            "student_features must have a batch axis and a feature axis, "
            f"got shape {tuple(student.shape)}"
        )
    check_shape("teacher_features", teacher, student.shape, "the shape of student_features")
    feature_axes = tuple(range(1, len(student.shape)))
    return 0.5 * ops.mean(ops.square(student - teacher), axis=feature_axes)
