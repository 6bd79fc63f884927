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
def running_s3(folder: Path) -> Iterator[tuple[str, Path]]:
    """Serves `folder/s3`, whose directories are the buckets; yields its address and that directory."""
    beside_python = str(Path(sys.executable).parent)
    rclone = shutil.which("rclone", path=beside_python) or shutil.which("rclone")
    if rclone is None or "--auth-key" not in _help(rclone):
        pytest.skip("no rclone with `serve s3` on the PATH (1.65 or newer)")
    root, empty, port = folder / "s3", folder / "rclone.conf", free_port()
    root.mkdir()
    empty.touch()
    options = ["--auth-key", f"{KEY},{SECRET}", "--addr", f"127.0.0.1:{port}", "--config", str(empty)]
    # It remembers directories, so write through it alone; without that memory it hangs on writes.
    options += ["--vfs-cache-mode", "full", "--cache-dir", str(folder / "cache")]
    with subprocess.Popen([rclone, "serve", "s3", *options, str(root)], stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}", root
        finally:
            process.terminate()


def _help(rclone: str) -> str:
    """Distributions carry versions without `serve s3`, whose help says nothing of keys."""
    return subprocess.run(
        [rclone, "serve", "s3", "--help"], capture_output=True, text=True, check=False
    ).stdout


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        assert process.poll() is None, "rclone ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("rclone does not listen")
