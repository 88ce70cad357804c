"""The finished sites, served on this machine, and a browser that may not leave it.

BOOK_ROOT names another book to look at (a folder with `_toc.yml`), for work on the machinery.
"""

import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A browser asks its maker for many things; here every request must be the page's own.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line for each request."""

    def log_message(self, *_arguments):
        """Say nothing."""


@pytest.fixture(scope="session")
def book():
    """The book whose sites are tested."""
    from tools.pages.book import Book

    return Book(Path(os.environ.get("BOOK_ROOT", REPOSITORY)))


@pytest.fixture(scope="session")
def address(book):
    """Address of the English site; built first where it is missing or stale."""
    build = [sys.executable, "-m", "tools.site.build", f"--root={book.root}"]
    done = subprocess.run(build, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    handler = partial(QuietHandler, directory=book.site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed"
    )
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is in PATH")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found[0], args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    """A fresh tab; `page.complaints` collects console errors, failures and foreign requests."""
    tab = browser.new_page()
    tab.complaints = []

    def note_request(request):
        if not request.url.startswith((address, "data:", "blob:")):
            tab.complaints.append(f"request to {request.url}")

    def note_message(message):
        if message.type == "error":
            tab.complaints.append(f"console: {message.text}")

    tab.on("request", note_request)
    tab.on("console", note_message)
    tab.on("pageerror", lambda error: tab.complaints.append(f"script: {error}"))
    tab.on("requestfailed", lambda request: tab.complaints.append(f"failed: {request.url}"))
    yield tab
    tab.close()
