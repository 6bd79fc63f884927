"""For mkdocs: a link that leaves docs/ works in the repository only; the site shows its text and its path."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

DOCS = Path(__file__).parent
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    folder = (DOCS / page.file.src_uri).parent

    def shown(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(DOCS):
            return link[0]
        place = PurePosixPath(target.relative_to(DOCS.parent)).as_posix()
        return f"{link[1]} (`{place}`)" if link[1].strip("`") != place else f"`{place}`"

    return _LINK.sub(shown, markdown)
