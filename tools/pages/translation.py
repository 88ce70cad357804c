"""Compare the Chinese pages with the English notebooks, block by block."""

from tools.pages.book import read_blocks, read_notebook, text_hash, translatable
from tools.pages.syntax import differences


def page_problems(book, name):
    """Everything that is wrong with the Chinese of one page, one sentence each."""
    path = book.chinese_path(name)
    if not path.exists():
        return [f"{book.relative(path)}: missing; make it with --start {name}"]
    try:
        blocks = read_blocks(path)
    except ValueError as error:
        return [str(error)]
    wanted = list(translatable(read_notebook(book.notebook_path(name))))
    problems = _order_problems(wanted, blocks)
    english = {(kind, cell): text for kind, cell, text in wanted}
    for block in blocks:
        problems += _block_problems(block, english.get((block.kind, block.cell)))
    return [f"{book.relative(path)}:{line}: {text}" for line, text in sorted(problems)]


def _order_problems(wanted, blocks):
    """(line, sentence) for missing, orphaned, repeated and misordered blocks."""
    keys = [(kind, cell) for kind, cell, _ in wanted]
    have = [(block.kind, block.cell) for block in blocks]
    problems = [(0, f"missing block {k}: {c}") for k, c in keys if (k, c) not in have]
    for block, key in zip(blocks, have, strict=True):
        if key not in keys:
            problems.append((block.line, f"orphaned block {block.kind}: {block.cell}"))
        elif have.count(key) > 1:
            problems.append((block.line, f"repeated block {block.kind}: {block.cell}"))
    if not problems and have != keys:
        first = next(i for i, key in enumerate(keys) if have[i] != key)
        kind, cell = keys[first]
        said = f"misordered block {blocks[first].kind}: {blocks[first].cell}"
        problems.append((blocks[first].line, f"{said}, expected {kind}: {cell}"))
    return problems


def _block_problems(block, english):
    """(line, sentence) for what one block says differently from its English cell."""
    name = f"{block.kind}: {block.cell}"
    if english is None:
        return []
    problems = []
    if block.hash != text_hash(english):
        said = (
            f"stale block {name}: the English is now {text_hash(english)}; look, then --stamp"
        )
        problems.append((block.line, said))
    if not block.text and english.strip():
        problems.append((block.line, f"empty block {name}"))
    elif block.kind != "alt":
        problems += [
            (block.line, f"block {name}: {m}") for m in differences(english, block.text)
        ]
    return problems


def start(book, name):
    """Make a Chinese page of empty blocks for page `name`."""
    path = book.chinese_path(name)
    if path.exists():
        raise SystemExit(f"{book.relative(path)} exists already")
    wanted = translatable(read_notebook(book.notebook_path(name)))
    blocks = [f"<!-- {kind}: {cell} en: {text_hash(text)} -->\n" for kind, cell, text in wanted]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(blocks), "utf-8")
    print(book.relative(path))


def stamp(book, path):
    """Renew the hashes of a Chinese page whose translator has read the English again."""
    name = path.resolve().relative_to(book.chinese.resolve()).with_suffix("").as_posix()
    english = {(k, c): t for k, c, t in translatable(read_notebook(book.notebook_path(name)))}
    lines = path.read_text("utf-8").splitlines()
    for block in read_blocks(path):
        if text := english.get((block.kind, block.cell)):
            header = f"<!-- {block.kind}: {block.cell} en: {text_hash(text)} -->"
            lines[block.line - 1] = header
    path.write_text("\n".join(lines) + "\n", "utf-8")
