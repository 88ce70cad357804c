"""A search for Chinese that needs no dictionary: single Han characters and their pairs."""

import re

from sphinx.search import SearchLanguage

HAN = "\\u3400-\\u4dbf\\u4e00-\\u9fff"
WORD = re.compile(f"[{HAN}]+|[^\\W{HAN}]+")
IS_HAN = re.compile(f"[{HAN}]")

# Sphinx asks for all terms of a query, so a query becomes its pairs alone: the single
# characters add nothing but hits that hold them apart. One character alone stays itself.
SPLITTER = """
var splitQuery = function (query) {
  var terms = [];
  (query.match(/[%(han)s]+|[\\p{Letter}\\p{Number}_]+/gu) || []).forEach(function (run) {
    if (!/^[%(han)s]/.test(run)) {
      (run.match(/[^%(han)s]+/g) || []).forEach(function (word) { terms.push(word); });
    } else if (run.length === 1) {
      terms.push(run);
    } else {
      for (var i = 0; i + 1 < run.length; i++) { terms.push(run.slice(i, i + 2)); }
    }
  });
  return terms;
};
""" % {"han": HAN}  # noqa: UP031 (braces are JavaScript here)


class SearchHan(SearchLanguage):
    """Index each Han character and each pair of neighbours; other words whole."""

    lang = "zh"
    language_name = "Chinese"
    js_splitter_code = SPLITTER

    def split(self, input):
        """The terms of a text, in order."""
        terms = []
        for run in WORD.findall(input):
            if IS_HAN.match(run):
                terms += [*run, *(run[i : i + 2] for i in range(len(run) - 1))]
            else:
                terms.append(run)
        return terms

    def stem(self, word):
        """The index holds lower-case words; the browser asks in lower case."""
        return word.lower()

    def word_filter(self, word):
        """Keep everything; Sphinx drops short words of some scripts otherwise."""
        return bool(word)


def setup(app):
    """Replace Sphinx's own `zh`, which cannot take a query apart in the browser."""
    app.add_search_language(SearchHan)
