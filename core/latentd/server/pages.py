"""Pages for people: HTML that loads nothing from other hosts."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable

from starlette.responses import HTMLResponse

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c21; --faint: #5f5f6b; --ground: #fbfbfa; --panel: #efefec;
  --link: #0b57a4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e3; --faint: #a2a2ab; --ground: #17171a; --panel: #25252a;
  --link: #8ab8f0; } }
body { margin: 0 auto; max-width: 44rem; padding: 2rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.9rem; }
h1 small, .faint { color: var(--faint); font-weight: normal; }
h1 small { font-size: 1rem; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.15rem; }
a { color: var(--link); }
ul { padding-left: 1.2rem; }
code, pre { font: .875rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { padding: .8rem 1rem; border-radius: .4rem; background: var(--panel); overflow-x: auto; overflow-wrap: normal; }
"""


def style_hash(style: str) -> str:
    """The source expression of a Content-Security-Policy that allows a ``<style>`` of exactly this text."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() + "'"


#: Allows only the page's own style; no script and no request.
PLAIN_POLICY = (
    f"default-src 'none'; style-src {style_hash(STYLE)}; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: The documentation's scripts create styles, pictures and a worker (for the search), and send requests to this server.
SCRIPTED_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def plain_page(title: str, body: str) -> HTMLResponse:
    """A page without scripts; ``body`` is HTML."""
    return _page(title, f"<style>{STYLE}</style>", body, PLAIN_POLICY)


def scripted_page(title: str, body: str, *, styles: Iterable[str] = ()) -> HTMLResponse:
    """A page that scripts from this server draw.

    :param body: HTML with the scripts.
    :param styles: addresses of style sheets.
    """
    head = "<style>body { margin: 0; }</style>"
    head += "".join(f'<link rel="stylesheet" href="{html.escape(address)}">' for address in styles)
    return _page(title, head, body, SCRIPTED_POLICY)


def _page(title: str, head: str, body: str, policy: str) -> HTMLResponse:
    text = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{html.escape(title)}</title>\n{head}\n</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(text, headers=headers)
