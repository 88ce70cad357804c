"""Rules for the words of both languages that only this book has; codespell knows the rest.

No result is typed by hand, and the words are those of the glossary.
"""

import re

from tools.checks.check_notebooks import alt_problem
from tools.pages.book import read_blocks, read_notebook
from tools.pages.glossary import read_terms
from tools.pages.syntax import CODE, COMMENT, DISPLAY_MATH, INLINE_MATH, OPAQUE, ROLE

GIVEN = "<!-- given -->"  # on a line whose numbers are settings, not results
QUOTED = "<!-- quoted -->"  # on a line that quotes somebody's term
CITED = "\x01"
NUMBER = re.compile(
    r"(?<![\w.,-])[-+−±]?\d+(?:\.\d+)?\s?[%％]|百分之|(?<![\w.])\d+\.\d+(?![\w.]*\w)"
)
# What stands before a number that is a name: a version, a section, a table of a paper.
NAMED = re.compile(
    r"(?:Python|Keras|TensorFlow|NumPy|Sphinx|Book|Apache|Creative Commons|BY|version|"
    r"[Ss]ections?|[Tt]ables?|[Ff]igures?|[Ee]quations?|[Cc]hapters?|§|版本|第|表|图|式|章|节)"
    r"[\s(（]*(?:[≥>=~]\s*)?$"
)
# "95 % interval" names a level that was chosen.
LEVEL = re.compile(r"\s*(?:的)?(?:paired |confidence |intervals?|区间|置信|配对)")
SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]|\n\s*\n")
FENCE_LINE = re.compile(r"^\s*(`{3,}|~{3,}|:{3,})(?:\{([\w:-]+)\})?")
LINK_TARGET = re.compile(r"\]\([^)]*\)|https?://[^\s<>)]+")


def masked(markdown):
    """`markdown` with everything that is not prose blanked out, lengths and lines kept.

    A citation becomes a run of marks, so that its sentence can be recognised.
    """

    def blank(match):
        sign = CITED if match[0].startswith("{cite") else " "
        return re.sub(r"[^\n]", sign, match[0])

    text = _without_blocks(markdown)
    for pattern in (COMMENT, DISPLAY_MATH, ROLE, CODE, INLINE_MATH, LINK_TARGET):
        text = pattern.sub(blank, text)
    return text


def _without_blocks(markdown):
    """Blank out code, maths, directive lines and options; keep bodies that are prose."""
    kept, opaque = [], None
    for line in markdown.splitlines():
        fence = FENCE_LINE.match(line)
        if opaque:
            kept.append("")
            opaque = None if fence and fence[1] == opaque and not fence[2] else opaque
        elif fence:
            kept.append("")
            closing = line.strip() == fence[1]
            is_code = not fence[2] and not fence[1].startswith(":") and not closing
            opaque = fence[1] if fence[2] in OPAQUE or is_code else None
        else:
            kept.append("" if re.match(r"^\s*:[\w-]+:\s", line) else line)
    return "\n".join(kept)


def typed_results(markdown):
    """Yield (line, sentence) for each decimal or percentage that looks typed by hand.

    Free are maths, code, roles, links, sentences with a citation, tables of symbols, names
    such as "Python 3.11", and lines marked as given.
    """
    text, lines = masked(markdown), markdown.splitlines()
    symbols = _symbol_table_lines(lines)
    for match in NUMBER.finditer(text):
        number = text.count("\n", 0, match.start())
        given = GIVEN in lines[number] or number in symbols
        if not given and CITED not in _sentence(text, match) and not _is_name(text, match):
            found = match[0].strip()
            yield (
                number + 1,
                f"typed number {found!r}: glue it, cite it, or mark the line {GIVEN}",
            )


def _is_name(text, match):
    """Whether a number belongs to a name, or is the level of an interval."""
    if LEVEL.match(text, match.end()):
        return True
    return NAMED.search(text[max(0, match.start() - 24) : match.start()].replace("\n", " "))


def _sentence(text, match):
    starts = [end.end() for end in SENTENCE_END.finditer(text, 0, match.start())]
    end = SENTENCE_END.search(text, match.end())
    return text[starts[-1] if starts else 0 : end.end() if end else len(text)]


def _symbol_table_lines(lines):
    """Numbers of the lines that belong to a table whose header says symbol."""
    inside, found = False, set()
    for number, line in enumerate(lines):
        is_row = line.lstrip().startswith("|")
        is_header = is_row and not (number and lines[number - 1].lstrip().startswith("|"))
        if is_header:
            inside = bool(re.search(r"symbol|符号", line, re.I))
        if is_row and inside:
            found.add(number)
    return found


def avoided_terms(markdown, terms, language):
    """Yield (line, sentence) for each word that the glossary tells to avoid."""
    approved = [term[f"term_{language}"] for term in terms]
    lines = markdown.splitlines()
    for number, line in enumerate(masked(markdown).splitlines()):
        if QUOTED in lines[number]:
            continue
        for term in terms:
            for word in filter(None, term[f"avoid_{language}"].split("|")):
                if _uses(line, word.strip(), approved, language):
                    said = f"{word!r}: the glossary says {term[f'term_{language}']!r}"
                    yield number + 1, said


def _uses(line, word, approved, language):
    """Whether `line` holds `word`, outside longer terms that are approved."""
    for term in approved:
        if word.lower() in term.lower() and word.lower() != term.lower():
            line = re.sub(re.escape(term), " ", line, flags=re.I)
    pattern = re.escape(word) if language == "zh" else rf"\b{re.escape(word)}s?\b"
    return re.search(pattern, line, re.I)


def texts(book, name):
    """Yield (place, first line, text, language) of all prose of one page in both languages."""
    if book.notebook_path(name).exists():
        for cell in read_notebook(book.notebook_path(name)).cells:
            if cell.cell_type == "markdown":
                place = f"{book.relative(book.notebook_path(name))}: cell {cell.id}"
                yield place, 0, cell.source, "en"
    if book.chinese_path(name).exists():
        for block in read_blocks(book.chinese_path(name)):
            if block.kind == "cell":
                place = str(book.relative(book.chinese_path(name)))
                yield place, block.text_line - 1, block.text, "zh"


def problems(book):
    """Every problem of the prose of the whole book."""
    terms, found = read_terms(book.folder / "glossary.csv"), []
    for name in book.page_names():
        for place, first, text, language in texts(book, name):
            rules = (typed_results(text), avoided_terms(text, terms, language))
            for number, said in (problem for rule in rules for problem in rule):
                found.append(f"{place}:{first + number}: {said}")
        found += _chinese_alternative_texts(book, name)
    return found


def _chinese_alternative_texts(book, name):
    path = book.chinese_path(name)
    for block in read_blocks(path) if path.exists() else []:
        if block.kind == "alt" and (problem := alt_problem(block.text, "zh")):
            yield f"{book.relative(path)}:{block.line}: alt: {block.cell}: {problem}"
