"""Relation knowledge: find your own teacher features among those of the whole batch."""

from keras import ops

from distill_lib.losses._inputs import check_shape, positive, rows, unit


def contrastive_loss(*, teacher_features, student_features, temperature=0.1, mask=None):
    """In-batch InfoNCE, -log softmax_j(cos(s_i, t_j) / T)[i] for each example i.

    log(batch) minus its expected mean is at most the two layers' mutual information. This is
    the in-batch form of contrastive distillation; CRD itself draws thousands of negatives
    from a memory of the whole data set and trains a critic on them. At equality it is not
    0: the other examples still resemble this one.

    Args:
        teacher_features, student_features: ``(batch, ...)`` of equal width, two examples
            or more; further axes are flattened.
        temperature: above 0. (``mask``: ``(batch,)``, true counts.)

    Source: van den Oord et al. (2018), equation 4; Tian et al. (2020) for distillation.
    """
    teacher, student, kept = rows(teacher_features, student_features, mask)
    check_shape("teacher_features", teacher, student.shape, "the width of student_features")
    temperature = positive("temperature", temperature, student.dtype)
    scores = ops.matmul(unit(student), ops.transpose(unit(teacher))) / temperature
    scores = ops.where(kept > 0, scores, -1e30)  # not minus infinity: 0 times it is nan
    own = ops.eye(ops.shape(scores)[0], dtype=scores.dtype)
    return -kept * ops.sum(own * ops.log_softmax(scores, axis=1), axis=1)
