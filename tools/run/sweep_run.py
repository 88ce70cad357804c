"""One run of a sweep: execute the notebook in its own process and record what it found."""

import datetime
import importlib.metadata
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path

import nbformat
import papermill

PACKAGES = {
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "keras": ("keras",),
    "numpy": ("numpy",),
}


def execute(grid, run, results):
    """Execute the notebook once and write its record; the body of a worker process."""
    notebook_path, log = unfinished(run, results)
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C reaches the parent only, which then ends this process
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    began = time.perf_counter()
    notebook = papermill.execute_notebook(
        str(grid.notebook),
        str(notebook_path),
        parameters=run.parameters,
        cwd=str(grid.notebook.parent),
        progress_bar=False,
    )
    found = {
        "parameters": run.parameters,
        "results": displayed_results(notebook, run.parameters),
        "code_sha256": grid.code_sha256,
        "seconds": round(time.perf_counter() - began, 1),
    }
    write_whole(results / f"{run.name}.json", json.dumps(found | recipe(), indent=1) + "\n")
    notebook_path.unlink()
    log.unlink()


def unfinished(run, results):
    """Return where a run keeps its executed notebook and its log until it has finished."""
    return results / f"{run.name}.part.ipynb", results / f"{run.name}.part.log"


def write_whole(path, text):
    """Write under a temporary name, then rename: a reader sees the whole file or none."""
    temporary = Path(f"{path}.part")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)


def displayed_results(notebook, parameters):
    """Return what the executed notebook displayed last as JSON, as a list of rows.

    A row is a flat dictionary; a notebook that trains several students at once displays a
    list of them.
    """
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    bundles = [output.get("data", {}) for output in outputs]
    shown = [data["application/json"] for data in bundles if "application/json" in data]
    rows = shown[-1] if shown and isinstance(shown[-1], list) else shown[-1:]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            "the notebook must display IPython.display.JSON(a dictionary or a list)"
        )
    if shared := sorted({name for row in rows for name in row} & parameters.keys()):
        raise ValueError(f"results must not be named like parameters, got {shared}")
    return rows


def recipe():
    """Return what else a reader needs to judge a run: memory, time, versions, machine."""
    return {
        "peak_memory_mb": _peak_memory_mb(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()}
        | {package: _version(names) for package, names in PACKAGES.items()},
        "machine": {"cores": os.cpu_count(), "cpu": _cpu()},
    }


def keep_apart(run, results, exitcode):
    """Move a failed run's notebook and log to ``failed/``; return where it failed and why."""
    notebook_path, log = unfinished(run, results)
    where, error = _last_cell(notebook_path)
    if exitcode < 0:
        error = f"its process was ended by {signal.Signals(-exitcode).name}"
    elif not error and log.exists():
        lines = log.read_text(errors="replace").splitlines()
        error = next(filter(str.strip, reversed(lines)), "")
    (results / "failed").mkdir(exist_ok=True)
    for path in filter(Path.exists, (notebook_path, log)):
        path.replace(results / "failed" / path.name.replace(".part", ""))
    return f"FAILED {run.name} {where}: {error or f'exit code {exitcode}'}"


def _last_cell(notebook_path):
    """Return the place of the cell that ran last, and the error it shows (or an empty text)."""
    where, error = "before its first cell", ""
    try:
        cells = nbformat.read(notebook_path, as_version=4).cells
    except (OSError, ValueError):  # killed before, or while, it was written
        return where, error
    code = [cell for cell in cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        if cell.metadata.get("papermill", {}).get("start_time"):
            where = f"in cell {cell.get('id')!r}, In [{number}]"
        for output in cell.outputs:
            if output.output_type == "error":
                error = f"{output.ename}: {output.evalue}"
    return where, error


def _peak_memory_mb():
    """Largest resident memory of the kernel, in MB; ``None`` where the system cannot say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3))


def _version(names):
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _cpu():
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
