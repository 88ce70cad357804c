"""What a Markdown cell holds besides words: the parts that both languages must share."""

import re
from collections import Counter

FENCE = re.compile(r"^\s*(`{3,}|~{3,}|:{3,})\s*(.*)$")
DIRECTIVE = re.compile(r"^\{([\w:.+-]+)\}\s*(.*)$")
OPTION = re.compile(r"^\s*:([\w-]+):\s*(.*)$")
TARGET = re.compile(r"^\(([^()\s]+)\)=\s*$")
ROLE = re.compile(r"\{([\w:.+-]+)\}(`+)(.+?)\2", re.S)
DISPLAY_MATH = re.compile(r"\$\$(.+?)\$\$(?:[ \t]*\(([\w:.-]+)\))?", re.S)
INLINE_MATH = re.compile(r"(?<![\\$])\$(?!\s)([^$\n]+?(?:\n[^$\n]+?)?)(?<![\s\\])\$(?!\d)")
CODE = re.compile(r"(`+)(.+?)\1", re.S)
COMMENT = re.compile(r"<!--.*?-->", re.S)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?([^)\s>]+)>?[^)]*\)")
AUTOLINK = re.compile(r"<?(https?://[^\s<>()\u3000-\u9fff\uff00-\uffef]+)>?")
FOOTNOTE = re.compile(r"\[\^([\w-]+)\]")
HEADING = re.compile(r"^(#{1,6})\s")
DISPLAYED_TARGET = re.compile(r"<([^<>]+)>\s*$")

# The body of these is not Markdown; their whole content must be equal in both languages.
OPAQUE = {"math", "code", "code-block", "code-cell", "bibliography", "mermaid", "raw"}
# What these directives and options say is language; only their presence is compared.
WORDY_DIRECTIVES = {
    "admonition", "card", "dropdown", "exercise", "tab-item", "grid-item-card", "margin",
    "tip", "note", "warning", "important", "seealso", "figure-md", "list-table", "table",
    "csv-table", "hint", "caution", "attention", "danger", "glue:figure", "topic", "sidebar",
}  # fmt: skip
WORDY_OPTIONS = {"alt", "caption", "title", "header"}
# A translation may say a symbol again where English says "it"; others are counted.
UNCOUNTED = {"maths", "code"}
WORDY_ROLES = {"abbr", "term", "sub", "sup", "kbd"}


def invariants(markdown):
    """Everything of a Markdown text that translation must keep.

    Returns:
        dict from what it is ("maths", "label", "role", …) to a Counter of the things found.
    """
    found = {}
    lines = _read_fences(COMMENT.sub("", markdown).splitlines(), found)
    _read_inline("\n".join(lines), found)
    return found


def differences(english, translated):
    """Sentences that say what `translated` lacks of `english`, and what it has too much."""
    first, second = invariants(english), invariants(translated)
    messages = []
    for kind in sorted(first.keys() | second.keys()):
        have, want = second.get(kind, Counter()), first.get(kind, Counter())
        if kind in UNCOUNTED:
            have, want = Counter({*have}), Counter({*want})
        messages += [f"{kind} missing: {thing}" for thing in (want - have).elements()]
        messages += [
            f"{kind} not in the English: {thing}" for thing in (have - want).elements()
        ]
    return messages


def _note(found, kind, thing):
    found.setdefault(kind, Counter())[thing] += 1


def _read_fences(lines, found):
    """Take fenced blocks out of `lines`; directives with Markdown bodies keep their body."""
    kept, position = [], 0
    while position < len(lines):
        fence = FENCE.match(lines[position])
        if not fence:
            kept.append(lines[position])
            position += 1
            continue
        end = _fence_end(lines, position, fence[1])
        body = lines[position + 1 : end]
        kept += _read_fence(fence[2].strip(), body, found)
        position = end + 1
    return kept


def _fence_end(lines, start, mark):
    """Index of the line that closes the fence opened with `mark` at `start`."""
    for position in range(start + 1, len(lines)):
        text = lines[position].strip()
        if len(text) >= len(mark) and set(text) == {mark[0]}:
            return position
    return len(lines)


def _read_fence(info, body, found):
    """Note one fenced block; return the lines of its body that are Markdown."""
    directive = DIRECTIVE.match(info)
    if not directive:
        _note(found, "code block", "\n".join(line.rstrip() for line in body))
        return []
    name, argument = directive.groups()
    _note(
        found, "directive", name if name in WORDY_DIRECTIVES else f"{name} {argument}".strip()
    )
    body = _read_options(body, found)
    if name in OPAQUE:
        kind = "maths" if name == "math" else "code block"
        _note(found, kind, normal_maths("\n".join(body)))
        return []
    words = [argument] if name in WORDY_DIRECTIVES else []
    return words + _read_fences(body, found)


def _read_options(body, found):
    """Note the `:key: value` lines that open a directive's body; return the rest."""
    for position, line in enumerate(body):
        option = OPTION.match(line)
        if not option:
            return body[position:]
        key, value = option.groups()
        _note(found, "option", key if key in WORDY_OPTIONS else f"{key}: {value.strip()}")
    return []


def normal_maths(source):
    r"""Maths without layout: white space collapsed, words in `\text{…}` left out."""
    source = re.sub(r"\\(text|mathrm|textrm)\{[^{}]*[^\x00-\x7f][^{}]*\}", r"\\\1{}", source)
    source = re.sub(r"\\text\{[^{}]*\}", r"\\text{}", source)
    return re.sub(r"\s+", "", source.replace(r"\mathrm{}", r"\text{}"))


def _take(pattern, text, note):
    """Remove every match of `pattern` from `text`, calling `note(match)` for each."""

    def replace(match):
        note(match)
        return " "

    return pattern.sub(replace, text)


def _note_role(found, match):
    name, content = match[1], match[3]
    target = DISPLAYED_TARGET.search(content)
    if name.startswith("math"):
        _note(found, "maths", normal_maths(content))
    elif name in WORDY_ROLES:
        _note(found, "role", name)
    else:
        _note(found, "role", f"{name} {(target[1] if target else content).strip()}")


def _note_display(found, match):
    _note(found, "maths", normal_maths(match[1]))
    if match[2]:
        _note(found, "label", match[2])


def _read_inline(text, found):
    """Note roles, maths, code, links, footnotes, labels and headings of fence-free text."""
    text = _take(DISPLAY_MATH, text, lambda m: _note_display(found, m))
    text = _take(ROLE, text, lambda m: _note_role(found, m))
    text = _take(CODE, text, lambda m: _note(found, "code", " ".join(m[2].split())))
    text = _take(INLINE_MATH, text, lambda m: _note(found, "maths", normal_maths(m[1])))
    while LINK.search(text):  # a link may hold an image
        text = LINK.sub(lambda m: _note_link(found, m), text)
    text = _take(AUTOLINK, text, lambda m: _note(found, "link", m[1].rstrip(".,;:。，；：")))
    text = _take(FOOTNOTE, text, lambda m: _note(found, "footnote", m[1]))
    for line in text.splitlines():
        if target := TARGET.match(line):
            _note(found, "label", target[1])
        elif heading := HEADING.match(line):
            _note(found, "heading", f"level {len(heading[1])}")
        elif line.lstrip().startswith("|"):
            _note(found, "table row", f"{line.count('|')} bars")


def _note_link(found, match):
    _note(found, "image" if match[1] else "link", match[3])
    return match[2]
