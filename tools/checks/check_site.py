"""Rules for the finished pages: nothing left unrendered, nothing fetched, all figures told.

lychee follows the links within the sites, to the heading or entry that they name.
"""

import re
import subprocess
import sys
from pathlib import Path

from bs4 import BeautifulSoup

from tools.checks.check_notebooks import FILE_NAME

# Elements whose address is fetched when a page opens; a plain link is only followed.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
ONLY_NAMED = {"canonical", "alternate", "author", "license"}
REMOTE = re.compile(r"^(https?:)?//")
STYLE_REMOTE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])\s*((?:https?:)?//[^'\")]+)")
# Formulas and code; of the reference, signatures and names of parameters (`**options`).
NO_PROSE = "pre, code, script, style, .math, .sig, .field-list strong"
LEFT_OVER = re.compile(r"\*\*|\$\$|\{[a-z:.]+\}`|\[\^[\w-]+\]")


def page_problems(html):
    """Every problem of one finished page, one sentence each."""
    page = BeautifulSoup(html, "html.parser")
    problems = [f"fetches {address}" for address in _fetched(page)]
    for image in page.select("article img"):
        alt = image.get("alt", "")
        if not alt or FILE_NAME.search(alt):
            problems.append(
                f"image {image.get('src', '')[:60]} has the alternative text {alt!r}"
            )
    article = page.select_one("article") or page
    for element in article.select(NO_PROSE):
        element.decompose()
    words = article.get_text()
    for match in LEFT_OVER.finditer(words):
        around = " ".join(words[max(0, match.start() - 30) : match.end() + 30].split())
        problems.append(f"unrendered markup {match[0]!r} in «{around}»")
    return problems


def _fetched(page):
    for name, attribute in FETCHED.items():
        for element in page.find_all(name):
            address = element.get(attribute) or ""
            if REMOTE.match(address) and not ONLY_NAMED & {*element.get("rel", [])}:
                yield address
    for element in page.find_all("style"):
        yield from STYLE_REMOTE.findall(element.get_text())


def dead_links(folder):
    """Links between the pages below a folder that lead nowhere; links to elsewhere are kept."""
    lychee = Path(sys.executable).with_name("lychee")
    options = ["--offline", "--include-fragments=full", "--no-progress", "--format=compact"]
    # Below _static lie the theme's templates, which are no pages.
    program = [lychee, *options, "--exclude-path=/_static/", folder]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith(("[", "   "))]
    return [line.replace(f"{folder}/", "") for line in found] if done.returncode else []


def problems(book):
    """Every problem of the two finished sites."""
    found = dead_links(book.site)
    for path in sorted(book.site.rglob("*.html")):
        if "_static" not in path.parts:
            for text in page_problems(path.read_text("utf-8")):
                found.append(f"{path.relative_to(book.site)}: {text}")
    for path in sorted(book.site.rglob("*.css")):
        for address in STYLE_REMOTE.findall(path.read_text("utf-8")):
            found.append(f"{path.relative_to(book.site)}: fetches {address}")
    return found
