"""The client below kfp, made patient for seconds only and exact about failures.

`kfp.Client` asks the server while it is made, retries for half a minute, writes into the home directory and
takes a login page for an empty answer; the generated client under it does none of that but the last.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import kfp_server_api
import urllib3
from kfp_server_api.exceptions import ApiException

from pipelines.cluster.token import Token, tls
from retrainer.errors import UserError
from retrainer.services.address import without_credentials

# For the token, connecting, the answer and its last byte together.
ANSWER_SECONDS = 6.0
# For all answers of one command: a server that is merely slow must not keep a person waiting either.
COMMAND_SECONDS = 14.0
_CONNECT_SECONDS = 4.0
_SHOWN_CHARACTERS = 300


class Unanswered(UserError):
    """The server could not be asked, or failed: what was asked for may have been done or not."""


class Refused(UserError):
    """The server answered that it will not; nothing was done. `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def configuration(address: str) -> Any:
    """Raises UserError for a KFP_CA_BUNDLE that holds no certificate."""
    made = kfp_server_api.Configuration(host=address)
    # A redirect leads to a login page; a retry would only lengthen what a person waits for.
    made.retries = urllib3.Retry(0, redirect=0, raise_on_redirect=False)
    # A newer server may know more states than this client.
    made.client_side_validation = False
    if bundle := os.environ.get("KFP_CA_BUNDLE"):
        tls()
        made.ssl_ca_cert = bundle
    parts = urlsplit(address)
    made.proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    return made


class Client(kfp_server_api.ApiClient):
    """Every answer within ANSWER_SECONDS, and JSON; every failure as Unanswered or Refused.

    until: when the command's time is up; counted from the first request, `math.inf` for one that waits.
    """

    def __init__(self, address: str, token: Token | None) -> None:
        super().__init__(configuration(address))
        self._token = token
        self._here = f"KFP_ENDPOINT={address}"
        self.until = 0.0

    def request(self, method: str, url: str, **options: Any) -> Any:
        """One request, as the generated operations make it."""
        answer = self._in_time(lambda: self._ask(method, url, options))
        kind = answer.getheader("content-type") or "nothing"
        try:
            json.loads(answer.data)
        except ValueError:
            raise self._no_api(f"it answers {kind.partition(';')[0]} instead of JSON") from None
        return answer

    def text(self, path: str) -> str:
        """What GET answers, where that is no JSON: the API server passes on a pod's log."""
        url = f"{self.configuration.host}{path}"
        data: bytes = self._in_time(lambda: self._ask("GET", url, {})).data
        return data.decode(errors="replace")

    def _ask(self, method: str, url: str, options: dict[str, Any]) -> Any:
        if self._token is not None:
            options["headers"] = {
                **(options.get("headers") or {}),
                "authorization": f"Bearer {self._token()}",
            }
        options["_request_timeout"] = (_CONNECT_SECONDS, ANSWER_SECONDS)
        try:
            return super().request(method, url, **options)
        except ApiException as error:
            raise self._explain(error) from None
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise self._no_answer(reason.args[-1] if getattr(reason, "args", ()) else reason) from None

    def _in_time(self, call: Callable[[], Any]) -> Any:
        """The call's result. A name that does not resolve, or a byte a second, has no other limit."""
        self.until = self.until or time.monotonic() + COMMAND_SECONDS
        left = min(ANSWER_SECONDS, self.until - time.monotonic())
        if left <= 0:
            raise self._no_answer(f"not done within {COMMAND_SECONDS:.0f} s, it is too slow")
        done: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

        def work() -> None:
            try:
                done.put((call(), None))
            except BaseException as error:
                done.put((None, error))

        threading.Thread(target=work, daemon=True, name="kfp-request").start()
        try:
            result, error = done.get(timeout=left)
        except queue.Empty:
            raise self._no_answer(f"no whole answer within {left:.0f} s") from None
        if error is not None:
            raise error
        return result

    def _no_answer(self, reason: object) -> UserError:
        words = without_credentials(" ".join(str(reason).split()))[:_SHOWN_CHARACTERS]
        if "CERTIFICATE" in words.upper():
            return Unanswered(f"{self._here}: its certificate is not trusted ({words}); set KFP_CA_BUNDLE")
        cure = "check the address, the network and the port-forward"
        return Unanswered(f"{self._here} does not answer ({words}); {cure}")

    def _no_api(self, reason: str) -> Refused:
        cure = "if that is a login page, set KFP_TOKEN; else name the address that serves /apis/v2beta1"
        return Refused(f"{self._here} is not the API of Kubeflow Pipelines ({reason}): {cure}", 0)

    def _explain(self, error: ApiException) -> UserError:
        """One line for an HTTP status, with the API's own message."""
        status = int(error.status or 0)
        if status == 0:
            return self._no_answer(error.reason)
        if 300 <= status < 400:
            target = str((error.headers or {}).get("location", "another page")).partition("?")[0]
            return self._no_api(f"it redirects to {without_credentials(target)}")
        said = _message_of(error.body)
        if status in (401, 403):
            known = self._token is not None
            who = "this token is not accepted" if known else "it wants to know who asks"
            cure = "renew KFP_TOKEN (or what stands for it)" if known else "set KFP_TOKEN or KFP_TOKEN_FILE"
            return Refused(f"{self._here}: HTTP {status}, {who}{said}; {cure}, check KFP_NAMESPACE", status)
        if status >= 500:
            cure = "try again, or look at the log of the API server"
            return Unanswered(f"{self._here} fails: HTTP {status}{said}; {cure}")
        if not said:
            return self._no_api(f"HTTP {status}")
        return Refused(f"Kubeflow Pipelines refuses: HTTP {status}{said}", status)


def _message_of(body: Any) -> str:
    """`: message` of an API error; nothing for a page of HTML."""
    try:
        content = json.loads(body)
        words = " ".join(str(content.get("message") or content.get("error") or "").split())
    except (ValueError, TypeError, AttributeError):
        return ""
    return f": {without_credentials(words)[:_SHOWN_CHARACTERS]}" if words else ""
