"""Response knowledge: losses on a network's answers.

Notation: z are the student's logits, v the teacher's, N the number of classes (the last
axis), p_T = softmax(v / T), q_T = softmax(z / T). Every loss has one value for each
example, of shape ``logits.shape[:-1]``; :func:`~distill_lib.losses.reduction.weighted_mean`
averages them. All are computed from log-softmax in float32 or wider, so that logits of
plus or minus ten thousand give finite losses and gradients. The teacher's logits are
differentiable too: pass ``keras.ops.stop_gradient`` of them where the teacher also trains.
"""

from numbers import Real

from keras import ops

from distill_lib.losses._inputs import as_floats, check_shape


def soft_targets(logits, temperature=1.0):
    """Probabilities softmax(logits / T), softened by the temperature (Hinton et al., 2015).

    Args:
        logits: ``(..., classes)``, any floating type.
        temperature: number, scalar tensor or Variable above 0. Towards 0 the targets
            become one-hot, towards infinity uniform.

    Returns:
        probabilities ``(..., classes)`` in float32 or wider; each row sums to 1.

    Raises:
        ValueError: fewer than two classes, or a temperature that is not above 0.
    """
    (logits,) = as_floats(logits)
    _check_classes("logits", logits)
    return ops.softmax(logits / _temperature(temperature, logits.dtype), axis=-1)


def hard_label_loss(*, labels, student_logits):
    """Cross-entropy with the true label, -log q_1[label].

    Args:
        labels: integers ``(...)`` from 0 to classes - 1. A label outside gives ``nan``
            rather than a silent number; a mask takes it out of the mean.
        student_logits: ``(..., classes)``.

    Returns:
        loss ``(...)``, in nats.

    Raises:
        ValueError: shapes that do not fit, or fewer than two classes.
    """
    (student_logits,) = as_floats(student_logits)
    _check_classes("student_logits", student_logits)
    labels = ops.cast(ops.convert_to_tensor(labels), "int32")
    check_shape("labels", labels, student_logits.shape[:-1], "the shape of the examples")
    last = student_logits.shape[-1] - 1
    log_q = ops.log_softmax(student_logits, axis=-1)
    picked = ops.take_along_axis(log_q, ops.clip(labels, 0, last)[..., None], axis=-1)
    valid = ops.logical_and(labels >= 0, labels <= last)
    return ops.where(valid, -ops.squeeze(picked, axis=-1), float("nan"))


def soft_target_loss(*, teacher_logits, student_logits, temperature=1.0):
    """Hinton's soft loss, T^2 KL(p_T || q_T) = T^2 sum_i p_i (log p_i - log q_i).

    Its gradient with respect to z is T (q_T - p_T). T^2 keeps that gradient's size
    comparable over temperatures; for T towards infinity it tends to the difference of
    the centred logits divided by N, and the loss to half its square summed over classes.
    In float32 the value (not the gradient) loses digits beyond T of about 100, because
    T^2 then multiplies the rounding of a very small divergence.

    Args:
        teacher_logits: ``(..., classes)``. KL is not symmetric: do not swap the two.
        student_logits: ``(..., classes)``.
        temperature: number, scalar tensor or Variable above 0.

    Returns:
        loss ``(...)``, in nats (times T^2); 0 where the two distributions are equal.

    Raises:
        ValueError: shapes differ, fewer than two classes, temperature not above 0.

    Source: Hinton, Vinyals and Dean (2015), section 2.
    """
    teacher, student = _logit_pair(teacher_logits, student_logits)
    _check_classes("student_logits", student)
    temperature = _temperature(temperature, student.dtype)
    log_p = ops.log_softmax(teacher / temperature, axis=-1)
    log_q = ops.log_softmax(student / temperature, axis=-1)
    divergence = ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)
    return temperature * temperature * divergence


def mixed_loss(*, labels, teacher_logits, student_logits, temperature=1.0, soft_weight=0.5):
    """Labels and teacher together, (1 - a) hard_label_loss + a soft_target_loss.

    Args:
        labels: integers ``(...)``.
        teacher_logits: ``(..., classes)``.
        student_logits: ``(..., classes)``.
        temperature: number, scalar tensor or Variable above 0; used by the soft part only.
        soft_weight: a, number, scalar tensor or Variable in [0, 1]; 0 is labels alone.

    Returns:
        loss ``(...)``.

    Raises:
        ValueError: as the two parts do, or ``soft_weight`` outside [0, 1].

    Source: Hinton, Vinyals and Dean (2015), section 2.
    """
    hard = hard_label_loss(labels=labels, student_logits=student_logits)
    soft = soft_target_loss(
        teacher_logits=teacher_logits, student_logits=student_logits, temperature=temperature
    )
    if isinstance(soft_weight, Real) and not 0 <= soft_weight <= 1:
        raise ValueError(f"soft_weight must lie in [0, 1], got {soft_weight}")
    soft_weight = _scalar("soft_weight", soft_weight, soft.dtype)
    return (1 - soft_weight) * ops.cast(hard, soft.dtype) + soft_weight * soft


def logit_matching_loss(*, teacher_logits, student_logits):
    """Regression on the logits themselves, 0.5 sum_i (z_i - v_i)^2.

    Args:
        teacher_logits: ``(..., outputs)``; one output is allowed (regression).
        student_logits: ``(..., outputs)``.

    Returns:
        loss ``(...)``, in squared units of the logits.

    Raises:
        ValueError: shapes differ.

    Source: Ba and Caruana (2014), equation 1.
    """
    teacher, student = _logit_pair(teacher_logits, student_logits)
    return 0.5 * ops.sum(ops.square(student - teacher), axis=-1)


def _logit_pair(teacher_logits, student_logits):
    teacher, student = as_floats(teacher_logits, student_logits)
    if len(student.shape) == 0:
        raise ValueError("student_logits must have at least one axis, got a scalar")
    check_shape("teacher_logits", teacher, student.shape, "the shape of student_logits")
    return teacher, student


def _check_classes(name, logits):
    # The softmax of a single output is always 1: the loss would be 0 and teach nothing.
    if len(logits.shape) == 0 or logits.shape[-1] == 1:
        raise ValueError(
            f"{name} must have two classes or more on its last axis, "
            f"got shape {tuple(logits.shape)}"
        )


def _temperature(value, dtype):
    if isinstance(value, Real) and not 0 < value < float("inf"):
        raise ValueError(f"temperature must be a finite number above 0, got {value}")
    return _scalar("temperature", value, dtype)


def _scalar(name, value, dtype):
    """Read a number, tensor or Variable (which may change between steps) as a scalar."""
    if isinstance(value, Real):  # directly in `dtype`: float32(0.1) is not float64(0.1)
        return ops.convert_to_tensor(float(value), dtype=dtype)
    tensor = ops.cast(ops.convert_to_tensor(value), dtype)
    check_shape(name, tensor, (), "the scalar shape")
    return tensor
