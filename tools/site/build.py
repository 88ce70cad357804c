"""Build both sites from the stored outputs; nothing is executed.

    python -m tools.site.build                 both languages into _build/site
    python -m tools.site.build --serve         and serve them on this machine
    python -m tools.site.build en --fresh      one language, whatever the stamp says
    python -m tools.site.build --draft         the English pages that exist, faults and all

`_build/site/index.html` is the English site, `_build/site/zh/index.html` the Chinese one.
A second build of the same files does nothing: a stamp of all inputs is kept. A build of
changed files starts from nothing, because an incremental one of Sphinx reports the warnings
of changed pages only and leaves old titles in the navigation of the others.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import yaml

from tools.checks import everything as checks
from tools.pages import weave
from tools.pages.book import REPOSITORY, Book, only_pages

LANGUAGES = ("en", "zh")
INGREDIENTS = ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme", "sphinx-exercise")
# A page's frame alone (navigation, scripts) takes more than this; a redirect far less.
SMALLEST_PAGE = 8_000
TELLING = re.compile(r"WARNING|ERROR|\bErrors?: |\w+Error: |Extension error")


def fingerprint(book):
    """SHA-256 over every file and package that the sites are made of."""
    digest = hashlib.sha256()
    for name in INGREDIENTS:
        digest.update(f"{name}=={version(name)}\n".encode())
    tools = REPOSITORY / "tools"
    paths = [book.root / "_config.yml", book.root / "_toc.yml"]
    paths += [*(tools / "pages").glob("*.py"), *(tools / "checks").glob("*.py")]
    paths += [*(tools / "site").rglob("*"), *book.folder.rglob("*")]
    paths += (REPOSITORY / "distill_lib").rglob("*.py")  # the reference is made of it
    for path in sorted(set(paths)):
        hidden = any(part.startswith((".", "__pycache__")) for part in path.parts[-3:])
        if path.is_file() and not hidden:
            digest.update(str(path).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def command(book, language):
    """The jupyter-book command of one language."""
    source, config_folder = book.folder, book.root
    if language == "zh":
        source = config_folder = book.build / weave.SOURCE_FOLDER
    names = {"--config": "_config.yml", "--toc": "_toc.yml"}
    options = [f"{option}={config_folder / name}" for option, name in names.items()]
    target = f"--path-output={book.build / language}"
    start = "from jupyter_book.cli.main import main; main()"
    program = [sys.executable, "-c", start, "build", str(source)]
    # -n -W --keep-going: without them an error in a page does not fail the build.
    return [*program, *options, target, "-n", "-W", "--keep-going"]


def build_languages(book, languages):
    """Build the languages side by side.

    Returns:
        The sentences that say which one failed, with the log of Sphinx's errors.
    """
    running = {}
    for language in languages:
        shutil.rmtree(book.build / language, ignore_errors=True)
        log = (book.build / f"{language}.log").open("w", encoding="utf-8")
        running[language] = subprocess.Popen(
            command(book, language),
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=book.root,
            env={**os.environ, "NO_COLOR": "1"},
        )
    failed = [language for language, process in running.items() if process.wait()]
    return [_failure(book, language) for language in failed]


def _failure(book, language):
    lines = (book.build / f"{language}.log").read_text("utf-8").splitlines()
    telling = [line for line in lines if TELLING.search(line)] or lines[-30:]
    logs = (book.build / language).rglob("*.err.log")
    texts = [f"--- {path.name}\n{path.read_text('utf-8')}" for path in logs]
    return "\n".join([f"The {language} site has errors:", *telling, *texts])


def page_faults(book, language):
    """Sentences about pages of the table of contents that came out missing or empty.

    A mix-up of Jupyter Book's major versions has shipped empty sites with green checks: 2.x
    reads another configuration, finds nothing to build, and says that it succeeded.
    """
    faults = []
    for name in book.page_names():
        path = book.build / language / "_build" / "html" / f"{name}.html"
        if not path.exists():
            faults.append(f"{language}: {name}.html was not built")
        elif path.stat().st_size < SMALLEST_PAGE:
            faults.append(f"{language}: {name}.html has only {path.stat().st_size} bytes")
    return faults


def publish(book, language):
    """Copy one language into the finished site, the English one without touching `zh`."""
    target = book.site / "zh" if language == "zh" else book.site
    if language == "zh":
        shutil.rmtree(target, ignore_errors=True)
    else:
        for path in book.site.glob("*"):
            if path.name != "zh":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(book.build / language / "_build" / "html", target, dirs_exist_ok=True)


def build(book, languages=LANGUAGES, fresh=False):
    """Check and build; raise SystemExit with everything that is wrong."""
    stamp, now = book.build / "site.stamp", fingerprint(book)
    complete = all((book.site / part / "index.html").exists() for part in (".", "zh"))
    if not fresh and complete and stamp.exists() and stamp.read_text() == now:
        return print("Nothing changed since the last build.")
    stamp.unlink(missing_ok=True)
    faults = checks.source_problems(book)
    if faults:
        sys.exit("\n".join(faults))
    book.build.mkdir(exist_ok=True)
    if "zh" in languages:
        weave.weave(book)
    faults = build_languages(book, languages)
    faults += [fault for language in languages for fault in page_faults(book, language)]
    if faults:
        sys.exit("\n".join(faults))
    for language in languages:
        publish(book, language)
    if set(languages) == set(LANGUAGES):
        stamp.write_text(now)
    print(f"{len(book.page_names())} pages, {' and '.join(languages)}: {book.site}")


def draft(book):
    """Build the English pages that exist into `_build/en/_build/html`; say what is wrong."""
    print("\n".join(checks.source_problems(book)))
    names = [name for name in book.page_names() if book.notebook_path(name).exists()]
    contents = only_pages(book.table_of_contents(), names)
    contents["root"] = names[0]
    contents["parts"] = [part for part in contents["parts"] if part["chapters"]]
    path = book.build / "draft_toc.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(contents, sort_keys=False), "utf-8")
    strict = ("-n", "-W", f"--toc={book.root / '_toc.yml'}")
    relaxed = [option for option in command(book, "en") if option not in strict]
    subprocess.run([*relaxed, f"--toc={path}"], check=False)


def serve(book, port):
    """Serve the finished sites until interrupted."""
    handler = partial(SimpleHTTPRequestHandler, directory=book.site)
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        print(f"English: {address}\n中文:    {address}zh/\nStop with Ctrl+C.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("languages", nargs="*", default=list(LANGUAGES), metavar="en|zh")
    parser.add_argument("--root", type=Path, default=REPOSITORY)
    parser.add_argument("--fresh", action="store_true", help="build even if nothing changed")
    parser.add_argument("--draft", action="store_true", help="English, unfinished, unchecked")
    parser.add_argument("--serve", action="store_true", help="serve the result on 127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    if unknown := set(options.languages) - set(LANGUAGES):
        parser.error(f"languages must be among {LANGUAGES}, got {sorted(unknown)}")
    book = Book(options.root.resolve())
    if options.draft:
        return draft(book)
    build(book, tuple(options.languages), options.fresh)
    if options.serve:
        serve(book, options.port)


if __name__ == "__main__":
    main()
