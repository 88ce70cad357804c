"""Execution in place: what is written, and what is left untouched. No TensorFlow is needed."""

import json
import time

import check_notebooks
import pytest
from execute import FACTS, execute_page, page_name
from pages import notebook_text, read_notebook, write_if_changed
from sample_pages import code_cell, markdown_cell, notebook_of

PAGE = "part/lesson"


@pytest.fixture
def run(small_book):
    """``run(source, **metadata)``: execute a page with one code cell; (complaint, notebook)."""

    def execute(source, **metadata):
        notebook = notebook_of(
            markdown_cell("title", "# A page"),
            code_cell("only", source, count=None, **metadata),
        )
        notebook.metadata.kernelspec.display_name = "somebody's environment"
        write_if_changed(small_book.notebook_path(PAGE), notebook_text(notebook))
        complaint = execute_page(small_book, PAGE, timeout=60)
        return complaint, read_notebook(small_book.notebook_path(PAGE))

    return execute


def test_a_page_is_run_in_its_folder_and_recorded(run, small_book):
    complaint, notebook = run("import os\nprint(os.getcwd())", tags=["parameters"])
    record = notebook.metadata.execution
    assert complaint is None
    assert notebook.cells[1].outputs[0].text.strip() == str(small_book.folder / "part")
    assert notebook.cells[1].id == "only"
    assert notebook.cells[1].metadata == {"tags": ["parameters"]}
    assert record.cpu_seconds > 0
    assert "seconds" not in record
    assert record.peak_memory_mb > 10
    assert set(record.versions) == {"python"}
    assert list(check_notebooks.metadata(notebook)) == []
    assert list(check_notebooks.execution(notebook)) == []


def test_the_cost_is_processor_time():
    before = time.process_time()
    facts = json.loads(eval(FACTS))
    assert before - 0.1 < facts["cpu_seconds"] < time.process_time() + 0.1


def test_a_cell_that_shows_training_is_tagged(run):
    complaint, notebook = run("fit = lambda: 0.8\nprint('steady')", tags=["parameters"])
    assert complaint is None
    assert notebook.cells[1].metadata.tags == ["parameters"]
    _, notebook = run("import time\nprint(time.perf_counter() > 0)", tags=["parameters"])
    assert notebook.cells[1].metadata.tags == ["parameters", "nbval-ignore-output"]


def test_a_raising_page_is_named_and_left_untouched(run):
    complaint, notebook = run("raise ValueError('no')")
    assert "part/lesson: cell only raised" in complaint
    assert notebook.cells[1].execution_count is None
    assert notebook.cells[1].outputs == []


def test_an_error_that_is_meant_is_stored(run):
    complaint, notebook = run("raise ValueError('no')", tags=["raises-exception"])
    assert complaint is None
    assert notebook.cells[1].outputs[0].ename == "ValueError"


def test_a_warning_is_named_and_left_out(run):
    complaint, notebook = run("import warnings\nwarnings.warn('old')")
    assert "cell only wrote to stderr" in complaint
    assert notebook.cells[1].outputs == []


def test_what_c_code_writes_to_stderr_is_not_stored(run):
    complaint, notebook = run("import os\n_ = os.write(2, b'oneDNN is on\\n')\nprint('done')")
    assert complaint is None
    assert [output.name for output in notebook.cells[1].outputs] == ["stdout"]


def test_pages_are_named_by_name_or_path(small_book):
    assert page_name(small_book, PAGE) == PAGE
    assert page_name(small_book, str(small_book.notebook_path(PAGE))) == PAGE
    with pytest.raises(SystemExit, match="no notebook"):
        page_name(small_book, "part/none")
