"""Run notebooks again, in place, and record what that cost.

    python tools/execute.py                               every page, every sweep's notebook
    python tools/execute.py math/objective --jobs 2       some pages
    python tools/execute.py book/math/objective.ipynb     the same, by path

Cell ids and prose stay as they are; a cell whose output depends on training or time gets its
tag (tools/unsteady.py). A page whose cell raises is left untouched and reported by page and
cell; so is one that wrote to stderr, since a warning is not for readers. The notebook's
metadata gets a key `execution`: processor seconds and peak memory of the kernel, versions,
machine, date, and a hash over code and outputs, so that neither can be edited by hand later.
Processor seconds hardly depend on what else the machine does; a clock on the wall does.
A code cell whose metadata names a `picture` (a path in book/) writes its figure there too, for
readers of the README.
"""

import argparse
import ast
import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import unsteady
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from pages import REPOSITORY, Book, notebook_text, outputs_hash, read_notebook

# A kernel normally forwards what C code writes to file descriptors 1 and 2. TensorFlow writes
# lines there that name the machine ("oneDNN custom operations are on"), whatever its log level;
# they go to the terminal instead. Python's own sys.stderr is still captured.
KERNEL_ARGUMENTS = ["--IPKernelApp.capture_fd_output=False"]
NEUTRAL_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Evaluated in the kernel after the last cell; only packages that the page imported count.
FACTS = """__import__("json").dumps((lambda os, sys, resource, platform, time: {
    "cpu_seconds": round(time.process_time(), 1),
    "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (
        2**20 if sys.platform == "darwin" else 2**10),
    "versions": {"python": platform.python_version(), **{
        name: sys.modules[name].__version__
        for name in ("tensorflow", "keras", "numpy") if name in sys.modules}},
    "cores": os.cpu_count(),
})(*map(__import__, ("os", "sys", "resource", "platform", "time"))))"""


def cpu_model():
    """The processor's name as the system gives it, without marketing signs."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0].replace("(R)", "").replace("(TM)", "") if names else "unknown processor"


def run(notebook, folder, timeout):
    """Execute `notebook` in `folder`; what FACTS says then."""
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=KERNEL_ARGUMENTS,
        resources={"metadata": {"path": str(folder)}},
    )
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        message = client.kc.execute("", silent=True, user_expressions={"facts": FACTS})
        reply = client.wait_for_reply(message)
    return json.loads(ast.literal_eval(_text(reply)))


def _text(reply):
    facts = reply["content"]["user_expressions"]["facts"]
    if facts["status"] != "ok":
        raise RuntimeError(f"the kernel could not describe itself: {facts}")
    return facts["data"]["text/plain"]


def tidy(notebook):
    """Leave in the metadata only what does not differ from machine to machine."""
    for key in list(notebook.metadata):
        if key not in ("mystnb", "execution"):
            del notebook.metadata[key]
    notebook.metadata.update(NEUTRAL_METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        cell.metadata.pop("collapsed", None)


def stderr_problem(notebook):
    """A sentence about the first cell that wrote to stderr, or None."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                return f"cell {cell.id} wrote to stderr:\n{output.text}"
    return None


def pictures(notebook):
    """The figures that are wanted outside the notebook: `{path in book/: PNG bytes}`."""
    return {
        cell.metadata["picture"]: base64.b64decode(output.data["image/png"])
        for cell in notebook.cells
        if "picture" in cell.metadata
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    }


def execute_page(book, name, timeout):
    """Run one page; write it only if everything went well.

    Returns:
        None, or a sentence that says what went wrong.
    """
    path = book.notebook_path(name)
    notebook = read_notebook(path)
    tidy(notebook)
    notebook.metadata.pop("execution", None)
    if not any(cell.cell_type == "code" for cell in notebook.cells):
        path.write_text(notebook_text(notebook), "utf-8")
        return None
    try:
        facts = run(notebook, path.parent, timeout)
    except CellExecutionError as error:
        failed = next((cell for cell in notebook.cells if _raised(cell)), None)
        return f"{name}: cell {failed.id if failed else '?'} raised\n{error}"
    except Exception as error:  # a dead kernel or a timeout is reported like a raising cell
        return f"{name}: {type(error).__name__}: {error}"
    if problem := stderr_problem(notebook):
        return f"{name}: {problem}"
    tidy(notebook)
    unsteady.tag(notebook, path.parent)
    notebook.metadata["execution"] = {
        **facts, "cpu": cpu_model(),
        "date": datetime.now(UTC).date().isoformat(),
        "outputs_sha256": outputs_hash(notebook),
    }  # fmt: skip
    path.write_text(notebook_text(notebook), "utf-8")
    for picture, png in pictures(notebook).items():
        (book.folder / picture).write_bytes(png)
    print(
        f"{name}: {facts['cpu_seconds']:.0f} s of processor time, {facts['peak_memory_mb']} MB",
        flush=True,
    )
    return None


def _raised(cell):
    tags = cell.metadata.get("tags", [])
    errors = [out for out in cell.get("outputs", []) if out.output_type == "error"]
    return errors and "raises-exception" not in tags


def page_name(book, argument):
    """The page that a command-line argument means: a name or a path.

    Raises:
        SystemExit: no such notebook.
    """
    path = Path(argument)
    if path.suffix == ".ipynb":
        path = path.resolve().relative_to(book.folder).with_suffix("")
    if not book.notebook_path(path.as_posix()).exists():
        raise SystemExit(f"no notebook {book.relative(book.notebook_path(path.as_posix()))}")
    return path.as_posix()


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "pages", nargs="*", help="page names or notebook paths; default: all notebooks"
    )
    parser.add_argument("--root", type=Path, default=REPOSITORY)
    parser.add_argument("--jobs", type=int, default=1, help="kernels at the same time")
    parser.add_argument(
        "--timeout", type=int, default=1800, help="seconds that a cell may take"
    )
    options = parser.parse_args()
    book = Book(options.root.resolve())
    names = [page_name(book, page) for page in options.pages] or book.notebook_names()
    with ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(lambda name: execute_page(book, name, options.timeout), names)
        problems = [problem for problem in results if problem]
    if problems:
        sys.exit("\n\n".join(problems))


if __name__ == "__main__":
    main()
