"""Probes of one training or evaluation step: passes, weights, penalties, masks, metrics."""

import keras
import numpy as np

from .pieces import (
    CLASSES,
    ROWS,
    Finding,
    TrainingCalls,
    evaluated,
    examples,
    network,
    prepared,
)


def student_passes(candidate):
    """A training step with features runs the student once: passes counted."""
    counter = TrainingCalls()
    loss = candidate.features("hidden", "hidden")
    made = prepared(candidate, network(), network(counter, seed=1), loss, label_share=0.5)
    made.train_on_batch(*examples())
    return Finding(float(counter.count), 1)


def _weighted(candidate, **weights):
    made = prepared(
        candidate, network(), network(seed=1), candidate.logits(2.0), label_share=0.5
    )
    return float(made.train_on_batch(*examples(), return_dict=True, **weights)["loss"])


def sample_weight(candidate):
    """`sample_weight` of 2 doubles the loss: loss with over loss without."""
    doubled = _weighted(candidate, sample_weight=np.full(ROWS, 2.0, "float32"))
    return Finding(doubled / _weighted(candidate), 2)


def class_weight(candidate):
    """`class_weight` of 2 for every class doubles the loss: loss with over loss without."""
    doubled = _weighted(candidate, class_weight=dict.fromkeys(range(CLASSES), 2.0))
    return Finding(doubled / _weighted(candidate), 2)


def regulariser(candidate):
    """The student's own penalties are added: what they add over what they are."""
    penalised = network(seed=1, kernel_regularizer=keras.regularizers.L2(1.0))
    losses = [
        evaluated(
            candidate, network(), one, candidate.logits(2.0), *examples(), label_share=0.5
        )
        for one in (penalised, network(seed=1))
    ]
    return Finding((losses[0] - losses[1]) / float(sum(penalised.losses)), 1)


def _tagger(seed):
    """A model of sequences, one row of logits for each token; token 0 is padding."""
    keras.utils.set_random_seed(seed)
    tokens = keras.Input((None,), dtype="int32")
    vectors = keras.layers.Embedding(7, 4, mask_zero=True, embeddings_initializer="normal")
    return keras.Model(tokens, keras.layers.Dense(CLASSES, name="logits")(vectors(tokens)))


def _padding(candidate, label_share):
    """The loss of padded sequences over the loss of the same tokens without padding."""
    tokens, y = np.array([[1, 2, 0, 0], [3, 4, 0, 0]]), np.array([[0, 1, 2, 2], [1, 2, 0, 0]])
    padded, cut = (
        evaluated(
            candidate, _tagger(1), _tagger(2), candidate.logits(2.0),
            tokens[:, :length], y[:, :length], label_share=label_share,
        )
        for length in (4, 2)
    )  # fmt: skip
    return Finding(padded / cut, 1)


def distillation_mask(candidate):
    """Padding does not count in the distillation loss: padded over not padded."""
    return _padding(candidate, 0.0)


def label_mask(candidate):
    """Padding does not count in the label loss: padded over not padded."""
    return _padding(candidate, 1.0)


def single_loss_weight(candidate):
    """The weight of a loss counts even if the loss stands alone, not in a list: the factor."""
    losses = [
        evaluated(
            candidate, network(), network(seed=1), None, *examples(),
            distillation_losses=candidate.logits(2.0), distillation_loss_weights=[weight],
        )
        for weight in (7.0, 1.0)
    ]  # fmt: skip
    return Finding(losses[0] / losses[1], 7)


def annealing(candidate):
    """A temperature changed after the first step counts: loss over that of a fresh start."""
    loss = candidate.logits(1.0)
    made = prepared(candidate, network(), network(seed=1), loss, graph=True)
    made.test_on_batch(*examples())
    candidate.set_temperature(loss, 4.0)
    changed = float(made.test_on_batch(*examples(), return_dict=True)["loss"])
    pair = network(), network(seed=1)
    return Finding(changed / evaluated(candidate, *pair, candidate.logits(4.0), *examples()), 1)


def evaluate_changes(candidate):
    """`evaluate` leaves the student as it was: largest change of a prediction."""
    student = network(keras.layers.BatchNormalization(momentum=0.5), seed=1)
    loss = candidate.features("hidden", "hidden")
    made = prepared(candidate, network(), student, loss, label_share=0.5)
    x, y = examples()
    before = student(x)
    made.evaluate(x, y, verbose=0)
    return Finding(float(keras.ops.max(keras.ops.abs(student(x) - before))), 0)


def evaluate_noise(candidate):
    """`evaluate` draws no random numbers: difference between two of its losses."""
    student = network(keras.layers.Dropout(0.5), seed=1)
    loss = candidate.features("logits", "logits")
    made = prepared(candidate, network(), student, loss, label_share=0.5)
    first, second = (made.evaluate(*examples(), verbose=0, return_dict=True) for _ in "ab")
    return Finding(abs(first["loss"] - second["loss"]), 0)


def batch_means(candidate):
    """What `evaluate` reports does not hang on the batch size: largest difference."""
    x, y = examples()
    y = np.where(np.arange(ROWS) < ROWS - 1, network(seed=1).predict(x, verbose=0).argmax(1), y)
    reports = []
    for size in (ROWS, ROWS - 1):
        made = prepared(
            candidate, network(), network(seed=1), candidate.logits(2.0), label_share=0.5
        )
        reports.append(made.evaluate(x, y, batch_size=size, verbose=0, return_dict=True))
    return Finding(max(abs(reports[0][name] - reports[1][name]) for name in reports[0]), 0)


PROBES = (
    student_passes,
    sample_weight,
    class_weight,
    regulariser,
    distillation_mask,
    label_mask,
    single_loss_weight,
    annealing,
    evaluate_changes,
    evaluate_noise,
    batch_means,
)
