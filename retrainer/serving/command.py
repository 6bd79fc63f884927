"""`make serve`: checks a registered version and becomes MLflow's scoring server over its files."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from retrainer.errors import ModelError, SettingError
from retrainer.registry.commands import registered_name
from retrainer.registry.unaltered import unaltered_model
from retrainer.services import keys, lookup
from retrainer.services.connection import settle_environment
from retrainer.services.isolated import become_isolated
from retrainer.services.readers import RegisteredVersion
from retrainer.services.scratch import scratch_directory_across_exec
from retrainer.serving.listening import (
    LOOPBACK,
    MOST_PORT,
    PORT,
    THIS_MACHINE,
    address_of,
    parse_number,
    refuse_taken,
)
from retrainer.serving.page_start import free_page_port, write_page
from retrainer.training.compute import physical_cores

_SERVER = Path(__file__).with_name("server.py")
_MOST_WORKERS = 64
# By which the served model (retrainer/registry/served.py) is told of a gallery.
GALLERY = "RETRAINER_GALLERY"
# A longer example is sent from a file.
_SHOWN_CHARACTERS = 500


@dataclass(frozen=True)
class Request:
    """`version`: a number, or an alias. `name`: the registered model; empty: that of the recipe. `page_port`:
    a number, `none`, or empty, which is the first free one after `port`. `gallery`: a folder of those whom a
    model that recognises is to know; empty: none."""

    recipe: str = ""
    version: str = lookup.CHAMPION
    host: str = LOOPBACK
    port: int = int(PORT)
    workers: int = 1
    name: str = ""
    page_port: str = ""
    gallery: str = ""


def serve(request: Request) -> NoReturn:
    """Becomes the server. Raises UserError where there is nothing to serve, it was altered, or the port is
    taken."""
    version = find_version(request.name or registered_name(request.recipe), request)
    refuse_taken(request.host, request.port)
    if request.gallery and not Path(request.gallery).expanduser().is_dir():
        raise SettingError(f"GALLERY={request.gallery}: there is no such folder")
    page_port = free_page_port(request.page_port, request.host, request.port)
    scratch = scratch_directory_across_exec()
    model = unaltered_model(version, scratch / "fetched", keys.verify_key())
    bundle, empty = model.parents[1], scratch / "empty"
    (scratch / "bundle").symlink_to(bundle.absolute(), target_is_directory=True)
    empty.mkdir()
    uri = f"models:/{version.name}/{version.version}"
    lines = greeting(request, uri, bundle, scratch)
    if page_port is not None:
        lines += write_page(scratch, uri, model, (request.host, request.port, page_port))
    (scratch / "ready.txt").write_text("\n".join(lines), encoding="utf-8")
    print(f"loading {uri}", flush=True)
    settle_environment()
    # PyTorch would take all processors in each worker.
    threads = str(max(1, physical_cores() // request.workers))
    arguments = [str(scratch), request.host, str(request.port), str(request.workers)]
    gallery = {GALLERY: str(Path(request.gallery).expanduser().resolve())} if request.gallery else {}
    become_isolated(_SERVER, arguments, empty, {"OMP_NUM_THREADS": threads} | gallery)


def parse_request(
    recipe: str, version: str, address: tuple[str, str, str], workers: str, name: str
) -> Request:
    """`address` is host, port, and the page's port. Raises SettingError for numbers that are none."""
    host, port, page_port = address
    return Request(
        recipe,
        version or lookup.CHAMPION,
        host or LOOPBACK,
        parse_number(port, "PORT", MOST_PORT),
        parse_number(workers, "WORKERS", _MOST_WORKERS),
        name,
        page_port,
    )


def find_version(name: str, request: Request) -> RegisteredVersion:
    """Raises ModelError, with what there is instead, where there is none or it never proved to serve."""
    asked = request.version
    by = lookup.by_version if asked.isascii() and asked.isdigit() else lookup.by_alias
    found = by(name, asked)
    if found is None:
        raise ModelError(_nothing(name, request))
    if not found.usable:
        raise ModelError(
            f"models:/{name}/{found.version} was not proven to serve what was evaluated: run `make pipeline`"
            " again, or name another version by VERSION="
        )
    return found


def _nothing(name: str, request: Request) -> str:
    versions = [one.version for one in lookup.usable_versions(name)]
    of = f" RECIPE={request.recipe}" if request.recipe else ""
    if request.version == lookup.CHAMPION:
        begun = f"models:/{name}@champion: there is no champion yet"
        cure = f"`make promote{of} VERSION={versions[-1]}` makes one" if versions else ""
    else:
        begun, cure = f"VERSION={request.version}: '{name}' has no such version or alias", ""
    if not versions:
        return f"{begun}, and nothing to serve: `make pipeline{of}` trains and registers a first version"
    return "; ".join(part for part in (begun, cure, f"VERSION= serves one of {', '.join(versions)}") if part)


def greeting(request: Request, uri: str, bundle: Path, scratch: Path) -> list[str]:
    """What to print once the server answers: where, and a request that works as it stands."""
    address = address_of(request.host, request.port)
    lines = [f"{address} serves {uri}; Ctrl-C ends it, when the requests that it has are answered"]
    if request.host not in THIS_MACHINE:
        lines.append(
            f"HOST={request.host}: whoever reaches this machine can ask it; it asks nobody for a password"
        )
    if (row := example_row(bundle)) is not None:
        body = json.dumps({"dataframe_records": [row]}, ensure_ascii=False)
        data = shlex.quote(body)
        if len(body) > _SHOWN_CHARACTERS:
            (scratch / "example.json").write_text(body, encoding="utf-8")
            data = shlex.quote(f"@{scratch / 'example.json'}")
        lines += ["", f"curl {address}/invocations -H 'Content-Type: application/json' -d {data}"]
    return lines


def example_row(bundle: Path) -> dict[str, object] | None:
    """The first row of the version's input example, as JSON has it; None for a version without one."""
    file = bundle / "input_example.json"
    if not file.is_file():
        return None
    example = json.loads(file.read_text(encoding="utf-8"))
    return dict(zip(example["columns"], example["data"][0], strict=True))
