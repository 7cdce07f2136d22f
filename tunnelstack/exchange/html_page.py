"""
Small pages of HTML: one style for light and dark, large and small screens, and nothing from another host.
"""

from __future__ import annotations

from html import escape

HTML = b"text/html; charset=utf-8"

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>:root {{ color-scheme: light dark }}
body {{ font: 1.1em/1.5 sans-serif; max-width: 34em; margin: 15vh auto; padding: 0 1em; color: #333; background: #fff;
overflow-wrap: anywhere }}
small {{ color: #6b6b6b }} a {{ color: #0b57d0 }} ul {{ padding-left: 1.2em }} li {{ margin: .4em 0 }}
@media (prefers-color-scheme: dark) {{ body {{ color: #ddd; background: #1b1b1b }} small {{ color: #a0a0a0 }}
a {{ color: #8ab4f8 }} }}</style></head>
<body>
<h1>{title}</h1>
{content}</body>
</html>
"""


def htmlPage(title: str, content: str) -> bytes:
    """
    @param title: plain text; it is escaped.
    @param content: HTML, in lines.
    """
    return PAGE.format(title=escape(title), content=content).encode()
