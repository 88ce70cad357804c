"""Rules for a notebook: its ids, its order, the size of its cells, its stored outputs."""

import re
from statistics import median

from tools.pages.book import outputs_hash
from tools.run.execute import NEUTRAL_METADATA

SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
FILE_NAME = re.compile(r"\.(png|svg|jpe?g|gif|webp)\b|_build|[\w-]+/[\w-]+/", re.I)
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|Users|private)/\w|[A-Z]:\\Users")
ALT_LENGTH = {"en": 20, "zh": 12}  # Chinese says the same in about half the characters
LONGEST_CELL, LONGEST_MEDIAN = 25, 8
# Pages with fewer code cells (index, references, …) only glue or list; anatomy is for lessons.
LESSON = 4


def page_problems(notebook):
    """Every problem of one notebook, one sentence each."""
    rules = (ids, anatomy, code_size, execution, outputs, alternative_texts, metadata)
    return [problem for rule in rules for problem in rule(notebook)]


def code_cells(notebook):
    """The code cells that hold code."""
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def _tags(cell):
    return cell.metadata.get("tags", [])


def ids(notebook):
    """Cell ids are words, since the Chinese pages name them, and no id comes twice."""
    seen = set()
    for cell in notebook.cells:
        if not SLUG.fullmatch(cell.id) or re.fullmatch(r"[0-9a-f]{8}", cell.id):
            yield f"cell id {cell.id!r} is not a slug such as 'break-it'"
        if cell.id in seen:
            yield f"cell id {cell.id!r} comes twice"
        seen.add(cell.id)


def anatomy(notebook):
    """A page opens with its title; a lesson has imports, knobs, solutions and a summary."""
    first, names = notebook.cells[0], [cell.id for cell in notebook.cells]
    if first.cell_type != "markdown" or first.id != "title" or not _is_title(first.source):
        yield "the first cell must be Markdown, have the id 'title', and open with '# '"
    for cell in notebook.cells:
        if cell.id == "knobs" and "parameters" not in _tags(cell):
            yield "cell knobs: the tag 'parameters' is missing"
        if solution := _missing_solution(cell.id, names):
            yield f"cell {cell.id}: no cell {solution}"
    if sum("parameters" in _tags(cell) for cell in notebook.cells) > 1:
        yield "more than one cell has the tag 'parameters'"
    code = code_cells(notebook)
    if len(code) < LESSON:
        return
    if code[0].id != "imports":
        yield f"cell {code[0].id}: the first code cell of a lesson is 'imports'"
    if names[-1] != "summary" or notebook.cells[-1].cell_type != "markdown":
        yield f"cell {names[-1]}: the last cell of a lesson is Markdown with the id 'summary'"


def _missing_solution(name, names):
    """The id of the solution that an exercise lacks; several cells may share its beginning."""
    exercise = re.match(r"exercise-(\d+)", name)
    solution = f"solution-{exercise[1]}" if exercise else None
    has_one = any(re.match(rf"{solution}(-|$)", other) for other in names)
    return None if has_one else solution


def _is_title(source):
    lines = [line for line in source.splitlines() if line and not re.match(r"\(\S+\)=$", line)]
    return bool(lines) and lines[0].startswith("# ")


def code_size(notebook):
    """Short cells: a reader holds one idea at a time."""
    lengths = [len(cell.source.strip().splitlines()) for cell in code_cells(notebook)]
    for cell, length in zip(code_cells(notebook), lengths, strict=True):
        if length > LONGEST_CELL:
            yield f"cell {cell.id}: {length} lines of code, at most {LONGEST_CELL}"
    if lengths and median(lengths) > LONGEST_MEDIAN:
        yield f"the median code cell has {median(lengths)} lines, at most {LONGEST_MEDIAN}"


def execution(notebook):
    """Outputs belong to the code beside them: executed by the tool, not edited afterwards."""
    if not code_cells(notebook):
        return
    record = notebook.metadata.get("execution")
    if record is None:
        yield "never executed; run tools/run/execute.py"
        return
    if record.get("outputs_sha256") != outputs_hash(notebook):
        yield "code or an output was changed without execution; run tools/run/execute.py"
    waiting = [cell.id for cell in code_cells(notebook) if cell.execution_count is None]
    if waiting:
        yield f"cell {waiting[0]}: not executed, and {len(waiting) - 1} more"


def outputs(notebook):
    """No warning, no accidental error, nothing that names the author's machine."""
    for cell in notebook.cells:
        if found := MACHINE_PATH.search(cell.source):
            yield f"cell {cell.id}: a path of one machine: {found[0]}…"
        for output in cell.get("outputs", []):
            if output.output_type == "error" and "raises-exception" not in _tags(cell):
                yield f"cell {cell.id}: stores the error {output.ename}"
            if output.output_type == "stream" and output.name == "stderr":
                yield f"cell {cell.id}: stores stderr: {output.text.strip()[:80]}"
            if found := MACHINE_PATH.search(_words(output)):
                yield f"cell {cell.id}: the output holds a path of one machine: {found[0]}…"


def _words(output):
    """All text of an output, without pictures."""
    parts = [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
    data = output.get("data", {})
    parts += [str(value) for mime, value in data.items() if not mime.startswith("image/")]
    return "\n".join(part for part in parts if "image/png" not in part[:200])


def has_figure(cell):
    """Whether a code cell shows a picture on its own page."""
    if cell.cell_type != "code" or {"remove-output", "remove-cell"} & {*_tags(cell)}:
        return False
    data = [output.get("data", {}) for output in cell.outputs]
    return any(mime.startswith("image/") for bundle in data for mime in bundle)


def alternative_texts(notebook):
    """Each figure says in words what it shows, and each such text has its figure.

    A figure that is drawn but not shown with `plt.show()` may be lost: the kernel then sends
    it after the cell has ended, which has cost this book four figures.
    """
    for cell in notebook.cells:
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if alt and cell.get("outputs") is not None and not has_figure(cell):
            yield f"cell {cell.id}: describes a figure but shows none (plt.show() missing?)"
        if has_figure(cell) and (problem := alt_problem(alt, "en")):
            yield f"cell {cell.id}: {problem} (metadata mystnb.image.alt)"


def alt_problem(alt, language):
    """What is wrong with one alternative text, or None."""
    if len(alt.strip()) <= ALT_LENGTH[language]:
        return f"alternative text {alt!r} is not longer than {ALT_LENGTH[language]} characters"
    return f"alternative text {alt!r} names a file" if FILE_NAME.search(alt) else None


def metadata(notebook):
    """The kernel is named neutrally, so that running a page elsewhere makes no difference."""
    for key, value in NEUTRAL_METADATA.items():
        if notebook.metadata.get(key) != value:
            yield f"metadata {key} must be {value}"
