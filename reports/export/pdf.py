"""Prints a page as PDF, small enough to send and equal for equal pages."""

from __future__ import annotations

import re

from reports.export.browser import Output, printed

LARGEST_TAGGED = 5_000_000
"""Largest PDF, in bytes, that keeps its structure for screen readers; a larger one is printed again without it, which
more than halves a report with many tables."""

_NO_HEADER, _UNTAGGED = "--no-pdf-header-footer", "--disable-pdf-tagging"
_DATE = re.compile(rb"(/(?:CreationDate|ModDate) \(D:)(\d{14})")


def to_pdf(html: str, created: str, program: str | None = None) -> bytes:
    """Return a page as PDF, made from exactly this HTML, without network.

    Args:
        html: The page.
        created: Time that the PDF states, ``20260131120000``; equal pages then give equal bytes for one Chromium.
        program: The browser; None looks for one on the PATH.

    Raises:
        NotPrintedError: If no Chromium is found, or it makes no PDF.
    """
    data = printed(html, Output.PDF, _NO_HEADER, program=program)
    if len(data) > LARGEST_TAGGED:
        data = printed(html, Output.PDF, _NO_HEADER, _UNTAGGED, program=program)
    return _DATE.sub(rb"\g<1>" + created.encode(), data)
