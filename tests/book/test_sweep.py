"""The runner of sweeps, on a notebook without TensorFlow; and the committed results."""

import csv
import json
import random
import signal
import subprocess
import sys
import time
from operator import sub
from pathlib import Path

import nbformat
import psutil
import pytest
import yaml

from tools.run import sweep
from tools.run.sweep_grid import code_digest, read_grid
from tools.run.sweep_run import displayed_results

BOOK_SWEEPS = Path(__file__).parents[2] / "book" / "sweeps"
BODY = """
import os, signal, time
if behaviour == "raise":
    raise RuntimeError("asked to raise")
if behaviour == "wait":
    time.sleep(600)
if behaviour == "kill worker":
    os.kill(os.getppid(), signal.SIGKILL)
if behaviour.startswith("kill"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write_sweep(folder, grid, square="JSON({'square': value**2.0, 'word': behaviour})", **more):
    """Write a notebook of three code cells and its grid; return the grid's path."""
    cells = [
        nbformat.v4.new_code_cell("value = 1\nbehaviour = 'finish'  # or fail\nrate = 0.5"),
        nbformat.v4.new_code_cell(BODY, id="behave"),
        nbformat.v4.new_code_cell(f"from IPython.display import JSON\n{square}", id="result"),
    ]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "tiny.ipynb")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"notebook": "tiny.ipynb", "grid": grid, **more}))
    return path


def run(path):
    return sweep.main([str(path), "--workers", "2", "--results", str(path.parent / "r")])


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_failed_and_killed_runs_leave_the_others_intact_and_are_named(tmp_path, capfd):
    bad = ["raise", "kill kernel", "kill worker"]
    grid = [{"value": [3], "behaviour": bad}, {"value": [10, 2]}]
    path = write_sweep(tmp_path, grid, csv="tiny.csv")
    assert run(path) == 1
    said = capfd.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if "FAILED" in line]
    told = {line.split("behaviour-")[1].split("_rate")[0]: line for line in lines}
    assert set(told) == {"raise", "kill-kernel", "kill-worker"}
    assert all("in cell 'behave', In [3]" in line for line in told.values())
    assert "RuntimeError: asked to raise" in told["raise"]
    assert "DeadKernelError" in told["kill-kernel"]
    assert "SIGKILL" in told["kill-worker"]
    apart = {file.name.split("_rate")[0] for file in (tmp_path / "r/failed").glob("*.ipynb")}
    assert apart == {f"value-3_behaviour-{word}" for word in told}
    assert not list((tmp_path / "r").glob("*.part*"))
    # A grid with gaps must not replace the committed table.
    assert not (tmp_path / "tiny.csv").exists()
    rows = read_csv(tmp_path / "r/incomplete.csv")
    assert [(row["value"], float(row["square"])) for row in rows] == [("2", 4.0), ("10", 100.0)]


def test_a_sweep_resumes_and_a_changed_notebook_is_run_again(tmp_path, capfd):
    path = write_sweep(tmp_path, [{"value": [10]}, {"value": [9], "rate": [1]}], csv="t.csv")
    assert run(path) == 0
    first = (tmp_path / "t.csv").read_text()
    rows = read_csv(tmp_path / "t.csv")
    found = [(row["value"], row["rate"], row["square"]) for row in rows]
    assert found == [("9", "1.0", "81.0"), ("10", "0.5", "100.0")]
    assert float(rows[0]["seconds"]) > 0
    assert 20 < int(rows[0]["peak_memory_mb"]) < 2000
    assert rows[0]["python"].startswith(f"{sys.version_info.major}.")

    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "r").glob("*.json")}
    assert run(path) == 0
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert (tmp_path / "t.csv").read_text() == first

    write_sweep(tmp_path, [{"value": [10]}], square="JSON({'square': -1.0})", csv="t.csv")
    capfd.readouterr()
    assert run(path) == 0
    assert "1 stale" in capfd.readouterr().out
    assert [row["square"] for row in read_csv(tmp_path / "t.csv")] == ["-1.0"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_an_interruption_keeps_what_has_finished_and_leaves_no_kernel(tmp_path):
    grid = [{"value": [1]}, {"behaviour": ["wait"]}, {"value": [3]}]
    path = write_sweep(tmp_path, grid, csv="tiny.csv")
    results = tmp_path / "r"
    command = [sys.executable, "-m", "tools.run.sweep", str(path), "--results", str(results)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=BOOK_SWEEPS.parents[1], **pipes)
    deadline = time.monotonic() + 90
    while not any('"running"' in f.read_text() for f in results.glob("*wait*.part.ipynb")):
        assert time.monotonic() < deadline, "the second run never started"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert len(family) >= 2  # the worker and its kernel
    assert not psutil.wait_procs(family, timeout=20)[1]
    finished = [json.loads(file.read_text()) for file in results.glob("*.json")]
    assert [record["parameters"]["value"] for record in finished] == [1]
    assert not list(results.glob("*.part*"))
    assert not (tmp_path / "tiny.csv").exists()


@pytest.mark.parametrize(
    ("grid", "rule"),
    [
        ([{"valu": [1]}], "parameter must be one of .*'valu'"),
        ([{"value": []}], "value must have a list of values"),
        ([{"value": ["3"]}], "value must be of type int, got '3'"),
        ([{"value": [True]}], "value must be of type int, got True"),
        ([{"value": [1, 1]}], "each run once"),
        ([{"value": [1, 2]}, {"rate": [0.5]}], "each run once"),
        ([{"rate": [1, 1.0]}], "each run once"),
        ([], "grid must be a list of blocks"),
        ([{}], "block must map"),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_starts(tmp_path, grid, rule):
    path = write_sweep(tmp_path, grid)
    with pytest.raises(ValueError, match=rule):
        read_grid(path)
    with pytest.raises(SystemExit) as end:
        run(path)
    assert end.value.code == 2
    assert not (tmp_path / "r").exists()


def test_a_wrong_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got \\['cvs'\\]"):
        read_grid(write_sweep(tmp_path, [{"value": [1]}], cvs="typing.error"))
    path = write_sweep(tmp_path, [{"value": [1]}])
    (tmp_path / "tiny.ipynb").unlink()
    with pytest.raises(ValueError, match="notebook must name a file"):
        read_grid(path)


def test_a_block_is_a_product_and_prose_does_not_make_results_stale(tmp_path):
    grid = read_grid(
        write_sweep(tmp_path, [{"value": [1, 2], "rate": [1, 2, 3]}, {"value": [7]}])
    )
    assert len({run.name for run in grid.runs}) == len(grid.runs) == 7
    notebook = nbformat.read(grid.notebook, as_version=4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("Prose."))
    nbformat.write(notebook, grid.notebook)
    assert code_digest(grid.notebook) == grid.code_sha256
    notebook.cells[1].source += "\npass"
    nbformat.write(notebook, grid.notebook)
    assert code_digest(grid.notebook) != grid.code_sha256


def notebook_that_displays(*values):
    """A notebook whose only cell has displayed each value as JSON."""
    outputs = [
        nbformat.v4.new_output("display_data", {"application/json": value}) for value in values
    ]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=outputs)])


@pytest.mark.parametrize(
    ("shown", "rows"),
    [
        ([{"a": 1}], [{"a": 1}]),
        ([[{"a": 1}, {"a": 2}]], [{"a": 1}, {"a": 2}]),
        ([[{"a": 1}], {"a": 3}], [{"a": 3}]),  # what was displayed last
    ],
)
def test_a_result_is_one_row_or_a_list_of_rows(shown, rows):
    assert displayed_results(notebook_that_displays(*shown), {"seed": 0}) == rows


@pytest.mark.parametrize("shown", [[], [[]], [[{"a": 1}, 2]], ["text"]])
def test_a_notebook_without_rows_is_refused(shown):
    with pytest.raises(ValueError, match="must display"):
        displayed_results(notebook_that_displays(*shown), {})


def test_a_result_named_like_a_parameter_is_refused():
    with pytest.raises(ValueError, match=r"named like parameters, got \['seed'\]"):
        displayed_results(notebook_that_displays([{"a": 1}, {"seed": 2}]), {"seed": 0})


@pytest.mark.parametrize("name", ["consistency", "maps", "methods"])
def test_a_table_of_several_methods_a_run_is_that_of_the_present_notebook(name):
    grid = read_grid(BOOK_SWEEPS / f"{name}.yaml")
    rows, names = read_csv(grid.csv), list(grid.runs[0].parameters)
    assert {row["code"] for row in rows} == {grid.code_sha256[:12]}, "run the sweep again"
    held = {tuple(row[one] for one in names) for row in rows}
    assert held == {tuple(map(str, run.parameters.values())) for run in grid.runs}


@pytest.mark.parametrize("name", ["concepts", "labels", "temperature"])
def test_a_committed_table_holds_its_whole_grid_and_the_present_notebook(name):
    grid = read_grid(BOOK_SWEEPS / f"{name}.yaml")
    rows, names = read_csv(grid.csv), list(grid.runs[0].parameters)
    assert {row["code"] for row in rows} == {grid.code_sha256[:12]}, "run the sweep again"
    held = [(*(row[one] for one in names), row["seed"]) for row in rows]
    assert len(set(held)) == len(held)
    assert {one[:-1] for one in held} == {
        tuple(map(str, r.parameters.values())) for r in grid.runs
    }
    assert len(rows) == sum(run.parameters["seed_count"] for run in grid.runs)


def test_a_sampled_point_of_the_committed_table_can_be_had_again(tmp_path):
    grid = read_grid(BOOK_SWEEPS / "temperature.yaml")
    rows, names = read_csv(grid.csv), list(grid.runs[0].parameters)
    chosen = random.Random(2024).choice(grid.runs).parameters
    path = tmp_path / "one.yaml"
    one = [{name: [value] for name, value in chosen.items()}]
    path.write_text(yaml.safe_dump({"notebook": str(grid.notebook.resolve()), "grid": one}))
    assert run(path) == 0
    again = read_csv(tmp_path / "r/results.csv")
    committed = [row for row in rows if all(row[n] == again[0][n] for n in names)]
    assert [row["seed"] for row in again] == [row["seed"] for row in committed]
    assert len(again) >= 10
    for measure in ("test_accuracy", "agreement", "calibration_error"):
        new, old = ([float(row[measure]) for row in some] for some in (again, committed))
        assert max(map(abs, map(sub, new, old))) <= max(old) - min(old), measure
