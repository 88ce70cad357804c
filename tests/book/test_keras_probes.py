"""The probes of keras.distillation: each can say right and wrong; and the committed table."""

import csv
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tools.measure import conformance

FOLDER = Path(__file__).parents[2] / "book" / "code"
sys.path.append(str(FOLDER))

import keras_probes  # noqa: E402 (it needs the path above)
from keras_probes import losses, models, pieces  # noqa: E402


def outcome(probe, candidate):
    return keras_probes.examine(candidate, [probe])[probe.__name__].outcome


def with_distiller(distiller):
    return keras_probes.keras_instances()._replace(distiller=distiller)


class Careless(keras.distillation.Distiller):
    """Trains its teacher, and runs it in training mode."""

    def __init__(self, teacher, **options):
        super().__init__(teacher, **options)
        teacher.trainable = True

    def _extract_all_teacher_features(self, x):
        return {"final_output": self.teacher(x, training=True)}


class Demanding(keras.distillation.Distiller):
    """Refuses to train without labels."""

    def compute_loss(self, x=None, y=None, *others, **options):
        if y is None:
            raise ValueError("y must be given, got None")
        return super().compute_loss(x, y, *others, **options)


class Lazy(keras.distillation.Distiller):
    """Takes what it is given and never trains."""

    def train_step(self, data):
        return {"loss": 0.0}


class Forgetful(keras.distillation.Distiller):
    """Saves other weights than it has."""

    def save(self, path):
        kept = self.student.get_weights()
        self.student.set_weights([0 * one for one in kept])
        super().save(path)
        self.student.set_weights(kept)


@pytest.mark.parametrize(
    ("probe", "distiller", "expected"),
    [
        (models.teacher_weights, Careless, "wrong"),
        (models.teacher_mode, Careless, "wrong"),
        (models.without_labels, Demanding, "raises"),
        (models.without_labels, Lazy, "wrong"),
    ],
)
def test_a_probe_that_keras_passes_catches_what_it_is_for(probe, distiller, expected):
    assert outcome(probe, with_distiller(keras.distillation.Distiller)) == "right"
    assert outcome(probe, with_distiller(distiller)) == expected


def test_lost_weights_are_noticed(monkeypatch):
    load = keras.models.load_model
    custom = {"Forgetful": Forgetful}
    monkeypatch.setattr(keras.models, "load_model", lambda p: load(p, custom_objects=custom))
    assert outcome(models.reloaded_weights, with_distiller(Forgetful)) == "wrong"


@pytest.mark.parametrize("factor", [0.0, 0.998, 1.002, -1.0])
def test_a_wrong_value_of_the_instance_is_noticed(monkeypatch, factor):
    original = keras.distillation.LogitsDistillation.compute_loss

    def scaled(self, *outputs, **options):
        return factor * original(self, *outputs, **options)

    monkeypatch.setattr(keras.distillation.LogitsDistillation, "compute_loss", scaled)
    assert outcome(losses.divergence_instance, keras_probes.keras_instances()) == "wrong"


def test_the_divergence_by_hand_is_the_textbook_one():
    teacher, student = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    wanted = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert np.isclose(pieces.divergence(teacher, student, 1.0), wanted)
    assert np.isclose(pieces.divergence(2 * teacher, 2 * student, 2.0), 4 * wanted)


def test_an_error_is_told_from_silence():
    assert pieces.Finding(0.0, 1, raised=True).outcome == "raises"
    assert pieces.Finding(0.9, 1).outcome == "wrong"
    assert pieces.Finding(1.0005, 1).outcome == "right"
    with pytest.raises(ZeroDivisionError):  # an error that was not expected is not a finding
        pieces.runs(lambda: 1 / 0, ValueError)


def test_every_probe_says_what_it_claims_and_measures():
    for probe in keras_probes.PROBES:
        claim, colon, measure = probe.__doc__.splitlines()[0].partition(": ")
        assert all((claim, colon, measure)), probe.__name__


def test_the_table_holds_every_probe_for_every_release():
    with conformance.RESULTS.open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    names = [probe.__name__ for probe in keras_probes.PROBES]
    releases = dict.fromkeys(row["keras"] for row in table)
    assert [(row["keras"], row["probe"]) for row in table] == [
        (release, name) for release in releases for name in names
    ]
    assert list(releases) == sorted(releases, key=conformance.number)
    for row in table:
        near = abs(float(row["value"]) - float(row["expected"])) <= pieces.TOLERANCE
        assert near == (row["outcome"] == "right"), row


def test_the_index_is_read_from_the_first_release_on():
    listing = "keras (4.0.0)\nAvailable versions: 4.0.0, 3.12.10, 3.12.9, 3.13.0rc1, 3.11.3"
    assert conformance.releases(listing) == ["3.12.9", "3.12.10", "4.0.0"]


def test_a_release_that_has_been_probed_is_not_probed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(conformance, "WORKPLACE", tmp_path)
    monkeypatch.setattr(conformance.subprocess, "run", lambda *a, **k: pytest.fail("ran"))
    done = tmp_path / f"3.12.0-{conformance.fingerprint()}.json"
    done.write_text("{}")
    assert conformance.probe("3.12.0") == done


def test_another_keras_than_the_named_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(conformance, "WORKPLACE", tmp_path)

    def run(program, **options):
        Path(program[-1]).write_text('{"versions": {"keras": "3.15.1"}}')

    monkeypatch.setattr(conformance.subprocess, "run", run)
    with pytest.raises(SystemExit, match=r"3\.12\.0 was to be probed, but 3\.15\.1"):
        conformance.probe("3.12.0")


def test_changed_probes_have_another_fingerprint(tmp_path):
    (tmp_path / "a.py").write_text("1")
    before = conformance.fingerprint(tmp_path)
    (tmp_path / "a.py").write_text("2")
    assert conformance.fingerprint(tmp_path) != before
