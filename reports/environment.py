"""The templates' environment: every text is escaped, and an unknown name is an error."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from reports.figures.pictures import data_uri
from reports.index.story import label
from reports.words.formats import number


def environment() -> Environment:
    """Return an environment for the templates of pages.

    Its filters are those that all pages use: names as words, figures, and pictures as data URIs.
    """
    made = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"words": label, "number": number, "webp": data_uri}
    return made
