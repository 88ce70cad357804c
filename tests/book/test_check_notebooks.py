"""Each rule for notebooks names the cell that breaks it."""

import nbformat
import pytest
from sample_pages import FIGURE, code_cell, markdown_cell, notebook_of, picture

from tools.checks.check_notebooks import page_problems

ERROR = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])


def stream(name, text):
    """An output of printed text."""
    return nbformat.v4.new_output("stream", name=name, text=text)


def with_code(*cells):
    """A page whose title is right and that holds `cells`."""
    return notebook_of(markdown_cell("title", "# A page"), *cells)


def test_a_good_page_has_no_problem(lesson):
    assert page_problems(lesson) == []


NAMED = {"image": {"alt": "The file gain_by_width.png of this page"}}
LONG = "\n".join(["x = 1"] * 26)
BROKEN = [
    (with_code(code_cell("1a2b3c4d", "x = 1")), "'1a2b3c4d' is not a slug"),
    (with_code(code_cell("Break_it", "x = 1")), "'Break_it' is not a slug"),
    (with_code(code_cell("twice", "1"), code_cell("twice", "2")), "'twice' comes twice"),
    (notebook_of(markdown_cell("title", "words")), "first cell must be Markdown"),
    (with_code(code_cell("knobs", "t = 1")), "knobs: the tag 'parameters'"),
    (with_code(markdown_cell("exercise-2", "Do it.")), "no cell solution-2"),
    (
        with_code(*[code_cell(f"step-{i}", "1") for i in "abcd"]),
        "code cell of a lesson is 'imp",
    ),
    (with_code(*[code_cell(f"step-{i}", "1") for i in "abcd"]), "last cell of a lesson"),
    (with_code(code_cell("long", LONG)), "long: 26 lines of code"),
    (
        with_code(*[code_cell(f"s-{i}", "x\n" * 9) for i in "abc"]),
        "median code cell has 9 lines",
    ),
    (with_code(code_cell("never", "1", count=None)), "never: not executed"),
    (with_code(code_cell("raising", "1", outputs=[ERROR])), "stores the error ValueError"),
    (with_code(code_cell("loud", "1", outputs=[stream("stderr", "beware")])), "stderr: beware"),
    (with_code(code_cell("path", "open('/home/ann/x')")), "a path of one machine"),
    (
        with_code(code_cell("path", "1", outputs=[stream("stdout", "/root/x")])),
        "output holds a pa",
    ),
    (
        with_code(code_cell("bare", "1", outputs=[picture()])),
        "bare: alternative text '' is not",
    ),
    (with_code(code_cell("file", "1", outputs=[picture()], mystnb=NAMED)), "names a file"),
    (with_code(code_cell("lost", "1", mystnb=FIGURE)), "describes a figure but shows none"),
]


@pytest.mark.parametrize(("notebook", "said"), BROKEN, ids=[said for _, said in BROKEN])
def test_each_rule_names_what_breaks_it(notebook, said):
    assert said in "\n".join(page_problems(notebook))


def test_an_error_may_be_stored_where_it_is_meant():
    cell = code_cell("raising", "1", outputs=[ERROR], tags=["raises-exception"])
    assert page_problems(with_code(cell)) == []


def test_a_hidden_figure_needs_no_words():
    cell = code_cell("hidden", "1", outputs=[picture()], tags=["remove-output"])
    assert page_problems(with_code(cell)) == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda cell: cell.update(source="plot(2)"),
        lambda cell: cell.update(outputs=[]),
        lambda cell: cell.outputs[0]["data"].update({"image/png": "Z29vZGJ5ZQ=="}),
    ],
)
def test_an_edited_code_cell_or_output_is_noticed(lesson, edit):
    edit(lesson.cells[1])
    assert "changed without execution" in "\n".join(page_problems(lesson))


def test_prose_tags_and_alternative_texts_may_change_without_execution(lesson):
    lesson.cells[1].metadata.tags = ["nbval-ignore-output"]
    lesson.cells[0].source += "\n\nMore words."
    lesson.cells[1].metadata.mystnb = {"image": {"alt": FIGURE["image"]["alt"] + " Indeed."}}
    assert page_problems(lesson) == []


def test_a_solution_may_have_several_cells():
    cells = [markdown_cell(name, "Do it.") for name in ("exercise-1", "solution-1-text")]
    assert page_problems(with_code(*cells)) == []
    cells[1].id = "solution-10"
    assert "no cell solution-1" in "\n".join(page_problems(with_code(*cells)))


def test_a_page_with_code_and_no_record_was_never_executed(lesson):
    del lesson.metadata["execution"]
    assert "never executed" in "\n".join(page_problems(lesson))


def test_the_kernel_is_named_neutrally(lesson):
    lesson.metadata.kernelspec = {
        "name": "my-env",
        "display_name": "Mine",
        "language": "python",
    }
    assert "metadata kernelspec must be" in "\n".join(page_problems(lesson))
