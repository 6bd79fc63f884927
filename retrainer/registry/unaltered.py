"""Whether a registered version is still what was registered: every hash, and the signature."""

from __future__ import annotations

from pathlib import Path

from retrainer.errors import ModelError
from retrainer.formats.files import digest_of, hash_files
from retrainer.registry import signing
from retrainer.services import keys
from retrainer.services.download import MODEL_INSIDE, registered_files, verified
from retrainer.services.readers import RegisteredVersion

# Tags of a version: the digest of all its files, and that it was signed.
BUNDLE_SHA256 = "bundle_sha256"
SIGNED = "signed"


def bundle_digest(bundle: Path) -> str:
    """One digest for all registered files, but for the signature over them and for what their use leaves."""
    found = hash_files(bundle, leave_out=(signing.SIGNATURE, "registered_model_meta"))
    return digest_of({name: sha for name, sha in found.items() if "__pycache__/" not in name})


def unaltered_model(version: RegisteredVersion, into: Path, public_key: bytes | None) -> Path:
    """The version's model directory after every check: where it lies, else fetched to `into`.

    The signature is checked when there is a public key. Raises UserError that says what is wrong.
    """
    bundle = registered_files(version, into)
    directory = verified(bundle / MODEL_INSIDE, version.model_sha256)
    registered = version.tags.get(BUNDLE_SHA256)
    if registered is not None and bundle_digest(bundle) != registered:
        raise ModelError(
            f"{bundle} was altered: its files beside the model are not those that were registered"
        )
    if public_key is not None:
        signing.verify(bundle, public_key)
    return directory


def demanded_key(version: RegisteredVersion) -> bytes | None:
    """The key that a version must be checked with before it is made champion; None when it is not signed.

    Where only the signing key is known, its public half is taken. Raises UserError when there is neither.
    """
    public = keys.verify_key()
    if public is None and version.tags.get(SIGNED):
        private = keys.signing_key()
        if private is None:
            raise ModelError(
                f"models:/{version.name}/{version.version} is signed: set {keys.VERIFY} to the public key"
            )
        return signing.public_of(private)
    return public
