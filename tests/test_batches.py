"""What counts and what does not, own subsets, and numbers that no loss could use."""

import keras
import numpy as np
import pytest
from students import (
    LABELS,
    OPTIONS,
    RNG,
    TEACHER,
    X,
    build,
    largest_difference,
    train,
    train_by_keras,
)

from distill_lib import signals
from distill_lib.losses import distance_relation_loss, hard_label_loss, soft_target_loss
from distill_lib.training import batch_rows, train_many
from distill_lib.training.batches import Data
from distill_lib.training.row_checks import check_rows

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
WEIGHT = RNG.choice([0.0, 0.5, 2.0], 60).astype("float32")
COUNTS = RNG.random(60) < 0.6


def spoilt(array, where, value=np.nan):
    return np.where(where.reshape(-1, *[1] * (array.ndim - 1)), value, array).astype(
        array.dtype
    )


@pytest.mark.parametrize("seeds", [[4, 5], [5]])
def test_sample_weights_act_as_in_keras(seeds):
    given = {"labels": LABELS, "sample_weight": WEIGHT}
    trained = train(hard_label_loss, given, seeds=seeds, learning_rate=0.01)
    alone = train_by_keras(LOSS, keras.optimizers.Adam(0.01), 5, weight=WEIGHT)
    assert largest_difference(trained[-1], alone) < 1e-5
    assert largest_difference(trained[-1], train(hard_label_loss, {"labels": LABELS})[1]) > 1e-3


def test_a_mask_leaves_out_the_examples_of_a_batch():
    """The mean over those that count: as with a loss that is told which they are."""

    def told(*, labels, student_logits, kept):
        values = hard_label_loss(labels=labels, student_logits=student_logits)
        return keras.ops.sum(values * kept) / keras.ops.sum(kept) * keras.ops.ones_like(values)

    masked = train(hard_label_loss, {"labels": LABELS, "mask": COUNTS})
    expected = train(told, {"labels": LABELS, "kept": COUNTS.astype("float32")})
    assert largest_difference(masked[1], expected[1]) < 1e-6
    everything = train(hard_label_loss, {"labels": LABELS, "mask": np.ones(60, bool)})
    plain = train(hard_label_loss, {"labels": LABELS})
    assert largest_difference(everything[1], plain[1]) < 1e-6


@pytest.mark.parametrize("kind", ["mask", "sample_weight"])
def test_what_does_not_count_may_hold_anything(kind):
    out = ~COUNTS if kind == "mask" else WEIGHT == 0
    given = {kind: COUNTS if kind == "mask" else WEIGHT}
    clean = train(soft_target_loss, given | {"teacher_logits": TEACHER})
    dirty = train(soft_target_loss, given | {"teacher_logits": spoilt(TEACHER, out)})
    assert largest_difference(clean[1], dirty[1]) == 0
    labels = train(hard_label_loss, given | {"labels": LABELS})
    padded = train(hard_label_loss, given | {"labels": spoilt(LABELS, out, -100)})
    assert largest_difference(labels[1], padded[1]) == 0


def test_what_does_not_count_is_nobodys_partner():
    def make():
        model = build()
        return keras.Model(model.input, {"features": model.layers[1].output})

    def trained(teacher, **given):
        given["teacher_features"] = teacher
        return train(distance_relation_loss, given, make=make, learning_rate=0.01)[1]

    for given in ({"mask": COUNTS}, {"sample_weight": COUNTS.astype("float32")}):
        other = spoilt(TEACHER, ~COUNTS, 7.0)
        assert largest_difference(trained(TEACHER, **given), trained(other, **given)) == 0
    assert largest_difference(trained(TEACHER), trained(other)) > 1e-3


WORDS = RNG.integers(1, 9, (60, 4))
WORDS[::2, 2:] = 0


def tagger(mask_zero=True):
    inputs = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(9, 3, mask_zero=mask_zero)(inputs)
    x = keras.layers.Dense(4, activation="tanh")(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def test_the_students_own_mask_counts():
    """The teacher's answers on padding change nothing, not even as nan."""
    teacher = RNG.normal(size=(60, 4, 3)).astype("float32")
    padded = np.where((WORDS == 0)[..., None], np.nan, teacher).astype("float32")
    options = {"make": tagger, "x": WORDS, "learning_rate": 0.01}
    clean = train(soft_target_loss, {"teacher_logits": teacher}, **options)
    dirty = train(soft_target_loss, {"teacher_logits": padded}, **options)
    assert largest_difference(clean[1], dirty[1]) == 0
    labels = RNG.integers(0, 3, (60, 4))
    own = train(hard_label_loss, {"labels": labels}, **options)
    alone = train_by_keras(LOSS, keras.optimizers.Adam(0.01), 1, make=tagger, x=WORDS, y=labels)
    assert largest_difference(own[1], alone) < 1e-5


def test_a_mask_that_keras_loses_can_be_given():
    labels = RNG.integers(0, 3, (60, 4))
    options = {"x": WORDS, "learning_rate": 0.01, "seeds": [1]}

    def without_mask():
        return tagger(mask_zero=False)

    given = {"labels": labels, "mask": WORDS != 0}
    (by_hand,) = train(hard_label_loss, given, make=without_mask, **options)
    (own,) = train(hard_label_loss, {"labels": labels}, make=tagger, **options)
    (ignored,) = train(hard_label_loss, {"labels": labels}, make=without_mask, **options)
    assert largest_difference(by_hand, own) < 1e-6
    assert largest_difference(by_hand, ignored) > 1e-4


def test_a_loss_may_weigh_by_itself():
    def weighing(*, labels, student_logits, sample_weight):
        values = hard_label_loss(labels=labels, student_logits=student_logits)
        return values * sample_weight

    given = {"labels": LABELS, "sample_weight": WEIGHT}
    own, usual = (train(loss, given)[1] for loss in (weighing, hard_label_loss))
    assert largest_difference(own, usual) < 1e-6


def test_each_seed_may_have_its_own_subset():
    """As if the student had been given nothing but its rows; lengths may differ."""
    subsets = [np.arange(0, 60, 3), RNG.permutation(60)[:33]]
    given = {"labels": LABELS, "teacher_logits": TEACHER}
    loss = soft_target_loss
    both = train(loss, {"teacher_logits": TEACHER}, subsets=subsets)
    for k, rows in enumerate(subsets):
        own = {"teacher_logits": given["teacher_logits"][rows]}
        (alone,) = train(loss, own, x=X[rows], seeds=[k])
        assert largest_difference(both[k], alone) < 1e-6
    all_rows = train(loss, {"teacher_logits": TEACHER}, subsets=[np.arange(60)] * 2)
    assert largest_difference(all_rows[1], train(loss, {"teacher_logits": TEACHER})[1]) == 0
    bad = train(
        loss, {"teacher_logits": spoilt(TEACHER, np.arange(60) == 1)}, subsets=[[0], [2]]
    )
    assert len(bad) == 2  # row 1 is nobody's


def test_stored_signals_are_named_when_they_spoil_the_loss():
    inputs = keras.Input((5,))
    teacher = keras.Model(inputs, keras.ops.log(inputs)[:, :3])
    x = np.abs(X) + 0.1
    x[27] = -1
    live = signals.live(teacher, x)
    with pytest.raises(ValueError, match="teacher_logits must be finite or -inf, but row 27"):
        train(soft_target_loss, {"teacher_logits": live}, steps=30)


def test_a_teacher_may_say_never_but_not_certainly():
    never = TEACHER.copy()
    never[::3, 0] = -np.inf
    check_rows(Data(X, {"teacher_logits": never}, [0]), [np.arange(60)])
    never[4, 1] = np.inf
    with pytest.raises(ValueError, match="finite or -inf where it counts, got inf in row 4"):
        check_rows(Data(X, {"teacher_logits": never}, [0]), [np.arange(60)])


def test_a_mask_of_steps_leaves_out_vectors_of_examples_without_any_step():
    steps = WORDS != 0
    steps[6] = False
    given = {"mask": steps, "teacher_features": spoilt(TEACHER, np.arange(60) == 6)}
    check_rows(Data(WORDS, given, [0]), [np.arange(60)])
    given["teacher_features"] = spoilt(TEACHER, np.arange(60) == 8)
    with pytest.raises(
        ValueError, match="teacher_features must be finite where it counts, got nan"
    ):
        check_rows(Data(WORDS, given, [0]), [np.arange(60)])


def test_every_pass_shows_every_example_once_in_a_new_order():
    rows = batch_rows(10, seed=0, steps=6, batch_size=4)
    assert rows.shape == (6, 4)
    first, second = rows.ravel()[:10], rows.ravel()[10:20]
    assert sorted(first) == sorted(second) == list(range(10))
    assert not np.array_equal(first, second)
    assert not np.array_equal(rows, batch_rows(10, seed=1, steps=6, batch_size=4))


ROWS = np.arange(60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": spoilt(X, ROWS == 9)}, "x must be finite where it counts, got nan in row 9"),
        ({"labels": LABELS + 1}, "labels must lie from 0 to 2 where it counts, got 3 in row"),
        ({"labels": spoilt(LABELS, ROWS == 8, -1)}, "labels must lie from 0 to 2 .* row 8"),
        ({"teacher_logits": spoilt(TEACHER, ROWS == 5)}, "got nan in row 5"),
        (
            {"teacher_logits": np.full((60, 3), 1 / 3)},
            "teacher_logits must be logits, got probabilities",
        ),
        ({"sample_weight": spoilt(WEIGHT, ROWS == 2)}, "sample_weight must be finite .* row 2"),
        ({"mask": WEIGHT}, "mask must be boolean"),
        ({"mask": np.ones((60, 2), bool)}, "mask must have the leading axes of x or of a sig"),
        (
            {"labels": list(LABELS)},
            r"labels must have 2 entries .* one value for all is",
        ),
        ({"labels": [1, 2]}, "labels must have 60 rows as x has, got 1"),
        ({"x": X.tolist()}, "x must be one array"),
        ({"subsets": [ROWS]}, "subsets must have 2 entries like seeds, got 1"),
        ({"subsets": [ROWS, ROWS > 3]}, "one array of row numbers for each seed, got bool"),
        ({"subsets": [ROWS, ROWS + 1]}, "row numbers from 0 to 59, got 1 to 60"),
        ({"subsets": [ROWS, ROWS[:0]]}, "one array of row numbers for each seed"),
        ({"subsets": 3}, "subsets must"),
    ],
)
def test_bad_numbers_are_refused_by_name_and_row(change, message):
    names = {"labels", "teacher_logits", "sample_weight", "mask"}
    given = {name: value for name, value in change.items() if name in names}
    loss = soft_target_loss if "teacher_logits" in given else hard_label_loss
    if "labels" not in given and loss is hard_label_loss:
        given["labels"] = LABELS
    rest = {name: value for name, value in change.items() if name not in names}
    options = {"x": X, "seeds": [0, 1], "loss": loss, **OPTIONS} | rest
    with pytest.raises(ValueError, match=message):
        train_many(build, signals=given, **options)
