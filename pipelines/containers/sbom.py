"""What is in an image, as a CycloneDX bill of materials: read inside the image, never from this machine."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.containers.engine import Engine
from retrainer.errors import ServiceError
from retrainer.formats.files import write_json

# Runs in the image, with its own Python: the metadata of every installed package, as a tar file.
_COLLECT = """
import pathlib, sys, sysconfig, tarfile
packages = pathlib.Path(sysconfig.get_path("purelib"))
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
    for folder in sorted(packages.glob("*.dist-info")):
        for name in ("METADATA", "direct_url.json"):
            if (folder / name).is_file():
                tar.add(folder / name, f"{folder.name}/{name}")
"""
_PYTHON = ("python", "-c", "import platform; print(platform.python_version())")
# Empty, without an error, in an image that is not Debian's.
_DEBIAN = (
    "sh",
    "-c",
    "command -v dpkg-query >/dev/null || exit 0; . /etc/os-release; "
    'dpkg-query -W -f "\\${Package} \\${Version} \\${Architecture} $ID-$VERSION_ID\\n"',
)


def write_sbom(engine: Engine, reference: str, digest: str, title: str, path: Path) -> int:
    """Writes the image's bill of materials and returns how many components it lists."""
    bill = python_packages(engine.run(reference, ["python", "-c", _COLLECT]))
    version = engine.run(reference, _PYTHON).decode().strip()
    others = [_component("python", version, f"pkg:generic/python@{version}")]
    others += debian_packages(engine.run(reference, _DEBIAN).decode())
    bill.setdefault("components", []).extend(others)
    bill.setdefault("metadata", {})["component"] = {
        "type": "container",
        "bom-ref": digest,
        "name": title,
        "version": digest,
    }
    write_json(path, bill)
    return len(bill["components"])


def python_packages(metadata: bytes) -> dict[str, Any]:
    """cyclonedx-py's answer, with licences and dependencies, for the packages in a tar of `*.dist-info`."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = _stand_in(Path(scratch))
        with tarfile.open(fileobj=io.BytesIO(metadata)) as tar:
            tar.extractall(environment / "lib" / _python() / "site-packages", filter="data")
        command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
        command += ["--no-validate", "--output-format", "JSON", str(environment / "bin" / "python")]
        # PYTHONPATH would add packages of this machine.
        alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, env=alone, check=False)
    if done.returncode != 0:
        if "No module named" in done.stderr:
            raise ServiceError("the package cyclonedx-bom is missing; `make setup` installs it")
        raise RuntimeError(f"cyclonedx-py: {done.stderr.strip()[-300:]}")
    bill: dict[str, Any] = json.loads(done.stdout)
    return bill


def _stand_in(folder: Path) -> Path:
    """An empty virtual environment: what cyclonedx-py asks is where its interpreter looks for packages."""
    (folder / "bin").mkdir()
    (folder / "lib" / _python() / "site-packages").mkdir(parents=True)
    base = Path(sys._base_executable)  # type: ignore[attr-defined]
    settings = f"home = {base.parent}\ninclude-system-site-packages = false\n"
    (folder / "pyvenv.cfg").write_text(settings, encoding="utf-8")
    (folder / "bin" / "python").symlink_to(base)
    return folder


def _python() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def debian_packages(listed: str) -> list[dict[str, Any]]:
    """A component per line `name version architecture distribution`."""
    found = []
    for line in listed.splitlines():
        name, version, architecture, distribution = line.split()
        vendor = distribution.partition("-")[0]
        address = f"pkg:deb/{vendor}/{quote(name)}@{quote(version)}?arch={architecture}&distro={distribution}"
        found.append(_component(name, version, address))
    return found


def _component(name: str, version: str, address: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address}
