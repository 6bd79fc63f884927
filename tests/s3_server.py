"""A real S3 server on loopback: rclone's, which the lock brings."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mlflow_server import free_port

KEY, SECRET = "test-key", "canary-s3-secret-77aa"


@contextmanager
def running_s3(folder: Path, *options: str) -> Iterator[tuple[str, Path]]:
    """Serves `folder/s3`, whose directories are the buckets; yields its address and that directory."""
    process, address = start_s3(folder, *options)
    try:
        yield address, folder / "s3"
    finally:
        process.terminate()
        process.wait()


def start_s3(folder: Path, *options: str) -> tuple[subprocess.Popen[bytes], str]:
    """The server of `folder/s3`, once it listens, and its address; `options` are rclone's."""
    empty, port = folder / "rclone.conf", free_port()
    (folder / "s3").mkdir(exist_ok=True)
    empty.touch()
    words = ["--auth-key", f"{KEY},{SECRET}", "--addr", f"127.0.0.1:{port}", "--config", str(empty)]
    # It remembers directories, so write through it alone; without that memory it hangs on writes.
    words += ["--vfs-cache-mode", "full", "--cache-dir", str(folder / "cache"), *options]
    command = [_rclone(), "serve", "s3", *words, str(folder / "s3")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _wait_for(port, process)
    return process, f"http://127.0.0.1:{port}"


def _rclone() -> str:
    """Distributions carry versions without `serve s3`, whose help says nothing of keys."""
    found = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if found is not None:
        words = [found, "serve", "s3", "--help"]
        if "--auth-key" in subprocess.run(words, capture_output=True, text=True, check=False).stdout:
            return found
    pytest.skip("no rclone with `serve s3` on the PATH (1.65 or newer)")


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        assert process.poll() is None, "rclone ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    process.kill()
    raise AssertionError("rclone does not listen")
