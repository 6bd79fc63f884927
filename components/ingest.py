"""Ingestion: reads the source as it is today and writes it down, with where each row came from."""

from __future__ import annotations

from retrainer.contract import ArtifactView, Metadata, OutDataset
from retrainer.settings import Source


def ingest(raw: OutDataset, pointer: ArtifactView, source: Source) -> Metadata:
    """Source → raw dataset. Impure: never restored from a cache.

    `pointer` becomes a `.dvc` file; the data is pushed where RETRAINER_DVC_REMOTE names a remote.
    """
    from retrainer.data.ingest import ingest as read_source
    from retrainer.services import dvc_remote, storage

    with storage.local(source) as here:
        manifest = read_source(here, raw)
    told = {"raw": {"rows": manifest["rows"], "content_sha256": manifest["content_sha256"]}}
    if pointer is not None:
        told["pointer"] = dvc_remote.publish(raw, pointer)
    return told
