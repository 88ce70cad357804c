"""A training that goes wrong stops; the error names the signal, the row and the step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_distiller import LABEL_LOSS, LABELS, X, compiled, net, soft, teacher_net

from distill_lib import losses
from distill_lib.distiller import Distiller
from distill_lib.distiller.watch import Watch, batches_of
from distill_lib.terms import DistillationTerm

MATCHING = DistillationTerm(losses.logit_matching_loss)


def stored(**changes):
    return {"labels": LABELS, "teacher_logits": np.asarray(teacher_net()(X)), **changes}


def with_value(array, row, value):
    array = np.array(array)
    array[row] = value
    return array


def dataset(x, y):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 3

    def __getitem__(self, number):
        rows = slice(8 * number, 8 * number + 8)
        return self.x[rows], keras.tree.map_structure(lambda one: one[rows], self.y)


FORMS = {
    "arrays": (lambda x, y: ((x, y), {"batch_size": 8, "shuffle": False}), "row 17$"),
    "dataset": (lambda x, y: ((dataset(x, y),), {}), "row 1 of batch 2$"),
    "batches": (lambda x, y: ((Batches(x, y),), {"shuffle": False}), "row 1 of batch 2$"),
}
FAULTS = {
    "labels too large": (X, stored(labels=with_value(LABELS, 17, 3)), "labels is 3"),
    "labels too small": (X, stored(labels=with_value(LABELS, 17, -1)), "labels is -1"),
    "teacher's nan": (
        X,
        stored(teacher_logits=with_value(stored()["teacher_logits"], 17, np.nan)),
        "teacher_logits is nan",
    ),
    "teacher's inf": (
        X,
        stored(teacher_logits=with_value(stored()["teacher_logits"], 17, np.inf)),
        "teacher_logits is inf",
    ),
    "x": (with_value(X, (17, 2), np.nan), stored(), "x is nan"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_signal_the_row_and_the_step_are_named(fault, form):
    x, y, text = FAULTS[fault]
    make, place = FORMS[form]
    data, options = make(x, y)
    distiller = compiled(Distiller(None, net(), soft()), run_eagerly=fault == "x")
    with pytest.raises(
        ValueError, match=f"loss must stay finite, got .* step 3: {text} in {place}"
    ):
        distiller.fit(*data, verbose=0, **options)


def test_labels_that_count_from_one_are_named():
    distiller = compiled(Distiller(teacher_net(), net(), soft()))
    row = int(np.argmax(LABELS == 2))
    with pytest.raises(ValueError, match=f"at step 1: labels is 3 in row {row}$"):
        distiller.fit(X, LABELS + 1, batch_size=24, verbose=0)


def test_the_classes_of_a_model_that_hides_its_graph_are_known_too():
    class Hidden(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return {"logits": self.dense(x)}

    distiller = compiled(Distiller(None, Hidden(), student_loss_weight=1.0))
    labels = with_value(LABELS, 5, 7)
    with pytest.raises(ValueError, match=r"at step 1: labels/logits is 7 in row 5$"):
        distiller.fit(X, {"logits": labels}, batch_size=24, verbose=0)


def test_what_does_not_count_is_not_named():
    logits = with_value(with_value(stored()["teacher_logits"], 2, np.nan), 9, np.nan)
    y = stored(teacher_logits=logits, labels=with_value(LABELS, 1, 255))
    weights = np.ones(24, "float32")
    weights[[1, 2]] = 0
    distiller = compiled(Distiller(None, net(), soft()))
    with pytest.raises(ValueError, match=r"teacher_logits is nan in row 9$"):
        distiller.fit(X, y, sample_weight=weights, batch_size=24, verbose=0)
    y["mask"] = weights > 0
    with pytest.raises(ValueError, match=r"teacher_logits is nan in row 9$"):
        distiller.fit(X, y, batch_size=24, verbose=0)


def test_a_weight_that_is_nan_is_named():
    weights = with_value(np.ones(24, "float32"), 4, np.nan)
    distiller = compiled(Distiller(teacher_net(), net(), soft()))
    with pytest.raises(ValueError, match=r"sample_weight is nan in row 4$"):
        distiller.fit(X, LABELS, sample_weight=weights, batch_size=24, verbose=0)


def test_a_live_teacher_is_named():
    teacher = net(7, 0)
    teacher.layers[-1].bias.assign([np.nan, 0, 0])
    distiller = compiled(Distiller(teacher, net(), soft()))
    with pytest.raises(ValueError, match=r"teacher_logits of 'net' is nan in row 0$"):
        distiller.fit(X, LABELS, batch_size=24, verbose=0)


def test_a_teachers_minus_infinity_is_no_fault():
    y = stored(teacher_logits=with_value(stored()["teacher_logits"], (3, 0), -np.inf))
    history = compiled(Distiller(None, net(), soft())).fit(X, y, verbose=0).history
    assert np.isfinite(history["loss"][0])


def test_with_good_data_the_learning_rate_is_suspected():
    distiller = compiled(Distiller(None, net(), MATCHING), optimizer=keras.optimizers.SGD(1e9))
    with pytest.raises(ValueError, match=r"learning rate, the knobs, \{'logit_matching_loss'"):
        distiller.fit(X, stored(), epochs=50, batch_size=8, verbose=0)


def test_nan_weights_are_not_saved_after_an_epoch_whose_loss_was_finite(tmp_path):
    """The gradient overflows in the only step, of which the loss is measured before."""
    path = tmp_path / "student.keras"
    distiller = compiled(Distiller(None, net(), MATCHING), optimizer=keras.optimizers.SGD(3e38))
    saves = keras.callbacks.ModelCheckpoint(path)
    y = stored(teacher_logits=1e4 * stored()["teacher_logits"])
    with pytest.raises(ValueError, match=r"weights must stay finite, got .* after step 1"):
        distiller.fit(X, y, batch_size=24, verbose=0, callbacks=[saves])
    assert not path.exists()


@pytest.mark.parametrize("in_dataset", [False, True])
def test_validation_is_watched(in_dataset):
    labels = with_value(LABELS, 5, 3)
    data = (dataset(X, labels), None) if in_dataset else (X, labels)
    data = data[0] if in_dataset else data
    place = "row 5 of batch 0$" if in_dataset else "row 5$"
    distiller = compiled(Distiller(None, net(), soft()))
    with pytest.raises(ValueError, match=f"val_loss must .* step 1: labels is 3 in {place}"):
        distiller.fit(X, stored(), batch_size=24, validation_data=data, verbose=0)


def test_a_generator_cannot_be_searched():
    def batches():
        while True:
            yield X[:8], LABELS[:8] + 1

    distiller = compiled(Distiller(None, net(), student_loss_weight=1.0))
    with pytest.raises(ValueError, match="data of the type generator cannot be searched"):
        distiller.fit(batches(), steps_per_epoch=2, shuffle=False, verbose=0)


def test_inputs_in_dictionaries_and_lists_are_searched():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    joined = keras.layers.Dense(3)(keras.layers.Concatenate()([a, b]))
    inputs = {"a": X, "b": with_value(X, 11, np.inf)}
    distiller = compiled(Distiller(None, keras.Model({"a": a, "b": b}, joined), (), None, 1.0))
    with pytest.raises(ValueError, match=r"x/b is inf in row 11$"):
        distiller.fit(inputs, LABELS, batch_size=24, verbose=0)


def test_a_long_array_is_searched_in_batches():
    places = [place(3) for place, *_ in batches_of((np.zeros((600, 2)), None, None))]
    assert places == ["row 3", "row 259", "row 515"]


def test_an_endless_data_set_is_searched_for_a_while():
    data = tf.data.Dataset.from_tensors((X[:2], LABELS[:2])).repeat()
    assert sum(1 for _ in batches_of((data, None, None))) == 1000


def test_a_monitor_must_be_logged():
    distiller = compiled(Distiller(teacher_net(), net(), soft()))
    stops = keras.callbacks.EarlyStopping("total_loss")
    with pytest.raises(ValueError, match=r"monitor must be one of \['dist.*total_loss is loss"):
        distiller.fit(X, LABELS, verbose=0, callbacks=[stops])
    watch = Watch((X, LABELS, None), None, [keras.callbacks.EarlyStopping("val_accuracy")])
    watch.set_model(distiller)
    watch.on_epoch_end(0, {"loss": 1.0})  # an epoch without validation
    with pytest.raises(ValueError, match="monitor must be one of"):
        watch.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0})


def test_a_step_of_ones_own_may_log_other_things():
    class Own(Distiller):
        def train_step(self, data):
            return {"mine": super().train_step(data)["loss"]}

    distiller = Own(teacher_net(), net(), soft())
    distiller.compile("sgd", LABEL_LOSS)
    assert distiller.fit(X, LABELS, verbose=0).history.keys() == {"mine"}
