"""What web services' operations do, in the first sentence of their documentation, and how they are called.

From the package botocore (Apache-2.0): "Deletes a DNS firewall rule." → DeleteFirewallRule. An operation that
many services have (TagResource) is one group, so that no name of a test row is one of a training row. A
sentence that says the name is left out. Each release of botocore has others: the lock names that of the
recipe's figures.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from retrainer.data.sources._package import package_file
from retrainer.errors import SettingError, nearest
from retrainer.settings import Section, Source

if TYPE_CHECKING:
    import pyarrow as pa

_TAG = re.compile(r"<[^>]*>")
_SENTENCE = re.compile(r"(.+?[.!?])(?:\s|$)")
_FEWEST, _MOST = 3, 30  # words of a sentence
_LARGEST = 60_000  # bytes of a service's packed description; the few larger ones take most of the time


class Options(Section):
    """Further keys of `source:`."""

    services: tuple[str, ...] = Field(
        (), description="whose operations, by botocore's names; empty: of all but the largest services"
    )


def files(source: Source) -> list[Path]:
    """The newest description of each service. Raises UserError when the package is not installed."""
    data = package_file(source, "botocore", "data/endpoints.json").parent
    newest: dict[str, Path] = {}
    for path in sorted(data.glob("*/*/service-2.json.gz")):
        newest[path.parent.parent.name] = path
    wanted = Options.parse(source.options, "source").services
    for name in wanted:
        if name not in newest:
            raise SettingError(f"source.services: botocore knows no {name!r}{nearest(name, sorted(newest))}")
    if wanted:
        return [newest[name] for name in wanted]
    return [path for path in newest.values() if path.stat().st_size <= _LARGEST]


def read(source: Source) -> Iterator[pa.Table]:
    """A table a service: text (a sentence), target_text and group (the name), origin."""
    import pyarrow as pa

    for file in files(source):
        rows = list(_operations(json.loads(gzip.decompress(file.read_bytes()))))
        service = file.parent.parent.name
        names = [name for name, _ in rows]
        columns = {
            "text": [sentence for _, sentence in rows],
            "target_text": names,
            "group": names,
            "origin": [f"{service}:{name}" for name in names],
        }
        yield pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _operations(description: Any) -> Iterator[tuple[str, str]]:
    """Names, and what they do."""
    for name, operation in description["operations"].items():
        plain = " ".join(unescape(_TAG.sub(" ", operation.get("documentation", ""))).split())
        found = _SENTENCE.match(plain.replace(" .", "."))
        sentence = found[1] if found else ""
        if _FEWEST <= len(sentence.split()) <= _MOST and name.lower() not in sentence.lower():
            yield name, sentence
