"""The book's timings: ratios of two ways of doing one thing, measured in turn in one run.

    python -m tools.measure.bench [--repeats 5] [--torch PYTHON] [--output FOLDER]

A row runs A, B, A, B, ... after one unmeasured round of each; its ratio is the median of
A / B over the pairs, its spread the lowest and the highest. The table is printed and written
as `bench.json` and `bench.md`. PyTorch is no dependency of the book: its row runs
`torch_loop.py` with another interpreter, or is left out.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from distill_lib import data, evaluate, losses, models, signals
from distill_lib.distiller import Distiller
from distill_lib.teacher import load_teacher_logits
from distill_lib.terms import DistillationTerm
from distill_lib.training import batch_rows, train_many
from tools.run.sweep_run import recipe

HERE = Path(__file__).parent
IMAGES, BATCH = 12_000, 128  # an epoch of all training images
LIVE_IMAGES = 2_560  # the same, where both sides run large networks
STUDENTS, STUDENT_STEPS, ALONE = 64, 1_000, 4
FEW, FEW_STEPS, TEST_IMAGES = range(10), 200, 10_000
MEMORY_SEEDS, MEMORY_STEPS, TOP, DRAWS = range(10), 1_000, 3, 16
LABEL_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def main(arguments=None):
    """Measure all rows, print and store the table."""
    parser = argparse.ArgumentParser("bench", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="pairs a row")
    parser.add_argument("--torch", help="a Python with PyTorch and NumPy")
    parser.add_argument("--output", type=Path, default=HERE.parents[1] / "book" / "trends")
    options = parser.parse_args(arguments)
    if options.repeats < 2:
        parser.error(f"--repeats must be at least 2, got {options.repeats}")
    measured = (cached, labels_only, features, large, many, answering, convolutional)
    rows = [row(make, options.repeats) for make in measured]
    rows += [torch_row(options)] if options.torch else []
    table = {"rows": rows, "memory": memory(), **recipe()}
    options.output.joinpath("bench.json").write_text(json.dumps(table, indent=1) + "\n")
    options.output.joinpath("bench.md").write_text(as_markdown(table))
    print(as_markdown(table))


def row(make, repeats):
    """Time the two sides in turn; ``make`` returns name, aim, and one function for each."""
    name, aim, slow, fast = make()
    slow(), fast()
    pairs = [(seconds(slow), seconds(fast)) for _ in range(repeats)]
    print(name, pairs, file=sys.stderr, flush=True)
    return summary(name, aim, pairs)


def summary(name, aim, pairs):
    """One row of the table from the seconds of its pairs."""
    ratios = sorted(a / b for a, b in pairs)
    medians = [round(float(np.median(side)), 4) for side in zip(*pairs, strict=True)]
    spread = {"low": ratios[0], "ratio": float(np.median(ratios)), "high": ratios[-1]}
    return {"row": name, "aim": aim, **spread, "seconds": medians, "pairs": len(pairs)}


def seconds(function):
    """The time that a call takes, unless it returns its own measure."""
    began = time.perf_counter()
    own = function()
    return time.perf_counter() - began if own is None else own


@functools.cache
def images():
    """Training images, labels and the stored answers of the shipped teacher."""
    splits = data.load_fashion_mnist()
    return splits.x_train, splits.y_train, load_teacher_logits("train")


def epoch(model, x, y, **options):
    """A function that runs one epoch of ``fit``; graph mode, as on the book's pages."""
    model.compile("adam", loss=LABEL_LOSS, jit_compile=False)

    def run():
        model.fit(x, y, batch_size=BATCH, verbose=0, **options)

    return run


def cached_epoch(count=IMAGES):
    x, _, logits = images()
    term = DistillationTerm(losses.soft_target_loss, temperature=3.0)
    distiller = Distiller(None, models.build_student(), term, student_loss_weight=0.0)
    return epoch(distiller, x[:count], {"teacher_logits": logits[:count]})


def cached():
    """Keras's own class, with the setting of it that is right, against stored answers."""
    x, y, _ = images()
    theirs = keras.distillation.Distiller(
        models.load_teacher(),
        models.build_student(),
        keras.distillation.LogitsDistillation(3.0, keras.losses.KLDivergence()),
        student_loss_weight=0.0,
    )
    return (
        "epoch: Keras's live teacher / stored answers",
        ">= 12",
        epoch(theirs, x, y),
        cached_epoch(),
    )


def labels_only():
    x, y, _ = images()
    alone = epoch(models.build_student(), x, y)
    return "epoch: stored answers / labels only", "<= 1.2", cached_epoch(), alone


def hint_pair(build, layer, student_layer):
    """A hint from the live teacher's layer: Keras's class and ours, on the same images."""
    x, y, _ = images()
    theirs = keras.distillation.Distiller(
        models.load_teacher(),
        build(),
        keras.distillation.FeatureDistillation(
            "mse", teacher_layer_name=layer, student_layer_name=student_layer
        ),
    )
    names = {"teacher_layer": layer, "student_layer": student_layer}
    ours = Distiller(
        models.load_teacher(), build(), DistillationTerm(losses.hint_loss, **names)
    )
    return [epoch(one, x[:LIVE_IMAGES], y[:LIVE_IMAGES]) for one in (theirs, ours)]


def features():
    pair = hint_pair(models.build_student, "pooled", "hidden")
    return "live hint, small student: Keras's Distiller / ours", ">= 1.5", *pair


def large():
    pair = hint_pair(models.build_teacher, "pooled", "pooled")
    return "live hint, student like the teacher: Keras's Distiller / ours", ">= 1.5", *pair


def many():
    """64 students of scikit-learn's digits: one ``fit`` each, or all as one program."""
    digits = data.load_digits()
    x, y = digits.x_train, digits.y_train
    teacher = np.eye(10, dtype="float32")[y] * 8

    def build():
        return models.build_student(32, input_shape=(64,))

    def one_by_one():
        """Only some of them, for the time is proportional to their number."""
        began = time.perf_counter()
        for seed in range(ALONE):
            keras.utils.set_random_seed(seed)
            term = DistillationTerm(losses.soft_target_loss)
            student = Distiller(None, build(), term, student_loss_weight=0.0)
            student.compile("adam", jit_compile=False)
            rows = np.random.default_rng(seed).integers(len(x), size=32 * STUDENT_STEPS)
            student.fit(x[rows], {"teacher_logits": teacher[rows]}, batch_size=32, verbose=0)
        return (time.perf_counter() - began) / ALONE

    def together():
        began = time.perf_counter()
        options = {"steps": STUDENT_STEPS, "batch_size": 32, "seeds": range(STUDENTS)}
        train_many(
            build, x, {"teacher_logits": teacher}, loss=losses.soft_target_loss, **options
        )
        return (time.perf_counter() - began) / STUDENTS

    return (
        f"a student of the digits: its own fit / one of {STUDENTS} at once",
        ">= 60",
        one_by_one,
        together,
    )


def answering():
    """Ten students asked about the test images: ``predict`` of each, or all as one program.

    Both sides have answered once before, so that no compiling is measured.
    """
    x, _, logits = images()
    asked = np.resize(data.load_fashion_mnist().x_test, (TEST_IMAGES, *x.shape[1:]))
    options = {"loss": losses.soft_target_loss, "steps": 1, "seeds": FEW}
    students = train_many(models.build_student, x, {"teacher_logits": logits}, **options)
    apart = [*students]

    def one_by_one():
        for model in apart:
            model.predict(asked, verbose=0)

    def together():
        students.predict(asked)

    return (
        f"{len(FEW)} students answer {TEST_IMAGES:,} images: predict of each / together",
        ">= 5",
        one_by_one,
        together,
    )


def convolutional():
    """Ten small convolutional students: one ``fit`` each, or one program used ten times."""
    x, y, _ = images()

    def one_by_one():
        for seed in FEW:
            keras.utils.set_random_seed(seed)
            student = models.build_small_cnn()
            student.compile("adam", loss=LABEL_LOSS, jit_compile=False)
            rows = batch_rows(len(x), seed, FEW_STEPS, BATCH).ravel()
            student.fit(x[rows], y[rows], batch_size=BATCH, shuffle=False, verbose=0)

    def together():
        options = {"steps": FEW_STEPS, "batch_size": BATCH, "seeds": FEW}
        given, loss = {"labels": y}, losses.hard_label_loss
        train_many(models.build_small_cnn, x, given, loss=loss, **options)

    return (
        f"{len(FEW)} small convolutional students: fit of each / train_many",
        ">= 1.5",
        one_by_one,
        together,
    )


def torch_row(options):
    """The same live loop in PyTorch, in turn with ours, in a process that stays alive."""
    x, y, _ = images()
    term = DistillationTerm(losses.soft_target_loss, temperature=3.0)
    ours = Distiller(models.load_teacher(), models.build_student(), term)
    run = epoch(ours, x[:LIVE_IMAGES], y[:LIVE_IMAGES])
    program = [options.torch, str(HERE / "torch_loop.py"), str(LIVE_IMAGES), str(BATCH)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, **pipes) as other:

        def theirs():
            other.stdin.write("epoch\n")
            other.stdin.flush()
            return float(other.stdout.readline())

        made = "live teacher: PyTorch / ours", ">= 1", theirs, run
        found = row(lambda: made, options.repeats)
        other.stdin.close()
    return found


def memory():
    """Bytes of each stored form, and what it costs in accuracy against dense float32."""
    x, _, logits = images()
    test = data.load_fashion_mnist()
    forms = {
        "dense float32": logits.astype("float32"),
        "dense float16": signals.dense(logits),
        f"top {TOP}, float16": signals.top_k(logits, TOP),
        f"{DRAWS} samples": signals.sample(logits, DRAWS),
    }
    accuracies = {name: accuracy_of(signal, x, test) for name, signal in forms.items()}
    rows = []
    for name, signal in forms.items():
        compared = evaluate.compare(accuracies[name], accuracies["dense float32"])
        rows.append({
            "form": name, "bytes_per_image": byte_count(signal) / len(x),
            "accuracy": float(np.mean(accuracies[name])), "difference": compared.difference,
            "low": compared.low, "high": compared.high, "verdict": compared.verdict,
        })  # fmt: skip
    return rows


def byte_count(signal):
    arrays = getattr(signal, "arrays", [signal])
    return sum(array.nbytes for array in arrays)


def accuracy_of(signal, x, test):
    """Test accuracy of ten students, taught by the signal alone."""
    options = {"loss": losses.soft_target_loss, "steps": MEMORY_STEPS, "seeds": MEMORY_SEEDS}
    students = train_many(models.build_student, x, {"teacher_logits": signal}, **options)
    answers = students.predict(test.x_test)
    return [evaluate.accuracy(test.y_test, logits) for logits in answers]


def as_markdown(table):
    """The table for people."""
    lines = ["| row | aim | ratio | lowest to highest |", "|---|---|---|---|"]
    for one in table["rows"]:
        spread = f"{one['low']:.2f} to {one['high']:.2f}"
        lines.append(f"| {one['row']} | {one['aim']} | **{one['ratio']:.2f}** | {spread} |")
    titles = ("stored form", "bytes an image", "accuracy", "against dense float32")
    lines += ["", f"| {' | '.join(titles)} |", "|---|---|---|---|"]
    for one in table["memory"]:
        points = [f"{100 * one[key]:+.2f}" for key in ("difference", "low", "high")]
        interval = "{} [{}, {}]".format(*points)
        cells = f"{one['form']} | {one['bytes_per_image']:.0f} | {100 * one['accuracy']:.2f} %"
        lines.append(f"| {cells} | {interval} {one['verdict']} |")
    machine = f"{table['machine']['cores']} cores, {table['machine']['cpu']}"
    about = ", ".join(f"{name} {version}" for name, version in table["versions"].items())
    return "\n".join([*lines, "", f"{machine}; {about}."]) + "\n"


if __name__ == "__main__":
    main()
