"""The grid of a sweep: a YAML file, checked against its notebook and multiplied out.

``notebook`` (and the optional ``csv``) are paths beside the YAML file. ``grid`` is a list of
blocks; a block maps parameters to lists of values and stands for all their combinations.
"""

import ast
import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import NamedTuple

import nbformat
import papermill
import yaml


class Run(NamedTuple):
    """One execution: every parameter of the notebook, and a file name that tells them."""

    name: str
    parameters: dict


class Grid(NamedTuple):
    """The notebook, the digest of its code, the CSV file to write (or ``None``), the runs."""

    notebook: Path
    code_sha256: str
    csv: Path | None
    runs: list


def read_grid(path):
    """Return the :class:`Grid` of a YAML file; nothing is executed.

    Raises ``ValueError`` for an unknown key or parameter, an empty list, a value of another
    type than the notebook's default, or a run that two blocks share.
    """
    path = Path(path)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not {"notebook", "grid"} <= content.keys():
        raise ValueError(f"{path.name} must be a mapping with 'notebook' and 'grid'")
    if unknown := content.keys() - {"notebook", "grid", "csv"}:
        raise ValueError(f"{path.name} may hold notebook, grid and csv, got {sorted(unknown)}")
    if not isinstance(content["grid"], list) or not content["grid"]:
        raise ValueError(f"grid must be a list of blocks, got {content['grid']!r}")
    notebook = path.parent / content["notebook"]
    defaults = notebook_parameters(notebook)
    runs = [run for block in content["grid"] for run in _runs_of(block, defaults)]
    names = [run.name for run in runs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"grid must hold each run once, got twice: {', '.join(repeated)}")
    csv = path.parent / content["csv"] if "csv" in content else None
    return Grid(notebook, code_digest(notebook), csv, runs)


def notebook_parameters(notebook):
    """Return name and default of each parameter in the cell tagged ``parameters``."""
    if not notebook.exists():
        raise ValueError(f"notebook must name a file beside the grid, got {notebook}")
    found = papermill.inspect_notebook(str(notebook))
    if not found:
        raise ValueError(f"{notebook.name} must have assignments in a cell tagged 'parameters'")
    try:
        values = {name: ast.literal_eval(entry["default"]) for name, entry in found.items()}
        return json.loads(json.dumps(values))  # as a record will give them back
    except (TypeError, ValueError, SyntaxError) as error:
        raise ValueError(f"the parameters of {notebook.name} must be plain values") from error


def code_digest(notebook):
    """Return the SHA-256 of the notebook's code; prose and outputs do not count."""
    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def _runs_of(block, defaults):
    if not isinstance(block, dict) or not block:
        raise ValueError(f"a block must map parameters to lists of values, got {block!r}")
    if unknown := sorted(map(str, block.keys() - defaults.keys())):
        raise ValueError(f"a parameter must be one of {sorted(defaults)}, got {unknown}")
    for name, values in block.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"{name} must have a list of values, got {values!r}")
    columns = [[_typed(n, value, defaults[n]) for value in v] for n, v in block.items()]
    for values in itertools.product(*columns):
        parameters = defaults | dict(zip(block, values, strict=True))
        yield Run(_name(parameters), parameters)


def _typed(name, value, default):
    """Accept a whole number where the default is a decimal one, else the same type only."""
    if type(default) is float and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise ValueError(f"{name} must be of type {type(default).__name__}, got {value!r}")
    return value


def _name(parameters):
    """Readable first, then a digest that keeps apart what the readable part cannot."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:8]
    told = "_".join(f"{name}-{value}" for name, value in parameters.items())
    return re.sub(r"[^\w.-]+", "-", told)[:100] + "_" + digest
