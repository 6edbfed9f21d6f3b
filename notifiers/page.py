"""A notice as a page: the part of a mail that is more than text."""

import html

from canhazgpu.events.notices import Notice
from canhazgpu.notifiers.render import lines, subject


def page(notice: Notice) -> str:
    """Return the whole HTML document of a notice; nothing in it is fetched from anywhere."""
    text = html.escape("\n".join(lines(notice)))
    title = html.escape(subject(notice))
    return f'<!doctype html>\n<html lang="en">\n<title>{title}</title>\n<pre>{text}</pre>\n</html>\n'
