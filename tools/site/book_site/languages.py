"""The switch between the two sites, and the theme's words in Chinese."""

from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from sphinx.util.osutil import relative_uri

LOCALE = Path(__file__).resolve().parents[1] / "locale"
CHINESE_FOLDER = "zh"
TAGS = {"en": "en", "zh_CN": "zh-CN"}


def other_page(app, pagename):
    """Relative address of the same page in the other language.

    The English site is the root of the published folder, the Chinese one its `zh` folder.
    """
    target = app.builder.get_target_uri(pagename)
    if app.config.language == "zh_CN":
        return relative_uri(f"{CHINESE_FOLDER}/{target}", target)
    return relative_uri(target, f"{CHINESE_FOLDER}/{target}")


def _add_switch(app, pagename, templatename, context, doctree):
    """Give the template its link, and search engines the pair of pages."""
    other = "en" if app.config.language == "zh_CN" else "zh_CN"
    address = other_page(app, pagename)
    own = app.builder.get_target_uri(pagename).rsplit("/", 1)[-1]
    context["switch"] = {
        "url": address,
        "language": TAGS[other],
        "text": app.config.book_words["other_language"],
        "title": app.config.book_words["other_language_title"],
    }
    links = ((TAGS[app.config.language], own), (TAGS[other], address))
    for language, link in links:
        context["metatags"] = (
            context.get("metatags", "")
            + f'\n<link rel="alternate" hreflang="{language}" href="{link}">'
        )


def _add_theme_words(app):
    """Compile the book's own catalogue and put it behind those of the themes."""
    source = LOCALE / app.config.language / "LC_MESSAGES" / "sphinx.po"
    if not source.exists():
        return
    # Compiled into the build folder: a .mo file in the repository would go stale unseen.
    folder = Path(app.doctreedir) / "locale"
    compiled = folder / app.config.language / "LC_MESSAGES" / "sphinx.mo"
    compiled.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as po, compiled.open("wb") as mo:
        write_mo(mo, read_po(po))
    app.add_message_catalog("sphinx", str(folder))


def setup(app):
    """Register the switch and the catalogue."""
    app.connect("builder-inited", _add_theme_words)
    # Before 500, when the theme renders header items and drops those that come out empty.
    app.connect("html-page-context", _add_switch, priority=400)
