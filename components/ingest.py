"""Ingestion: reads the source as it is today and writes it down, with where each row came from."""

from __future__ import annotations

from retrainer.contract import Metadata, OutDataset
from retrainer.settings import Source


def ingest(raw: OutDataset, source: Source) -> Metadata:
    """Source → raw dataset. Worldly: never restored from a cache."""
    from retrainer.data.ingest import ingest as read_source
    from retrainer.services import storage

    with storage.local(source) as here:
        manifest = read_source(here, raw)
    return {"raw": {"rows": manifest["rows"], "content_sha256": manifest["content_sha256"]}}
