"""`make export`: a version of a model → a folder that needs nothing of this project."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrainer import __version__
from retrainer.batch_prediction.model import found_model, loaded
from retrainer.batch_prediction.sections import Sections
from retrainer.errors import ModelError, SettingError
from retrainer.export.description import (
    Exported,
    answers_of,
    preprocessing_of,
    require_exportable,
    require_format,
)
from retrainer.export.parity import Parity, columns_of, parity_of, require_equal, test_rows
from retrainer.export.readme import PACKAGES, packages_of, readme
from retrainer.formats.files import hash_files, whole_directory, write_json, write_text
from retrainer.formats.model_files import read_model
from retrainer.resolve import settle

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = Path("exports")
ABOUT = "export.json"
RULE = "preprocessing.json"
KIND, FORMAT_VERSION = "export", 1
USE_ME = "use_me.py"
_USE_ME = Path(__file__).with_name(USE_ME)


@dataclass(frozen=True)
class Request:
    """`form`: one of FORMATS. `dataset`: the directory whose test rows are compared. `out`: the new folder.
    `version` and `model`: see `load_model`."""

    sections: Sections
    form: str
    dataset: Path
    out: Path
    version: str = ""
    model: Path | None = None


def parse_request(recipe: str, form: str, out: str = "", root: Path = Path()) -> Request:
    """Of a recipe of the project `root`. Raises SettingError for a recipe or a format that is none."""
    require_format(form)
    settled: Any
    name, settled = settle(recipe or None, [], root)
    sections = Sections(*(settled[section] for section in Sections._fields))
    return Request(sections, form, Path("runs", name, "dataset"), Path(out) if out else FOLDER / name / form)


def export(request: Request) -> list[str]:
    """Writes the folder, whole or not at all, and returns what to say of it, line by line.

    Raises UserError where the model has no such form, there are no test rows to compare on, a float32 form
    answers otherwise than the model, or `out` is something that this command did not write.
    """
    require_format(request.form)
    _refuse_foreign(request.out)
    with found_model(request.sections, request.version, request.model) as found:
        about = read_model(found.directory)
        model = loaded(request.sections, found, "cpu")
        exported = Exported(model, about["family"], about["task"]["kind"])
        require_exportable(exported, request.form)
        test = test_rows(request.dataset, found.directory)
        with whole_directory(request.out) as aside:
            parity = _write(exported, request, aside, test)
    mb = sum(file.stat().st_size for file in request.out.iterdir()) / 1e6
    return [
        f"{'model':<14}{model.title}",
        *parity.lines(request.form),
        f"{'written':<14}{request.out} ({mb:.1f} MB)",
        f"{'try it':<14}cd {request.out} && python {USE_ME} (needs {packages_of(exported, request.form)})",
    ]


def _refuse_foreign(out: Path) -> None:
    """Also an export to which something was added, which would be lost."""
    if not out.exists():
        return
    try:
        about = json.loads((out / ABOUT).read_text(encoding="utf-8"))
        known = {*about["files"], ABOUT, "__pycache__"}
        ours = about["kind"] == KIND and {file.name for file in out.iterdir()} <= known
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise SettingError(
            f"OUTPUT={out} is there, and make export did not write all that it holds; name another, or"
            " remove it"
        )


def _write(exported: Exported, request: Request, folder: Path, test: pa.Table) -> Parity:
    about = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "retrainer": __version__,
        "format": request.form,
        "model": {
            "name": exported.model.name,
            "version": exported.model.version,
            "model_sha256": exported.model.predictor.model_sha256,
            "task": exported.task_kind,
            "family": exported.family,
        },
        "answers": answers_of(exported),
        "packages": list(PACKAGES[request.form]),
    }
    rule = preprocessing_of(exported, request.form)
    if rule["kind"] == "tokens":
        rule["texts"] = len(columns_of(exported, test))  # of a row: 2 where rows are pairs
    write_json(folder / RULE, rule)
    for name, content in exported.model.predictor.network.description.assets.items():
        if not name.endswith(".json"):  # `python use_me.py` would import a .py file that lies beside it
            raise ModelError(f"the model's file {name!r} is no tokenizer, so it is not exported")
        (folder / name).write_bytes(content)
    network = _write_network(exported, request, folder)
    shutil.copyfile(_USE_ME, folder / USE_ME)
    write_json(folder / ABOUT, about | {"network": network})
    parity = parity_of(exported, folder, test)
    if request.form != "onnx-int8":
        require_equal(parity, exported, request.form)
    write_text(folder / "README.md", readme(exported, request.form, network, parity))
    write_json(
        folder / ABOUT,
        about | {"network": network, "parity": parity.plain(), "files": hash_files(folder, (ABOUT,))},
    )
    return parity


def _write_network(exported: Exported, request: Request, folder: Path) -> dict[str, Any]:
    """Writes the weights in the asked form; returns what `use_me.py` loads them by."""
    if request.form == "transformers":
        from retrainer.export.transformers_layout import write_transformers

        return write_transformers(exported, folder)
    if request.form in ("timm", "torchvision"):
        from retrainer.export.vision_layout import write_vision

        return write_vision(exported, request.form, folder)
    if request.form == "keras":
        from retrainer.export.keras_layout import write_keras

        return write_keras(exported, folder)
    from retrainer.export.onnx_graph import write_onnx

    network = write_onnx(exported, folder)
    if request.form == "onnx-int8":
        from retrainer.export.int8 import write_int8
        from retrainer.formats.dataset import Dataset

        whole = (folder / network["file"]).rename(folder / "float.onnx")
        train = Dataset(request.dataset).split("train")
        write_int8(whole, folder / network["file"], preprocessing_of(exported), train)
        for file in folder.glob("float.onnx*"):
            file.unlink()
    return network
