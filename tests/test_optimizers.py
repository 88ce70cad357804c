"""With any optimizer the students are those that Keras trains one by one."""

import keras
import pytest
from keras import optimizers
from students import LABELS, build, largest_difference, train, train_by_keras

from distill_lib.losses import hard_label_loss
from distill_lib.training import many, stacked
from distill_lib.training.optimizers import Recipe

DECAY = optimizers.schedules.ExponentialDecay(0.05, 3, 0.5)
TOGETHER = {
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adam": lambda: optimizers.Adam(0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-3),
    "amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "adamax": lambda: optimizers.Adamax(0.01),
    "nadam": lambda: optimizers.Nadam(0.01),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adadelta": lambda: optimizers.Adadelta(1.0),
    "ftrl": lambda: optimizers.Ftrl(0.1),
    "lion": lambda: optimizers.Lion(0.01),
    "schedule": lambda: optimizers.Adam(DECAY),
    "values": lambda: optimizers.SGD(0.5, clipvalue=0.01),
    "decay": lambda: optimizers.SGD(0.1, weight_decay=0.3),
    "average": lambda: optimizers.Adam(0.02, use_ema=True, ema_momentum=0.8),
    "average in between": lambda: optimizers.Adam(
        0.02, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=5
    ),
    "accumulation": lambda: optimizers.Adam(0.02, gradient_accumulation_steps=3),
    "loss scale": lambda: optimizers.Adam(0.02, loss_scale_factor=64.0),
}
ONE_BY_ONE = {
    "norm of each weight": lambda: optimizers.SGD(0.5, clipnorm=0.05),
    "norm of all weights": lambda: optimizers.SGD(0.5, global_clipnorm=0.05),
    "a norm that is never reached": lambda: optimizers.SGD(0.5, global_clipnorm=1e3),
    "lamb": lambda: optimizers.Lamb(0.05),
    "adafactor": lambda: optimizers.Adafactor(0.05),
    "muon": lambda: optimizers.Muon(0.01),
    "norm after accumulation": lambda: optimizers.SGD(
        0.5, global_clipnorm=0.05, gradient_accumulation_steps=2
    ),
    "norm after scaling": lambda: optimizers.SGD(0.5, clipnorm=0.05, loss_scale_factor=8.0),
}
if hasattr(optimizers, "ScheduleFreeAdamW"):
    ONE_BY_ONE["schedule-free"] = lambda: optimizers.ScheduleFreeAdamW(0.05)


@pytest.mark.parametrize("name", [*TOGETHER, *ONE_BY_ONE])
def test_with_each_optimizer_as_by_keras_alone(name, monkeypatch):
    counts = []

    def program(worker, count, *rest):
        counts.append(count)
        return stacked.Program(worker, count, *rest)

    monkeypatch.setattr(many, "Program", program)
    make = (TOGETHER | ONE_BY_ONE)[name]
    trained = train(hard_label_loss, {"labels": LABELS}, optimizer=make(), seeds=[4, 5])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for model, seed in zip(trained, [4, 5], strict=True):
        alone = train_by_keras(loss, make(), seed)
        assert largest_difference(model, alone) < 2e-5
    keras.utils.set_random_seed(4)
    assert largest_difference(trained[0], build()) > 1e-3
    assert counts == [2 if name in TOGETHER else 1]  # one program, whether for both or in turn


@pytest.mark.parametrize("name", ["nadam", "momentum", "average"])
def test_each_student_begins_with_a_new_optimizer(name, monkeypatch):
    """Where one program trains one student after the other."""
    together = train(hard_label_loss, {"labels": LABELS}, optimizer=TOGETHER[name]())
    monkeypatch.setattr(many, "STUDENTS_PER_CALL", 1)
    in_turn = train(hard_label_loss, {"labels": LABELS}, optimizer=TOGETHER[name]())
    for one, other in zip(together, in_turn, strict=True):
        assert largest_difference(one, other) < 1e-5


def test_a_layer_that_the_loss_leaves_out_keeps_its_weights():
    def make():
        model = build()
        return keras.Model(model.input, {"features": model.layers[1].output, "b": model.output})

    def loss(*, student_features):
        return student_features[:, 0] ** 2

    options = {"make": make, "optimizer": optimizers.AdamW(0.1, weight_decay=0.5)}
    trained = train(loss, {}, **options)
    start = train(loss, {}, **options | {"optimizer": optimizers.SGD(0.0)})
    (first, last), (was_first, was_last) = (
        (one[1].layers[1].kernel.numpy(), one[1].layers[2].kernel.numpy())
        for one in (trained, start)
    )
    assert (last == was_last).all()
    assert not (first == was_first).all()
    with pytest.raises(ValueError, match="must not use_ema where a weight has no part"):
        train(loss, {}, make=make, optimizer=optimizers.SGD(0.1, use_ema=True))


def test_a_name_and_a_rate():
    given = {"labels": LABELS}
    pairs = [
        ({"optimizer": "sgd"}, {"optimizer": optimizers.SGD()}),
        ({"learning_rate": DECAY}, {"optimizer": optimizers.Adam(DECAY)}),
        ({"learning_rate": 1}, {"optimizer": optimizers.Adam(1.0)}),
        ({}, {"optimizer": optimizers.Adam(1e-3)}),
    ]
    for one, other in pairs:
        a, b = (train(hard_label_loss, given, **o, seeds=[3])[0] for o in (one, other))
        assert largest_difference(a, b) == 0


def test_the_optimizer_given_is_left_alone():
    optimizer = optimizers.Adam(0.01)
    first, second = (
        train(hard_label_loss, {"labels": LABELS}, optimizer=optimizer) for _ in range(2)
    )
    assert int(optimizer.iterations) == 0
    assert largest_difference(first[1], second[1]) == 0


def used():
    optimizer = optimizers.SGD()
    optimizer.apply_gradients([(keras.ops.ones(()), keras.Variable(1.0))])
    return optimizer


def selective():
    optimizer = optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((optimizers.SGD(), 0.1), "learning_rate must be given to the optimizer itself"),
        (("sgd", 0.1), "learning_rate must be given to the optimizer itself"),
        (("sdg", None), "sdg"),
        ((optimizers.LossScaleOptimizer(optimizers.SGD()), None), "got LossScaleOptimizer"),
        ((optimizers.SGD(lambda: 0.1), None), "must be a number or a Keras schedule"),
        ((used(), None), "optimizer must be a new one, got one that made 1 updates"),
        ((selective(), None), "AdamW with exclude_from_weight_decay"),
    ],
)
def test_what_a_copy_could_not_stand_for_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Recipe(*arguments)
