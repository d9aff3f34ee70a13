"""The templates' environment: every text is escaped, and an unknown name is an error."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from reports.figures.pictures import data_uri
from reports.index.story import label
from reports.words.formats import number


@cache  # a page has ten templates, and compiling them takes longer than filling them in
def environment() -> Environment:
    """Return the environment for the templates of pages, which keeps what it has compiled.

    Its filters write a name in words, a number as the reports write it, and a WebP picture as an address in the page.
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
