"""Training schemes: who teaches whom, and when. The losses and the training stay the same."""

import keras
from keras import ops

from distill_lib.distiller import Distiller
from distill_lib.evaluate import predict_logits
from distill_lib.features import as_functional
from distill_lib.losses import hard_label_loss, soft_target_loss
from distill_lib.signals import as_dataset
from distill_lib.terms import DistillationTerm
from distill_lib.training import train_many


def in_turn(builds, x, signals, *, loss, seeds, **options):
    """Train one student after the other, each taught by the one before it.

    The first learns from ``signals``. If the networks become smaller from turn to turn, this
    is teaching by assistants (Mirzadeh et al., 2020).

    Args:
        builds: One function for each turn, such as ``[build_assistant, build_student]``.
        x, signals, loss, seeds, **options: As in :func:`~distill_lib.training.train_many`.
            After the first turn the student of the same seed gives the ``teacher_logits``.

    Returns:
        A list with the trained students of each turn, ``[turn][seed]``.
    """
    turns = []
    for build in builds:
        turns.append(train_many(build, x, signals, loss=loss, seeds=seeds, **options))
        signals = signals | {"teacher_logits": list(predict_logits(turns[-1], x))}
    return turns


def born_again(build, x, labels, *, loss, generations, seeds, knobs=None, **options):
    """Train networks that are taught by networks of their own kind (Furlanello et al., 2018).

    Generation 0 learns from the labels, and generation k from generation k - 1. In generation
    k the student of seed s has the starting weights and batches of seed s + 1000 k, so that it
    differs from its teacher; its control is a student trained alone from that seed.

    Args:
        build, x, seeds, **options: As in :func:`~distill_lib.training.train_many`, for all
            generations.
        loss: The loss of the generations after the first, which are given ``labels`` and
            ``teacher_logits``; ``knobs`` are the numbers that it takes, by name.
        generations: The number of generations, the first included.

    Returns:
        A list with the trained students of each generation, ``[generation][seed]``.
    """
    signals = {"labels": labels}
    found = [train_many(build, x, signals, loss=hard_label_loss, seeds=seeds, **options)]
    options |= knobs or {}
    for generation in range(1, generations):
        signals["teacher_logits"] = list(predict_logits(found[-1], x))
        own = [seed + 1000 * generation for seed in seeds]
        found.append(train_many(build, x, signals, loss=loss, seeds=own, **options))
    return found


def mutual_learning(build, x, labels, *, seeds, peers=2, **options):
    """Train cohorts without a teacher: each network learns from labels and from its peers.

    The first network of a cohort has the start and the batches of the student that
    ``train_many`` trains alone from the same seed. All peers are updated at once; Zhang et al.
    (2018) update one after the other.

    Args:
        build, x, seeds, **options: As in :func:`~distill_lib.training.train_many`, and
            ``temperature``.
        peers: The number of networks in a cohort.

    Returns:
        A list with the models of each cohort, ``[seed][peer]``.

    Raises:
        ValueError: If ``peers`` is below 2.
    """
    if peers < 2:
        raise ValueError(f"peers must be at least 2, got {peers}")
    options = {"loss": mutual_learning_loss, "seeds": seeds, **options}
    cohorts = train_many(lambda: _cohort(build, peers), x, {"labels": labels}, **options)
    return [[cohort.get_layer(f"peer{k}") for k in range(peers)] for cohort in cohorts]


def mutual_learning_loss(*, labels, temperature=1.0, **answers):
    """Return the sum over peers i of hard_label_loss + mean over j != i of T^2 KL(p_j || p_i).

    A peer is held fixed where it teaches. There is one value for each example.

    Args:
        labels: Integer labels ``(...)``.
        temperature: The temperature T of the divergences.
        **answers: The logits ``(..., classes)`` of two or more peers, by name.
    """
    total = 0.0
    for name, own in answers.items():
        peers = [ops.stop_gradient(answers[peer]) for peer in answers if peer != name]
        soft = 0.0
        for peer in peers:
            pair = {"teacher_logits": peer, "student_logits": own}
            soft += soft_target_loss(**pair, temperature=temperature)
        total += hard_label_loss(labels=labels, student_logits=own) + soft / len(peers)
    return total


def mean_of_probabilities(teacher_logits, temperature=1.0):
    """Return the logits of one teacher that stands for several in the forward divergence.

    They are T log mean_k softmax(v_k / T). The mean over k of KL(p_k || q) is KL(mean of the
    p_k || q) plus a number that does not depend on the student q.

    Args:
        teacher_logits: A list of ``(..., classes)``, or one array with the teachers first.
        temperature: The temperature T of the divergence.
    """
    log_p = ops.log_softmax(ops.stack(list(teacher_logits)) / temperature, axis=-1)
    count = ops.cast(ops.shape(log_p)[0], log_p.dtype)
    return temperature * (ops.logsumexp(log_p, axis=0) - ops.log(count))


def mean_of_logits(teacher_logits):
    """Return the logits of one teacher that stands for several in the reverse divergence.

    They are the mean of the v_k; its probabilities are the normalised geometric mean of the
    p_k. The mean over k of KL(q || p_k) is KL(q || that mean) plus a number that does not
    depend on the student q. ``teacher_logits`` are as in :func:`mean_of_probabilities`.
    """
    return ops.mean(ops.stack(list(teacher_logits)), axis=0)


def teach_consistently(
    teacher,
    student,
    x,
    *,
    augment,
    epochs,
    seed=0,
    temperature=1.0,
    optimizer="adam",
    **options,
):
    """Train ``student`` in place by function matching (Beyer et al., 2022).

    In every step a live teacher sees the very views that the student sees. There are no
    labels; the augmentation is strong and the schedule long.

    Args:
        teacher, student: Keras models that return logits.
        x, seed, **options: As in :func:`~distill_lib.signals.as_dataset`.
        augment: A function of a batch of inputs, such as :func:`mixup`.
        epochs, optimizer: As in Keras's ``fit`` and ``compile``.
        temperature: The temperature of the divergence.

    Returns:
        Keras's ``History``.
    """
    term = DistillationTerm(soft_target_loss, temperature=temperature)
    distiller = Distiller(teacher, student, term, student_loss_weight=0.0)
    distiller.compile(optimizer)
    views = as_dataset(x, {}, seed=seed, augment=augment, **options)
    return distiller.fit(views, epochs=epochs, verbose=0)


def mixup(seed=0):
    """Return an augmentation that mixes each input with another of its batch.

    The view is r x + (1 - r) x', where x' is the batch in reverse order and r is drawn for
    each input from the uniform distribution on [0, 1).
    """
    generator = keras.random.SeedGenerator(seed)

    def augment(views):
        shape = (ops.shape(views)[0], *[1] * (len(views.shape) - 1))
        share = keras.random.uniform(shape, seed=generator)
        return share * views + (1 - share) * ops.flip(views, axis=0)

    return augment


def _cohort(build, peers):
    """Return one model that answers as several new ones, by the names of its peers."""
    members = [as_functional(build()) for _ in range(peers)]
    named = [keras.Model(m.input, m.output, name=f"peer{k}") for k, m in enumerate(members)]
    inputs = keras.Input(members[0].input.shape[1:])
    return keras.Model(inputs, {member.name: member(inputs) for member in named})
