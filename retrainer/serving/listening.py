"""Where `make serve` listens: addresses and ports."""

from __future__ import annotations

import errno
import socket

from retrainer.errors import SettingError

LOOPBACK = "127.0.0.1"
THIS_MACHINE = (LOOPBACK, "localhost", "::1")
PORT = "8080"
MOST_PORT = 65_535


def parse_number(text: str, variable: str, most: int) -> int:
    """Raises SettingError for what is no number from 1 to `most`."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    if not 1 <= number <= most:
        raise SettingError(f"{variable}={text}: needed is a number from 1 to {most:,}")
    return number


def address_of(host: str, port: int | str) -> str:
    """Where a program of this machine reaches what listens there."""
    reached = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def refuse_taken(host: str, port: int, variable: str = "PORT") -> None:
    """Raises SettingError where no server could listen there."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise SettingError(f"HOST={host}: there is no such address; {LOOPBACK} is this machine") from None
    except OSError as error:
        raise SettingError(_why_not(error, host, port, variable)) from None


def _why_not(error: OSError, host: str, port: int, variable: str) -> str:
    if error.errno == errno.EADDRINUSE:
        other = port % MOST_PORT + 1
        return (
            f"{variable}={port}: another process listens there already; choose another, as {variable}={other}"
        )
    if error.errno == errno.EACCES:
        return (
            f"{variable}={port}: this user may not listen there; choose one above 1023, as {variable}={PORT}"
        )
    return f"HOST={host}: this machine cannot listen there ({error.strerror}); {LOOPBACK} is this machine"
