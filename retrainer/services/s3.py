"""boto3's client for S3, by the environment. Credentials and region come from where boto3 looks for them."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrainer.errors import ServiceError, SettingError
from retrainer.messages import logger
from retrainer.services.address import without_credentials

_LOG = logger("services")

SCHEME = "s3://"
# The first that is set counts; boto3 itself knows the first two.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
# Requests are signed for a region; servers other than Amazon's take any.
_ANY_REGION = "us-east-1"
# AWS's own variables, and what they are where nobody has set them. Mode `standard` asks again after 500, 502,
# 503, 504, the codes of throttling (SlowDown), a lost connection and a timeout (botocore 1.43,
# retries/standard.py), after a random part of 1, 2, 4, 8, 16, 20 and 20 s: half a minute in the mean, 71 s at
# most, for a server that is away.
_MODE, _ATTEMPTS = "AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"
_USUAL = {_MODE: "standard", _ATTEMPTS: "8"}
# The same patience for what DVC and MLflow ask S3 by, whose mode `legacy` knows every 429 (data/_retry.json)
# and waits up to 64 s.
PATIENCE = {_ATTEMPTS: _USUAL[_ATTEMPTS]}
_LONGEST_WAIT_SECONDS = 20
# What passes by itself. Mode `standard` knows throttling by codes, and some servers send 429 with their own.
_PASSING = (429, 500, 502, 503, 504)
_TOO_MANY, _NOT_FOUND = 429, 404
_QUIET_SECONDS = 5.0


def endpoint() -> str:
    """Another server than Amazon's, as the environment names it; empty for none."""
    return next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")


def s3_client() -> Any:
    """A client for several threads, which waits a minute for a server that does not serve for the moment, and
    says so. Making one takes a tenth of a second.

    Its server: see `endpoint`.
    """
    import boto3
    from botocore.config import Config

    session = boto3.Session()
    attempts = _attempts()
    retries = {"mode": _setting(_MODE), "total_max_attempts": attempts}
    patience = Config(connect_timeout=5, read_timeout=60, retries=retries)
    region = session.region_name or _ANY_REGION
    made = session.client("s3", endpoint_url=endpoint() or None, region_name=region, config=patience)
    made.meta.events.register("needs-retry.s3", _Patience(attempts))
    return made


def download(client: Any, bucket: str, key: str, path: Path) -> None:
    """The object's bytes to the file. What breaks off in the middle is asked again after a wait.

    boto3 itself begins it anew 5 times without one (boto3 1.43, s3/transfer.py).
    """
    from boto3.exceptions import RetriesExceededError

    attempts = _attempts()
    for tried in range(1, attempts + 1):
        try:
            client.download_file(bucket, key, str(path))
            return
        except RetriesExceededError as error:
            if tried == attempts:
                raise
            _LOG.warning("S3: %s broke off (%s); asking again", key, _brief(error))
            time.sleep(_wait_seconds(tried))


def _wait_seconds(tried: int) -> float:
    """As mode `standard` waits."""
    return random.random() * min(2.0 ** (tried - 1), _LONGEST_WAIT_SECONDS)


def _setting(variable: str) -> str:
    return os.environ.get(variable) or _USUAL[variable]


def _attempts() -> int:
    given = _setting(_ATTEMPTS)
    if not (given.isdecimal() and int(given)):
        raise SettingError(f"{_ATTEMPTS}={given}: needed is a whole number, 1 or more")
    return int(given)


class _Patience:
    """Called by botocore for each answer: says on the terminal that a server is waited for, and has a 429 of
    unknown code asked again, which mode `standard` would not."""

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts
        self._said = -math.inf

    def __call__(
        self, response: Any = None, attempts: int = 1, caught_exception: Any = None, **_: Any
    ) -> float | None:
        """Seconds until the next try; None leaves it to botocore's own handlers."""
        status = response[0].status_code if response is not None else 0
        if attempts >= self._attempts or not (caught_exception or status in _PASSING):
            return None
        if attempts > 1:  # a single one is everyday
            self._say(_answered(response[1]) if response is not None else _brief(caught_exception))
        if status != _TOO_MANY:
            return None
        return _wait_seconds(attempts)

    def _say(self, what: str) -> None:
        if time.monotonic() - self._said > _QUIET_SECONDS:
            self._said = time.monotonic()
            where = f" at {without_credentials(endpoint())}" if endpoint() else ""
            _LOG.warning("S3%s: %s; asking again", where, what)


def _answered(parsed: dict[str, Any]) -> str:
    """`503 SlowDown`, of a parsed answer."""
    status = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    code = str(parsed.get("Error", {}).get("Code", ""))
    return f"it answered {status}{'' if code in ('', str(status)) else f' {code}'}"


def _brief(error: BaseException) -> str:
    return without_credentials(" ".join(str(error).split()))


def bucket_is_missing(client: Any, bucket: str) -> bool:
    """Whether the server says so; who may not ask, may still write."""
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        return _status(error) == _NOT_FOUND
    return False


@contextmanager
def s3_explained(what: str) -> Iterator[None]:
    """What goes wrong with S3 inside is a UserError that begins with `what` and holds no credentials."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        # boto3 hides the answer to an upload behind an error of its own.
        answer = error if isinstance(error, ClientError) else error.__context__
        if isinstance(answer, ClientError) and _status(answer) in _PASSING:
            tries = 1 + int(answer.response["ResponseMetadata"].get("RetryAttempts", 0))
            raise ServiceError(
                f"{what} cannot be used now ({_answered(answer.response)} to each of {tries} tries);"
                " the server is there: run the same again when it is well, or ask who runs it"
            ) from None
        reason = _brief(error)
        raise ServiceError(
            f"{what} cannot be used ({reason}); check the address, AWS_ENDPOINT_URL and the credentials"
        ) from None


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def split_address(uri: str, what: str) -> tuple[str, str]:
    """Bucket and key (or prefix) of `s3://BUCKET/KEY`. Raises UserError that begins with `what`."""
    bucket, _, key = uri.removeprefix(SCHEME).rstrip("/").partition("/")
    if not bucket:
        raise ServiceError(f"{what}: {uri} should read {SCHEME}BUCKET/KEY")
    return bucket, key
