"""Where the book's files are, and how its notebooks and Chinese blocks are read and hashed."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCK_KINDS = ("cell", "alt", "caption")
BLOCK_HEADER = re.compile(r"<!--\s*(\w+):\s*(\S+)(?:\s+en:\s*([0-9a-f]*))?\s*-->\s*$")


@dataclass(frozen=True)
class Book:
    """The folders of one book; `root` holds `_toc.yml`, `_config.yml` and `book/`."""

    root: Path = REPOSITORY

    @property
    def folder(self):
        """Folder of the English notebooks."""
        return self.root / "book"

    @property
    def chinese(self):
        """Folder of the Chinese text."""
        return self.folder / "zh"

    @property
    def build(self):
        """Folder of everything that is generated."""
        return self.root / "_build"

    @property
    def site(self):
        """Folder of the two finished sites: English at its root, Chinese in `zh/`."""
        return self.build / "site"

    def table_of_contents(self):
        """The parsed `_toc.yml`."""
        return yaml.safe_load((self.root / "_toc.yml").read_text("utf-8"))

    def page_names(self):
        """Page names in reading order, such as `math/objective`."""
        return list(_files_of(self.table_of_contents()))

    def notebook_names(self):
        """Names of all notebooks: the pages, and those that papermill runs in sweeps/."""
        sweeps = sorted((self.folder / "sweeps").glob("*.ipynb"))
        return self.page_names() + [f"sweeps/{path.stem}" for path in sweeps]

    def notebook_path(self, name):
        """Path of the English notebook of page `name`."""
        return self.folder / f"{name}.ipynb"

    def chinese_path(self, name):
        """Path of the Chinese text of page `name`."""
        return self.chinese / f"{name}.md"

    def relative(self, path):
        """`path` as messages show it."""
        path = Path(path)
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path


def _files_of(node):
    """Yield every `root:` and `file:` of a table of contents, depth first, in order."""
    if isinstance(node, list):
        for item in node:
            yield from _files_of(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("root", "file"):
                yield value
            elif isinstance(value, (list, dict)):
                yield from _files_of(value)


def only_pages(node, names):
    """A copy of a table of contents without the files that are not among `names`."""
    if isinstance(node, list):
        kept = [only_pages(item, names) for item in node]
        return [item for item in kept if item.get("file", names[0]) in names]
    if not isinstance(node, dict):
        return node
    return {key: only_pages(value, names) for key, value in node.items()}


def read_notebook(path):
    """The notebook at `path` as nbformat 4, multi-line fields joined into strings.

    Without nbformat's validation, which replaces a cell id that comes twice by a random one.
    """
    return nbformat.v4.reads(Path(path).read_text("utf-8"))


def notebook_text(notebook):
    """The bytes-for-bytes text in which this project stores a notebook."""
    return nbformat.writes(notebook, indent=1) + "\n"


def write_if_changed(path, text):
    """Write `text` to `path` unless it is there already, so that builds stay incremental."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def text_hash(text):
    """Eight hexadecimal digits that name a piece of English text."""
    return hashlib.sha256(text.strip().encode()).hexdigest()[:8]


def outputs_hash(notebook):
    """SHA-256 over the code cells and their outputs; prose and tags may change without it."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    content = [[cell.get("id"), cell.source, cell.outputs] for cell in code]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Block:
    """One block of a Chinese page: the translation of one thing of one English cell."""

    kind: str
    cell: str
    hash: str
    text: str
    line: int  # of the header; the text begins at `text_line`
    text_line: int = 0


def read_blocks(path):
    """The blocks of a Chinese page, in the order of the file.

    Raises:
        ValueError: a kind that does not exist, or text before the first block.
    """
    blocks = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        header = BLOCK_HEADER.match(line)
        if header and header[1] in BLOCK_KINDS:
            blocks.append(Block(header[1], header[2], header[3] or "", "", number))
        elif header and header[3] is not None:
            raise ValueError(f"{path}:{number}: block kind {header[1]!r} is not {BLOCK_KINDS}")
        elif blocks:
            blocks[-1].text += line + "\n"
        elif line.strip():
            raise ValueError(f"{path}:{number}: text before the first block header")
    for block in blocks:
        block.text_line = block.line + 1 + len(block.text) - len(block.text.lstrip("\n"))
        block.text = block.text.strip()
    return blocks


def translatable(notebook):
    """Yield (kind, cell id, English text) of everything a Chinese page translates, in order."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield "cell", cell.id, cell.source
            continue
        settings = cell.metadata.get("mystnb", {})
        for kind, group, key in (("alt", "image", "alt"), ("caption", "figure", "caption")):
            if settings.get(group, {}).get(key):
                yield kind, cell.id, settings[group][key]
