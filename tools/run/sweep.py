"""Run a notebook once for each point of a grid: ``python -m tools.run.sweep GRID.yaml``.

The notebook displays ``IPython.display.JSON(results)``, a flat dictionary or a list of them
(each a row of the table), as its last output. Each run is a process of its own and leaves one
JSON file; a run that crashes or is killed takes no other with it, and the same command again
runs only what is missing. A result is also missing once the notebook's code has changed;
changes of imported modules are not seen: delete the folder of results after those.
"""

import argparse
import contextlib
import csv
import io
import json
import multiprocessing
import signal
import sys
from collections import deque
from multiprocessing import connection
from pathlib import Path

import psutil
from tqdm import tqdm

from tools.run.sweep_grid import read_grid
from tools.run.sweep_run import execute, keep_apart, unfinished, write_whole


def main(arguments=None):
    """Run a grid; return 0 when all is done, 1 after a failed run, 130 when interrupted."""
    parser = argparse.ArgumentParser("sweep", description="Run a notebook's grid.")
    parser.add_argument("grid", type=Path, help="YAML file with notebook, grid and csv")
    parser.add_argument("--workers", type=int, default=1, help="runs at the same time")
    parser.add_argument("--results", type=Path, help="folder of the JSON files")
    options = parser.parse_args(arguments)
    try:
        grid = read_grid(options.grid)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if options.workers < 1:
        parser.error(f"--workers must be at least 1, got {options.workers}")
    results = options.results or Path("_build", "sweeps", options.grid.stem)
    results.mkdir(parents=True, exist_ok=True)
    try:
        failed = run_missing(grid, results, options.workers)
    except KeyboardInterrupt:
        print("Interrupted: what has finished is kept; the same command continues.")
        return 130
    gather(grid, results)
    return 1 if failed else 0


def run_missing(grid, results, workers):
    """Run what has no fresh record, ``workers`` at a time; return the number of failures."""
    missing = [run for run in grid.runs if not read_record(grid, run, results)]
    stale = sum((results / f"{run.name}.json").exists() for run in missing)
    print(f"{len(grid.runs)} runs, {len(grid.runs) - len(missing)} finished before")
    if stale:
        print(f"{stale} stale (the notebook's code has changed since): run again")
    waiting, live, failed = deque(missing), {}, 0
    try:
        with tqdm(total=len(missing), unit="run", disable=not missing) as progress:
            while waiting or live:
                while waiting and len(live) < workers:
                    process, run = start(grid, waiting.popleft(), results)
                    live[process.sentinel] = process, run
                for sentinel in connection.wait(live):
                    failed += finish(*live.pop(sentinel), results)
                    progress.update()
    finally:
        stop(live.values(), results)
    return failed


def start(grid, run, results):
    """Start one run in a fresh interpreter; return its process and the run."""
    # Not forked: a child must not inherit the threads or the state of whatever called us.
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=execute, args=(grid, run, results))
    process.start()
    return process, run


def finish(process, run, results):
    """Take leave of a run that has ended; return whether it failed, having said why."""
    process.join()
    if process.exitcode:
        tqdm.write(keep_apart(run, results, process.exitcode))
    return process.exitcode != 0


def stop(live, results):
    """End the runs still alive, their kernels too, and remove what they left half done."""
    for process, run in live:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(process.pid)
            family = [parent, *parent.children(recursive=True)]
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            psutil.wait_procs(family, timeout=10)
        process.join()
        for path in unfinished(run, results):
            path.unlink(missing_ok=True)


def read_record(grid, run, results):
    """Return a run's record, or ``None`` where it is missing, damaged or stale."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        record = json.loads((results / f"{run.name}.json").read_text(encoding="utf-8"))
        if (record["code_sha256"], record["parameters"]) == (grid.code_sha256, run.parameters):
            return record
    return None


def gather(grid, results):
    """Write one CSV row a result, sorted by the parameters in the notebook's order.

    A grid with failed runs does not replace the CSV file: it goes to ``incomplete.csv``
    among the results.
    """
    records = [record for run in grid.runs if (record := read_record(grid, run, results))]
    records.sort(key=lambda record: list(record["parameters"].values()))
    path = grid.csv or results / "results.csv"
    if len(records) < len(grid.runs):
        path = results / "incomplete.csv"
    rows = [_row(record, found) for record in records for found in record["results"]]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())
    print(f"{len(records)} of {len(grid.runs)} runs gathered in {path}")


def _row(record, found):
    """One row of a record's results; measured figures keep six significant digits."""
    row = record["parameters"] | {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in found.items()
    }
    row |= {"seconds": record["seconds"], "peak_memory_mb": record["peak_memory_mb"]}
    return row | record["versions"] | record["machine"] | {"code": record["code_sha256"][:12]}


if __name__ == "__main__":
    # A shell may start background jobs with SIGINT ignored, and `kill` sends SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
