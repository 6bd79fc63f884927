"""Run alone, in a fresh isolated process: loads a registered model and answers raw inputs.

    python -I -B ask_served.py models:/NAME/VERSION INPUTS.parquet ANSWERS.json

It imports nothing of this project: whatever it needs of it must have come with the model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(uri: str, inputs: str, answers: str) -> None:
    import pyarrow.parquet as pq
    from mlflow.pyfunc import load_model

    served = load_model(uri, suppress_warnings=True)
    frame = served.predict(pq.read_table(inputs).to_pandas())
    found = {"answers": frame.to_dict(orient="records"), "strays": strays()}
    Path(answers).write_text(json.dumps(found), encoding="utf-8")


def strays() -> list[str]:
    """Our modules that came from elsewhere than a registered model: a library that is installed here."""
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "retrainer"]
    files = [Path(str(module.__file__)) for module in ours]
    places = {file: str(file).rpartition("/code/retrainer/")[0] for file in files}
    return sorted(str(file) for file, place in places.items() if not Path(place, "MLmodel").is_file())


if __name__ == "__main__":
    main(*sys.argv[1:])
