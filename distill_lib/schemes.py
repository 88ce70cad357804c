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
    """Each student teaches the next; the first learns from ``signals``.

    With a smaller network at each turn, ``[build_assistant, build_student]``, this is teaching
    by assistants (Mirzadeh et al., 2020). The student of seed s teaches the one of seed s.

    Args:
        builds: functions as in :func:`~distill_lib.training.train_many`, one for each turn.
        signals, loss, seeds, **options: as there; ``teacher_logits`` is replaced in each turn.

    Returns:
        a list of lists of models, ``[turn][seed]``.
    """
    turns = []
    for build in builds:
        turns.append(train_many(build, x, signals, loss=loss, seeds=seeds, **options))
        signals = signals | {"teacher_logits": list(predict_logits(turns[-1], x))}
    return turns


def born_again(build, x, labels, *, loss, generations, seeds, knobs=None, **options):
    """Networks that learn from their own kind: generation 0 from labels, k from k - 1.

    Generation k of seed s starts from the weights and batches of seed s + 1000 k, so that it
    is no twin of its teacher; its control is trained alone from that seed.

    Args:
        loss: of the generations after the first, from ``labels``, ``teacher_logits`` and
            ``student_logits`` or some of them; ``knobs``: its numbers, by name.
        generations: how many there are, the first included.
        **options: of :func:`~distill_lib.training.train_many`, for all.

    Returns:
        a list of lists of models, ``[generation][seed]``. Source: Furlanello et al. (2018).
    """
    signals = {"labels": labels}
    found = [train_many(build, x, signals, loss=hard_label_loss, seeds=seeds, **options)]
    for generation in range(1, generations):
        signals["teacher_logits"] = list(predict_logits(found[-1], x))
        own = [seed + 1000 * generation for seed in seeds]
        options |= knobs or {}
        found.append(train_many(build, x, signals, loss=loss, seeds=own, **options))
    return found


def mutual_learning(build, x, labels, *, seeds, peers=2, **options):
    """A cohort without a teacher: each network learns from labels and from its peers.

    The first of a cohort has the start and the batches of the student that ``train_many``
    trains alone from the same seed. ``peers``: networks in a cohort, two or more;
    ``options``: of ``train_many``, and ``temperature``.

    Returns:
        a list of lists of models, ``[seed][peer]``.

    Source: Zhang et al. (2018), who update the peers one after the other, not all at once.
    """
    if peers < 2:
        raise ValueError(f"peers must be at least 2, got {peers}")
    options = {"loss": mutual_learning_loss, "seeds": seeds, **options}
    cohorts = train_many(lambda: _cohort(build, peers), x, {"labels": labels}, **options)
    return [[cohort.get_layer(f"peer{k}") for k in range(peers)] for cohort in cohorts]


def mutual_learning_loss(*, labels, temperature=1.0, **answers):
    """The sum over peers i of hard_label_loss + mean over j of T^2 KL(p_j || p_i), j != i.

    A peer is held fixed where it teaches. ``answers``: logits by name, two or more.
    """
    total, options = 0.0, {"temperature": temperature}
    for name, own in answers.items():
        peers = [ops.stop_gradient(answers[peer]) for peer in answers if peer != name]
        pairs = [{"teacher_logits": peer, "student_logits": own} for peer in peers]
        soft = [soft_target_loss(**pair, **options) for pair in pairs]
        total += hard_label_loss(labels=labels, student_logits=own) + sum(soft) / len(soft)
    return total


def mean_of_probabilities(teacher_logits, temperature=1.0):
    """One teacher of several for the forward KL: T log mean_k softmax(v_k / T).

    mean_k KL(p_k || q) is KL(mean of the p_k || q) plus a number that q does not change.
    ``teacher_logits``: a list of ``(..., classes)``, or one array with the teachers first.
    """
    log_p = ops.log_softmax(ops.stack(list(teacher_logits)) / temperature, axis=-1)
    count = ops.cast(ops.shape(log_p)[0], log_p.dtype)
    return temperature * (ops.logsumexp(log_p, axis=0) - ops.log(count))


def mean_of_logits(teacher_logits):
    """One teacher of several for the reverse KL: mean_k v_k, the normalised geometric mean.

    mean_k KL(q || p_k) is KL(q || that mean) plus a number that q does not change.
    """
    return ops.mean(ops.stack(list(teacher_logits)), axis=0)


def teach_consistently(teacher, student, x, *, augment, epochs, seed=0, **options):
    """Function matching: in every step the teacher sees the very views that the student sees.

    No label, a live teacher, strong augmentation and a long (patient) schedule. ``student`` is
    trained in place; returns Keras's ``History``. Source: Beyer et al. (2022).

    Args:
        augment: a function of a batch of inputs, such as :func:`mixup`.
        **options: ``temperature``, ``batch_size`` and ``optimizer``, if not 1, 128 and Adam.
    """
    term = DistillationTerm(soft_target_loss, temperature=options.pop("temperature", 1.0))
    distiller = Distiller(teacher, student, term, student_loss_weight=0.0)
    distiller.compile(options.pop("optimizer", "adam"))
    views = as_dataset(x, {}, seed=seed, augment=augment, **options)
    return distiller.fit(views, epochs=epochs, verbose=0)


def mixup(seed=0):
    """An augmentation: r x + (1 - r) x', x' the batch in reverse, r uniform in [0, 1)."""
    generator = keras.random.SeedGenerator(seed)

    def augment(views):
        shape = (ops.shape(views)[0], *[1] * (len(views.shape) - 1))
        share = keras.random.uniform(shape, seed=generator)
        return share * views + (1 - share) * ops.flip(views, axis=0)

    return augment


def _cohort(build, peers):
    members = [as_functional(build()) for _ in range(peers)]
    named = [keras.Model(m.input, m.output, name=f"peer{k}") for k, m in enumerate(members)]
    inputs = keras.Input(members[0].input.shape[1:])
    return keras.Model(inputs, {member.name: member(inputs) for member in named})
