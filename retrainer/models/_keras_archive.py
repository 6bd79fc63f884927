"""A `.keras` archive of a user's: its architecture and its weights, read without running anything in it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from retrainer.errors import SettingError
from retrainer.models._keras_config import drop_training, from_config
from retrainer.models._start import brief, first_not_finite

SUFFIX = ".keras"
_CONFIG, _WEIGHTS, _NOTE = "config.json", "model.weights.h5", "metadata.json"
_LARGEST_CONFIG_BYTES = 64 * 2**20
# Keras stores its parts as they are. What is packed tighter than this is made to fill memory.
_MOST_EXPANSION = 100
_WIDEST_NUMBER = 8  # bytes


def read_archive(keras: Any, path: Path) -> Any:
    """The model, with its weights. Raises SettingError where it is no whole archive, or not one to trust."""
    what = f"backbone.weights: {path.name}"
    config = _config_of(path, what)
    drop_training(config)
    with keras.device("meta"):  # no values are made before it is known that the file has as many
        _require_as_large(from_config(keras, config, what), path, what)
    model = from_config(keras, config, what)
    try:
        _require_stored(path, what)
        model.load_weights(str(path))
    except SettingError:
        raise
    except Exception as error:  # h5py and Keras raise many kinds
        raise SettingError(f"{what}: its weights do not fit its architecture: {brief(error)}") from None
    if bad := first_not_finite({variable.path: variable.value for variable in model.weights}):
        raise SettingError(f"{what}: {bad!r} holds values that are no numbers; choose other weights")
    return model


def _config_of(path: Path, what: str) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            _require_harmless(archive, what)
            config: Any = json.loads(archive.read(_CONFIG))
        reason = "" if isinstance(config, dict) else f"its {_CONFIG} is no object"
    except SettingError:
        raise
    except Exception as error:  # zipfile, zlib and json raise many kinds
        reason = brief(error)
    if reason:
        raise SettingError(f"{what} is no whole {SUFFIX} archive ({reason}); save it again by model.save")
    return dict(config)


def _require_harmless(archive: zipfile.ZipFile, what: str) -> None:
    names = archive.namelist()
    strangers = sorted({*names} - {_CONFIG, _WEIGHTS, _NOTE})
    if strangers or len(names) != len({*names}):
        found = strangers[0] if strangers else "a part twice"
        raise SettingError(
            f"{what} holds {found[:80]!r}, and only {_CONFIG}, {_WEIGHTS} and {_NOTE} are read; save a model"
            " without layers that keep files, by model.save"
        )
    for part in archive.infolist():
        if part.file_size > _MOST_EXPANSION * max(1, part.compress_size):
            raise SettingError(
                f"{what}: {part.filename} would unpack to {part.file_size:,} bytes; it is refused"
            )
    if archive.getinfo(_CONFIG).file_size > _LARGEST_CONFIG_BYTES:
        raise SettingError(f"{what}: its {_CONFIG} is larger than any architecture's; it is refused")


def _require_as_large(model: Any, path: Path, what: str) -> None:
    """An architecture far larger than the file would be filled by nothing."""
    values = sum(variable.value.numel() for variable in model.weights)
    if values > path.stat().st_size:
        raise SettingError(
            f"{what}: it describes {values:,} weights and is too small to hold them; save it again"
        )


def _require_stored(path: Path, what: str) -> None:
    """An array that says to be far larger than the file would fill memory as it is read, with nothing."""
    import h5py

    largest = 0

    def look(_: str, item: Any) -> None:
        nonlocal largest
        largest = max(largest, int(getattr(item, "nbytes", 0) or 0))

    with zipfile.ZipFile(path) as archive, archive.open(_WEIGHTS) as part, h5py.File(part) as file:
        file.visititems(look)
    if largest > _WIDEST_NUMBER * path.stat().st_size:
        raise SettingError(f"{what}: an array in it would unpack to {largest:,} bytes; it is refused")
