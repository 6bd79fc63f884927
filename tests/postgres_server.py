"""A real PostgreSQL on loopback, Debian's: its own directory, its own port, a password."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mlflow_server import free_port

USER, DATABASE, PASSWORD = "mlflow", "mlflow", "canary-postgres-secret-3c1b"
# What refuses to run as root runs as this user there: Debian's package made it.
_SYSTEM_USER = "postgres"


class Postgres:
    """Made, started and stopped by hand, so that a test can restart it in the middle of its work."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._programs = _programs()
        password = folder / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:
            for path in (folder, password):
                shutil.chown(path, _SYSTEM_USER)
        options = [f"--username={USER}", f"--pwfile={password}", "--auth=scram-sha-256"]
        self._run("initdb", "--pgdata", str(folder / "data"), "--encoding=UTF8", "--no-sync", *options)
        self.start()
        password.unlink()
        self._run("createdb", DATABASE, **self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """Where it is and who we are, in libpq's own words: the keys of the secret `mlflow-database`."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": DATABASE,
        }

    def start(self) -> None:
        listen = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._control("start", "--log", str(self.folder / "server.log"), "--options", listen)

    def stop(self) -> None:
        """As Kubernetes does: connections are ended, what was committed stays."""
        self._control("stop", "--mode=fast")

    def query(self, sql: str) -> str:
        return self.run("psql", "--no-align", "--tuples-only", "--command", sql)

    def run(self, program: str, *words: str) -> str:
        """A client program of PostgreSQL's, connected to our database; what it printed."""
        return self._run(program, *words, **self.environment)

    def _control(self, *words: str) -> None:
        self._run("pg_ctl", "--pgdata", str(self.folder / "data"), "--wait", *words)

    def _run(self, program: str, *words: str, **variables: str) -> str:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        done = subprocess.run(
            [str(self._programs / program), *words],
            cwd=self.folder,
            env=kept | variables,
            # pg_ctl's server keeps what it is given, so never our pipe for longer than a command.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            user=_SYSTEM_USER if os.getuid() == 0 else None,
        )
        log = self.folder / "server.log"
        assert done.returncode == 0, (program, done.stdout, log.read_text() if log.exists() else "")
        return (done.stdout or "").strip()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """In a directory directly below the temporary one, which another user than root can enter."""
    _programs()
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = None
    try:
        server = Postgres(folder)
        yield server
    finally:
        if server:
            server.stop()
        shutil.rmtree(folder)


def _programs() -> Path:
    """Where initdb lies: on the PATH, or where Debian puts each version. Skips without a PostgreSQL."""
    found = shutil.which("initdb")
    places = [Path(found)] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not places:
        pytest.skip("no PostgreSQL server here (Debian: apt install postgresql)")
    return places[-1].resolve().parent
