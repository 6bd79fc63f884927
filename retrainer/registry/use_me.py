"""Predicts with the model in this folder, by the code in code/: neither Retrainer nor MLflow is needed.

    pip install @packages@
    python use_me.py @example@
    python use_me.py - < lines.txt    # @line@ a line

It needs Python 3.11 or newer; the packages are in the versions that the model was registered with. It prints
one JSON object a row: what the served model answers. In Python:

    from use_me import Model
    Model().predict([…])    # a row is @row@
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

# Of this model, written when it was registered. COLUMNS: what it reads → its name in the data, and its type.
PACKAGES = "@packages@"
COLUMNS: dict[str, tuple[str, str]] = {}

HERE = Path(__file__).resolve().parent
ROWS_AT_ONCE = 256
_OLDEST_PYTHON = (3, 11)
_IN_A_LINE = ("string", "image", "audio")


class Model:
    """The folder's model, in memory.

    Raises ValueError where a file of it was altered, and ModuleNotFoundError where one of PACKAGES is not
    installed.
    """

    def __init__(self, folder: Path = HERE) -> None:
        if sys.version_info < _OLDEST_PYTHON:
            raise ValueError("this model's code needs Python 3.11 or newer")
        import_from(folder / "code")
        verify_signature(folder)
        from retrainer.predict import Predictor

        self.predictor: Any = Predictor.load(folder / "artifacts" / "model")

    def predict(self, rows: Sequence[Any], first: int = 0) -> list[dict[str, Any]]:
        """One answer a row, as the served model gives it. The first row is called number `first`.

        Raises ValueError, which names the row, for one that the model cannot read.
        """
        import pyarrow as pa

        found = [values_of(row, first + number) for number, row in enumerate(rows)]
        columns = {ours: column_of([values[ours] for values in found], ours, first) for ours in COLUMNS}
        columns["origin"] = pa.array([f"row {first + number}" for number in range(len(rows))], pa.string())
        answered: list[dict[str, Any]] = self.predictor.predict(pa.table(columns)).to_pylist()
        return answered


def import_from(code: Path) -> None:
    """The model's own code is imported, also where a Retrainer of another version is installed.

    Raises ValueError where this process has imported such a one already.
    """
    loaded = sys.modules.get("retrainer")
    if loaded is not None and not Path(str(loaded.__file__)).is_relative_to(code):
        raise ValueError(
            f"this program has imported {loaded.__file__}, and the model brings its own code; run use_me.py"
            " as a process of its own, or ask that Retrainer's load_champion"
        )
    if str(code) not in sys.path:
        sys.path.insert(0, str(code))


def verify_signature(folder: Path) -> None:
    """Where RETRAINER_VERIFY_KEY names a public key (a PEM file, or its text), its signature is demanded."""
    given = os.environ.get("RETRAINER_VERIFY_KEY", "").strip()
    if not given:
        return
    if not (folder / "model.sig").is_file():
        raise ValueError("this model is not signed, and RETRAINER_VERIFY_KEY asks for a signature")
    if find_spec("model_signing") is None:
        raise ValueError(
            "RETRAINER_VERIFY_KEY asks for a signature, and the package that checks it is not installed; pip"
            " install model-signing, in the version that requirements.txt names"
        )
    from retrainer.registry.signing import verify

    verify(folder, given.encode() if "-----BEGIN" in given else Path(given).expanduser().read_bytes())


def values_of(row: Any, number: int) -> dict[str, Any]:
    """Each column that the model reads → the row's value. Raises ValueError for a row that lacks one."""
    if isinstance(row, Mapping):
        given = {ours: row.get(name, row.get(ours)) for ours, (name, _) in COLUMNS.items()}
    else:
        parts = row if isinstance(row, tuple) else (row,)
        if len(parts) > len(COLUMNS):
            raise ValueError(f"row {number}: {len(parts)} values, and the model reads {len(COLUMNS)}")
        given = dict(zip(COLUMNS, parts, strict=False))
    for ours, (name, _) in COLUMNS.items():
        if given.get(ours) is None:
            raise ValueError(f"row {number}: '{name}' is missing")
    return {ours: value_of(given[ours], COLUMNS[ours], number) for ours in COLUMNS}


def value_of(value: Any, column: tuple[str, str], number: int) -> Any:
    """The value as the column's Arrow type takes it; of an image or a sound the file's bytes."""
    name, word = column
    if word in ("image", "audio"):
        try:
            return {"bytes": value if isinstance(value, bytes) else Path(value).read_bytes(), "path": None}
        except (OSError, TypeError) as error:
            raise ValueError(f"row {number}: '{name}' is no file that can be read ({error})") from None
    kinds: dict[str, Any] = {"string": str, "number": (int, float), "strings": list, "numbers": list}
    if not isinstance(value, kinds.get(word, list)):
        raise ValueError(f"row {number}: '{name}' is {type(value).__name__}, and the model reads a {word}")
    return value


def column_of(values: list[Any], ours: str, first: int) -> Any:
    """The values as an Arrow array. Raises ValueError, which names the row, for one that is no such type."""
    import pyarrow as pa

    from retrainer.formats.columns import TYPES

    name, word = COLUMNS[ours]
    try:
        return pa.array(values, TYPES[word])
    except (pa.ArrowException, ValueError) as error:
        if len(values) == 1:
            raise ValueError(f"row {first}: '{name}' is no {word} that the model reads ({error})") from None
        for number, value in enumerate(values):
            column_of([value], ours, first + number)
        raise


def row_of(line: str, number: int) -> Any:
    """A word or a line → a row: values between tabs, or JSON where one of them is neither text nor file."""
    if all(word in _IN_A_LINE for _, word in COLUMNS.values()):
        return tuple(line.split("\t", len(COLUMNS) - 1))
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"row {number}: no JSON ({error})") from None
    if not isinstance(row, dict):
        raise ValueError(f"row {number}: expected a JSON object by the names of the columns")
    return row


def answers(words: list[str]) -> Iterator[dict[str, Any]]:
    """One answer a word; of `-` one a line of stdin, a part of them at a time."""
    model = Model()
    lines = (line.rstrip("\r\n") for line in sys.stdin) if words == ["-"] else iter(words)
    first = 0
    while part := list(islice(lines, ROWS_AT_ONCE)):
        rows = [row_of(line, first + number) for number, line in enumerate(part)]
        yield from model.predict(rows, first)
        first += len(part)


def main(words: list[str]) -> int:
    """2 where there is nothing to predict, a row or a file is wrong, or a package is missing."""
    if not words:
        print(__doc__)
        return 2
    try:
        for answer in answers(words):
            print(json.dumps(answer, ensure_ascii=False), flush=True)
    except ModuleNotFoundError as error:
        reason = f"the package {error.name} is not installed; pip install {PACKAGES}"
    except BrokenPipeError:  # of `use_me.py … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        reason = str(error)
    else:
        return 0
    print(f"use_me.py: {' '.join(reason.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
