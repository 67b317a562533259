"""Explorers on a page without a kernel: one HTML file that opens offline, from a disk or any web server."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ssdedu.widgets.base import bundle

__all__ = ["fragment", "page"]

_FRAGMENT = """<div class="ssdedu-static" aria-busy="true"></div>
<style>{css}</style>
<script type="module">
{script}
const bytes = Uint8Array.from(atob("{state}"), (c) => c.charCodeAt(0));
const el = document.querySelector(".ssdedu-static[aria-busy]");
el.removeAttribute("aria-busy");
await mount(el, JSON.parse(new TextDecoder().decode(bytes)));
</script>"""
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
:root {{ color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --jp-ui-font-color1: #eee; --jp-layout-color1: #121212; }}
}}
</style></head>
<body>
{body}
</body>
</html>
"""


def fragment(state: Mapping[str, Any]) -> str:
    """HTML of one explorer from its state, as `Explorer.get_state` gives it or a notebook stores it."""
    kept = {
        name: value for name, value in state.items() if not name.startswith(("_model", "_view", "layout"))
    }
    packed = base64.b64encode(json.dumps(kept, default=lambda value: None).encode()).decode()
    script = bundle("static.js").replace("export ", "")
    return _FRAGMENT.format(css=state["_css"], script=script, state=packed)


def page(title: str, states: Sequence[Mapping[str, Any]]) -> str:
    """A whole HTML page with these explorers and nothing else."""
    return _PAGE.format(title=html.escape(title), body="\n".join(map(fragment, states)))
