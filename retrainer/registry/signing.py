"""Signatures over a registered model: OpenSSF model signing, with plain keys on an elliptic curve.

What is signed is the whole registered form: weights, description, and the code that serves them. A signed
model carries this file, so that it can be checked where it is served.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrainer.errors import ModelError

SIGNATURE = "model.sig"
_BAD_SIGNING_KEY = (
    "RETRAINER_SIGNING_KEY is no unencrypted PEM key on P-256, P-384 or P-521;"
    " `openssl ecparam -name prime256v1 -genkey -noout -out key.pem` makes one"
)


def sign(bundle: Path, private_key: bytes) -> None:
    """Writes the signature over every file of the directory into it. Raises UserError for a useless key."""
    from model_signing.signing import Config

    with _as_file(private_key, _BAD_SIGNING_KEY) as key:
        config = Config().use_elliptic_key_signer(private_key=key)
    config.set_hashing_config(_hashing(bundle)).sign(bundle, bundle / SIGNATURE)


def verify(bundle: Path, public_key: bytes) -> None:
    """Raises UserError unless the key's owner signed every file of the directory as it is now."""
    from model_signing.verifying import Config

    if not (bundle / SIGNATURE).is_file():
        raise ModelError(
            f"{bundle} is not signed: {SIGNATURE} is missing, and RETRAINER_VERIFY_KEY asks for it"
        )
    with _as_file(public_key, "RETRAINER_VERIFY_KEY is no PEM public key on P-256, P-384 or P-521") as key:
        config = Config().use_elliptic_key_verifier(public_key=key)
    try:
        config.set_hashing_config(_hashing(bundle)).verify(bundle, bundle / SIGNATURE)
    except Exception:  # the library lets many kinds through
        raise ModelError(
            f"{bundle} was altered after it was signed, or signed by another key than RETRAINER_VERIFY_KEY's"
        ) from None


def public_of(private_key: bytes) -> bytes:
    """The public half of a private key, as PEM. Raises UserError when it is none that can sign."""
    from cryptography.hazmat.primitives import serialization
    from model_signing.signing import Config

    with _as_file(private_key, _BAD_SIGNING_KEY) as key:
        Config().use_elliptic_key_signer(private_key=key)
        public = serialization.load_pem_private_key(private_key, None).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(public.public_bytes(serialization.Encoding.PEM, form))


def _hashing(bundle: Path) -> Any:
    """Every file but the signature, and but what MLflow and Python write beside registered files in use."""
    from model_signing.hashing import Config

    caches = [str(path.relative_to(bundle)) for path in bundle.rglob("__pycache__")]
    ignored = [SIGNATURE, "registered_model_meta", *caches]
    return Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


@contextmanager
def _as_file(key: bytes, refusal: str) -> Iterator[str]:
    """A path that holds the key while the block runs: a pipe, since a key must not lie on a disk.

    Whatever goes wrong inside becomes `refusal`: a word of the reason might be a piece of the key.
    """
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as stream:
            os.set_blocking(writing, False)
            stream.write(key)
        yield f"/dev/fd/{reading}"
    except Exception:
        raise ModelError(refusal) from None
    finally:
        os.close(reading)
