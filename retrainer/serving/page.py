"""The page to try a served model by hand, written for Streamlit, which `page_process` runs it by.

    streamlit run page.py -- TOLD

TOLD is a JSON file: the model's `title`, the server's `address`, and `columns`: the inputs by the names that
callers use → their types' words. The page asks that server as any client does, so its answers are the
server's. What comes from outside is shown by `st.text`, or escaped in `st.html`: all else reads Markdown.
"""

from __future__ import annotations

import base64
import html
import http.client
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from retrainer.errors import DataError, UserError
from retrainer.formats.masks import colour, read_mask
from retrainer.serving.occlusion import Squares, Stretches, Words, enlarged, small_picture

# Long enough for whatever the server takes, which gives up after 60 s.
_SECONDS = 120
_LIKELIEST, _SHOWN_SIDE = 5, 640
_PARTS: dict[str, Any] = {"string": Words, "image": Squares, "audio": Stretches}
# What Streamlit has no setting for: each text by its own direction, and less room above.
_STYLE = """<style>
textarea, h1, h2 { unicode-bidi: plaintext; overflow-wrap: anywhere; }
h1, h2 { padding: 0; font-size: 1.5rem; } .stMainBlockContainer { padding-top: 3rem; }
.shares { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 2fr) 4em; gap: 2px 10px;
  align-items: center; }
.shares.classes { grid-template-columns: 1em minmax(0, 1fr) minmax(0, 2fr) 4em; }
.shares bdi { overflow-wrap: anywhere; } .shares meter { width: 100%; }
</style>"""
_SHARE = """<bdi>{name}</bdi><meter value="{share}" max="1" aria-label="{name}: {share:.1%}"></meter>
<span>{share:.1%}</span>"""
_CLASS = '<span style="background:rgb{colour};width:1em;height:1em"></span>'
_LEGEND = (
    "Blue parts speak for this answer, orange ones against it. The stronger the colour, the more its"
    " probability changes without that part."
)


def main(told: dict[str, Any]) -> None:
    st.set_page_config(page_title=told["title"])
    st.html(f"{_STYLE}<h1>{html.escape(told['title'])}</h1>")
    st.write("Try the model: give it something below, and ask.")
    st.caption("What you give goes to the server that showed this page, and nowhere else.")
    try:
        _ask_and_show(told)
    except UserError as error:
        st.error("There is no answer:")
        st.text(str(error))


def _ask_and_show(told: dict[str, Any]) -> None:
    fields = {name: _field(name, kind) for name, kind in told["columns"].items()}
    if st.button("Ask", type="primary"):
        row = {name: _parsed(name, told["columns"][name], value) for name, value in fields.items()}
        with st.spinner("asking the server"):
            (answer,) = ask(told["address"], [row], {"top_k": _LIKELIEST})
        st.session_state.asked = fields, row, answer
    asked = st.session_state.get("asked")
    if not asked or asked[0] != fields:
        return  # nothing was asked yet, or something else
    _show(asked[2])
    column, kind = next(iter(told["columns"].items()))
    explained = "label" in asked[2] and "probabilities" in asked[2] and kind in _PARTS
    if explained and st.button("Why this answer?"):
        with st.spinner("asking again without each part"):
            _explain(told["address"], asked[1], column, kind, asked[2]["label"])


def _field(name: str, kind: str) -> Any:
    """What a person has given, or None."""
    st.text(name)
    if kind == "number":
        return st.number_input(name, value=None, format="%g", key=f"in {name}", label_visibility="collapsed")
    if kind not in ("image", "audio"):
        return st.text_area(name, key=f"in {name}", label_visibility="collapsed") or None
    given = st.file_uploader(name, type=f"{kind}/*", key=f"in {name}", label_visibility="collapsed")
    if kind == "audio":
        spoken = st.audio_input("Speak", key=f"spoken {name}")
        given = given or spoken
    if given is None:
        return None
    data = given.getvalue()
    _preview(data, kind)
    return data


def _preview(data: bytes, kind: str) -> None:
    if kind == "audio":
        st.audio(data)
        return
    try:
        st.image(enlarged(small_picture(data, _SHOWN_SIDE)), alt="the picture")
    except UserError:  # what is wrong with it, the server says
        st.caption("This picture cannot be shown.")


def _parsed(name: str, kind: str, value: Any) -> Any:
    """The value as it is sent. Raises UserError where there is none, or it is no number."""
    if value is None:
        raise DataError(f"{name}: nothing is given")
    if kind not in ("numbers", "strings"):
        return value
    parts = [part.strip() for part in value.split(",")]
    try:
        return [float(part) for part in parts] if kind == "numbers" else parts
    except ValueError:
        raise DataError(f"{name}: needed are numbers with commas between, as 0.5, 2, -1") from None


def ask(address: str, rows: list[dict[str, Any]], params: dict[str, Any]) -> list[dict[str, Any]]:
    """One answer for each row. Raises UserError in the server's own words."""
    coded = [
        {name: _base64(value) if isinstance(value, bytes) else value for name, value in row.items()}
        for row in rows
    ]
    body = json.dumps({"dataframe_records": coded, "params": params}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    # No proxy stands between two processes of one machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            return list(json.load(answer)["predictions"])
    except urllib.error.HTTPError as error:
        raise DataError(_reason(error.read())) from None
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"the server does not answer: {error}") from None


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):  # a proxy's answer, for instance
        return body[:500].decode(errors="replace")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _show(answer: dict[str, Any]) -> None:
    """A classifier's label and likeliest classes; of another task the first of its predictions."""
    decided = answer.get("label") or ", ".join(answer.get("labels", ())) or next(iter(answer.values()))
    if isinstance(decided, dict) and {"image", "classes"} <= decided.keys():
        _show_mask(decided)
        return
    said = decided if isinstance(decided, str) else json.dumps(decided, ensure_ascii=False)
    likeliest = answer.get("probabilities", {}).items()
    shares = "".join(_SHARE.format(name=html.escape(name), share=share) for name, share in likeliest)
    st.html(f'<h2 role="status">{html.escape(said)}</h2><div class="shares">{shares}</div>')


def _show_mask(mask: dict[str, Any]) -> None:
    """Each class in its colour, and which class has which."""
    names = mask["classes"]
    values = read_mask(base64.b64decode(mask["image"]), "the answer")
    shares = np.bincount(values.ravel(), minlength=len(names)) / max(1, values.size)
    st.image(base64.b64decode(mask["image"]), alt="each pixel in the colour of its class")
    rows = "".join(
        _CLASS.format(colour=colour(value)) + _SHARE.format(name=html.escape(name), share=share)
        for value, (name, share) in enumerate(zip(names, shares[: len(names)].tolist(), strict=True))
        if name is not None
    )
    st.html(f'<h2 role="status">The classes of its pixels</h2><div class="shares classes">{rows}</div>')


def _explain(address: str, row: dict[str, Any], column: str, kind: str, label: str) -> None:
    parts = _PARTS[kind].of(row[column])
    rows = [{**row, column: value} for value in (parts.whole, *parts.without)]
    whole, *left = [answer["probabilities"][label] for answer in ask(address, rows, {})]
    shown = parts.drawn([whole - share for share in left])
    if isinstance(shown, str):
        st.html(shown)
    else:
        st.image(shown, alt="the picture, coloured")
    st.caption(_LEGEND)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
