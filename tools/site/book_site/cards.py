"""The cost card under a page's title: what running its notebook took, and on what."""

import json
from html import escape

PACKAGES = (("python", "Python"), ("tensorflow", "TensorFlow"), ("keras", "Keras"))


def card(words, execution):
    """HTML of one card.

    Args:
        words: the sentences of the page's language.
        execution: the notebook's metadata `execution`, written by tools/execute.py.
    """
    seconds = execution["cpu_seconds"]
    if seconds >= 90:
        time = words["minutes"].format(value=round(seconds / 60))
    else:
        time = words["seconds"].format(value=max(1, round(seconds)))
    versions = execution["versions"]
    parts = [
        time,
        words["memory"].format(value=f"{execution['peak_memory_mb']:,}"),
        words["machine"].format(cores=execution["cores"], cpu=execution["cpu"]),
        ", ".join(f"{name} {versions[key]}" for key, name in PACKAGES if key in versions),
        words["measured"].format(date=execution["date"]),
    ]
    items = "".join(f"<li>{escape(part)}</li>" for part in parts)
    title = escape(words["cost"])
    body = f"<strong>{title}</strong><ul>{items}</ul>"
    return f'<aside class="book-cost" aria-label="{title}">{body}</aside>'


def _add_card(app, pagename, templatename, context, doctree):
    """Put the card under the first heading of a page that was executed."""
    stored = app.env.metadata.get(pagename, {}).get("execution")
    if not stored or "</h1>" not in context.get("body", ""):
        return
    execution = json.loads(stored) if isinstance(stored, str) else stored
    html = card(app.config.book_words, execution)
    context["body"] = context["body"].replace("</h1>", "</h1>\n" + html, 1)


def setup(app):
    """Register the card."""
    app.connect("html-page-context", _add_card)
