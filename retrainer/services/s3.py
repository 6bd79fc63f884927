"""boto3's client for S3, by the environment. Credentials and region come from where boto3 looks for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from retrainer.errors import ServiceError
from retrainer.services.address import without_credentials

SCHEME = "s3://"
# The first that is set counts; boto3 itself knows the first two.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
# Requests are signed for a region; servers other than Amazon's take any.
_ANY_REGION = "us-east-1"
# Asks again after what may pass: too many requests, 500, 503, a lost connection; a dead server costs seconds.
_RETRIES = {"mode": "standard", "total_max_attempts": 4}


def endpoint() -> str:
    """Another server than Amazon's, as the environment names it; empty for none."""
    return next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")


def s3_client() -> Any:
    """A client that gives up after seconds, for several threads. Making one takes a tenth of a second.

    Its server: see `endpoint`.
    """
    import boto3
    from botocore.config import Config

    session = boto3.Session()
    patience = Config(connect_timeout=5, read_timeout=30, retries=_RETRIES)
    region = session.region_name or _ANY_REGION
    return session.client("s3", endpoint_url=endpoint() or None, region_name=region, config=patience)


@contextmanager
def s3_explained(what: str) -> Iterator[None]:
    """What goes wrong with S3 inside is a UserError that begins with `what` and holds no credentials."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        reason = without_credentials(" ".join(str(error).split()))
        raise ServiceError(
            f"{what} cannot be used ({reason}); check the address, AWS_ENDPOINT_URL and the credentials"
        ) from None


def split_address(uri: str, what: str) -> tuple[str, str]:
    """Bucket and key (or prefix) of `s3://BUCKET/KEY`. Raises UserError that begins with `what`."""
    bucket, _, key = uri.removeprefix(SCHEME).rstrip("/").partition("/")
    if not bucket:
        raise ServiceError(f"{what}: {uri} should read {SCHEME}BUCKET/KEY")
    return bucket, key
