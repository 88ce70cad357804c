"""Cells that show what depends on training or time are found by following names."""

import checks
import nbformat
import pytest
import unsteady
from pages import Book, notebook_text, read_notebook, write_if_changed
from sample_pages import code_cell, markdown_cell, notebook_of

PAGE = "part/lesson"
LIBRARY = """
import keras
class Distiller(keras.Model):
    def fit(self, x): return super().fit(x)
def build_student(width): return keras.Sequential([keras.layers.Dense(width)])
def train_many(build, x): return _inner(build(), x)
def _inner(model, x): model.optimizer.apply([], x); return [model]
def accuracy(model, x): return model(x).mean()
"""


def shown(text="0.8"):
    """A printed output."""
    return nbformat.v4.new_output("stream", name="stdout", text=text)


def glued(text="'0.8'"):
    """What myst_nb's `glue(..., display=False)` stores."""
    data = {"application/papermill.record/text/plain": text}
    return nbformat.v4.new_output("display_data", data=data)


def drawn():
    """A figure, with the text that stands in for it."""
    data = {"text/plain": "<Figure size 640x240 with 1 Axes>", "image/png": "aGVsbG8="}
    return nbformat.v4.new_output("display_data", data=data)


@pytest.fixture
def found(tmp_path):
    """``found(*sources)``: the numbers of the cells that are unsteady, if each prints."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "all.py").write_text(LIBRARY, "utf-8")

    def find(*sources, outputs=None):
        cells = [
            code_cell(f"c-{number}", source, outputs=outputs or [shown()])
            for number, source in enumerate(sources)
        ]
        page = notebook_of(markdown_cell("title", "# A page"), *cells)
        options = {"library": tmp_path / "library"}
        return [
            int(cell.id.removeprefix("c-"))
            for cell in unsteady.unsteady_cells(page, tmp_path, **options)
        ]

    return find


TRAINED = "from library import all, build_student, train_many\n(model,) = train_many(None, x)"
UNSTEADY = {
    "printed": "print(accuracy(model, x))",
    "glued": "glue('a', f'{accuracy(model, x):.1f}', display=False)",
    "last expression": "a = accuracy(model, x)\na.round(3)",
    "through names": "a = accuracy(model, x)\nb = {'a': round(a, 2)}\nprint(b['a'])",
    "through a function": "def score(): return accuracy(model, x)\nprint(score())",
    "through a printing function": "def say(a): print(a)\n_ = say(accuracy(model, x))",
    "through a list": "rows = []\nrows.append(accuracy(model, x))\nprint(rows)",
    "through a walrus": "if (a := accuracy(model, x)): pass\nprint(a)",
    "through a loop": "for one in [model]:\n    a = accuracy(one, x)\nprint(a)",
    "through a choice": "if accuracy(model, x) > 0.8:\n    print('better')",
    "through a comprehension": "print([accuracy(one, x) for one in [model]])",
    "through a table that a function fills": (
        "rows = [{}]\ndef fill(models):\n    for row, one in zip(rows, models):\n"
        "        row['a'] = accuracy(one, x)\n_ = fill([model])\nprint(rows)"
    ),
    "by a loop's second round": (
        "old = new = 1\nfor _ in x:\n    old = new\n    new = model\nprint(old)"
    ),
    "time": "import time\nbegan = time.perf_counter()\nprint(time.perf_counter() - began)",
    "memory": "import psutil\nprint(psutil.Process().memory_info().rss)",
}
STEADY = {
    "a constant": "print('done')",
    "a knob": "glue('steps', f'{steps:,}', display=False)",
    "architecture": "print(len([model]), model.count_params(), model.output.shape)",
    "a new value of an old name": "a = accuracy(model, x)\na = 1\nprint(a)",
    "names of what was trained": "for name, _ in {'a': model}.items():\n    print(name)",
    "an own function called fit": "def fit(x): return 2 * x\nprint(fit(1))",
    "a value under a function's name": "def a(): return model\na = 1\nprint(a)",
    "a check": "np.testing.assert_allclose(accuracy(model, x), 1)\nprint('held')",
    "a builder": (
        "build = partial(build_student, 8)\n_ = train_many(build, x)\n"
        "print(accuracy(build(), x))"
    ),
    "a number under a model's old name": (
        "s = build_student(8)\nd = Distiller(t, s)\ns = 1\n_ = d.fit(x)\nprint(s)"
    ),
    "the student of a distiller that is gone": (
        "s, other = build_student(8), build_student(8)\nd = Distiller(t, s)\n"
        "d = Distiller(t, other)\n_ = d.fit(x)\nprint(accuracy(s, x))"
    ),
    "an assertion": "assert accuracy(model, x) > 0.5\nprint('held')",
    "another model": "other = build_student(8)\nprint(accuracy(other, x))",
    "a table that was read": "runs = pd.read_csv('runs.csv')\nprint(runs.accuracy.mean())",
}


@pytest.mark.parametrize("source", UNSTEADY.values(), ids=UNSTEADY)
def test_what_depends_on_training_time_or_memory_is_found(found, source):
    assert found(TRAINED, source) == [1]


@pytest.mark.parametrize("source", STEADY.values(), ids=STEADY)
def test_what_does_not_depend_on_them_stays_compared(found, source):
    assert found(TRAINED, source) == []


@pytest.mark.parametrize("make", ["build_student(8)", "build()", "small()", "pair[0]"])
@pytest.mark.parametrize("hold", ["Distiller(teacher, student)", "ways.distiller(student)"])
def test_a_student_is_trained_by_the_distiller_that_holds_it(found, make, hold):
    ways = "build = partial(build_student, 8)\ndef small(): return build_student(8)\n"
    made = f"{ways}pair = [build(), 1]\nstudent = {make}\nteacher = load_model('t')"
    held, ask = f"d = {hold}", "print(accuracy(student, x))"
    assert found(made, held, ask) == []
    assert found(made, held, "_ = d.fit(x)", ask) == [3]
    assert found(made, held, "_ = d.fit(x)", "print(accuracy(teacher, x))") == []


def test_a_model_that_shares_its_layers_is_trained_too(found):
    make = "student = build_student(8)\ninner = keras.Model(student.input, student.output)"
    assert found(make, "_ = student.fit(x)", "print(inner(x))") == [2]


def test_the_library_s_trainers_and_clocks_are_found_and_its_measures_are_not():
    files = sorted((Book().root / "distill_lib").rglob("*.py"))
    sources = unsteady.sources_in(files)
    assert {"train_many", "born_again", "in_turn", "mutual_learning", "latency"} <= sources
    assert not {"accuracy", "compare", "predict_logits", "load_teacher", "Distiller"} & sources


def test_a_package_beside_the_page_is_followed(tmp_path, found):
    (tmp_path / "museum").mkdir()
    program = "def moved(model): model.fit(1); return model(1)\n"
    (tmp_path / "museum" / "checks.py").write_text(program, "utf-8")
    assert found("from museum import checks\nprint(checks.moved(model))") == [0]
    assert found("print(moved(model))") == []


def test_only_what_nbval_compares_counts(found):
    assert found(TRAINED, "plot(model)", outputs=[drawn()]) == []
    assert found(TRAINED, "print(model)", outputs=[glued()]) == [1]


@pytest.mark.parametrize("name", ["part/lesson", "sweeps/runs"])
def test_the_cheap_checks_name_the_cell_until_it_is_tagged(small_book, name):
    path = small_book.notebook_path(name)
    source = "model.fit(x)\nglue('gain', f'{model(x):.1f}', display=False)"
    page = notebook_of(
        markdown_cell("title", "# A page"),
        code_cell("steady", "glue('steps', '100', display=False)", outputs=[glued("'100'")]),
        code_cell("numbers", source, outputs=[glued()]),
    )
    write_if_changed(path, notebook_text(page))
    complaints = [text for text in checks.source_problems(small_book) if "nbval" in text]
    assert complaints == [f"book/{name}.ipynb: cell numbers: {unsteady.RULE}"]
    assert unsteady.tag(page, path.parent) == ["numbers"]
    write_if_changed(path, notebook_text(page))
    assert unsteady.problems(small_book) == []


def test_a_cell_may_say_that_it_is_compared_all_the_same():
    tags = [unsteady.COMPARED]
    cell = code_cell("rounded", "model.fit(x)\nprint(model)", outputs=[shown()], tags=tags)
    assert unsteady.tag(notebook_of(cell), Book().folder) == []
    assert cell.metadata.tags == tags


def test_no_cell_of_the_book_lacks_its_tag(real_book):
    assert unsteady.problems(real_book) == []


def test_the_cell_that_failed_on_another_machine_is_among_those_found(real_book):
    path = real_book.notebook_path("code/training_schemes")
    cells = unsteady.unsteady_cells(read_notebook(path), path.parent)
    assert "numbers-glued" in [cell.id for cell in cells]
