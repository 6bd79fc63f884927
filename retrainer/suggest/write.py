"""The list of rows to label first, on disk: as a table and as JSON lines, sealed.

suggestions.csv      rank, origin (file and row), id where the data has it, score, reason, prediction,
                     probability, and the texts
suggestions.jsonl    the same, one row a line
manifest.json        kind, format version, what chose them, what was left out, sha256 per file
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from retrainer import __version__
from retrainer.formats.files import MANIFEST, hash_files, whole_directory, write_json, write_text

KIND, FORMAT_VERSION = "suggestions", 1
CSV, JSONL = "suggestions.csv", "suggestions.jsonl"


def write_suggestions(out: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Replaces what an earlier call wrote to `out`; the caller says so."""
    with whole_directory(out) as aside:
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        # As bytes: a text with a line break of its own keeps it.
        (aside / CSV).write_bytes(table.getvalue().encode())
        write_text(aside / JSONL, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        head = {"kind": KIND, "format_version": FORMAT_VERSION, "retrainer": __version__}
        write_json(aside / MANIFEST, head | about | {"files": hash_files(aside)})


def earlier(out: Path) -> str:
    """What lies at `out`, in words; empty where there is nothing."""
    try:
        found = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        return f"{found['rows']:,} rows of {found['input']}, by model {found['model_sha256'][:12]}"
    except (OSError, ValueError, KeyError, TypeError):
        return "what was not a list of rows" if out.exists() else ""
