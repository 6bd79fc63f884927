"""The command line of every step: what DVC runs on a laptop and Kubeflow runs in an image.

python -m components train --settings .run/NAME/settings.json --dataset DIR --model DIR
python -m components train --task '{…}' --backbone '{…}' … --dataset DIR --model DIR --executor-input '{…}'
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from components._process import die_with_runner, report_failure, wait_briefly
from components.steps import FACTS, STEPS
from retrainer.contract import Contract, Metadata, Step, contract_of
from retrainer.errors import SettingError, UserError
from retrainer.formats.files import content_digest
from retrainer.messages import printed_messages


def step_named(name: str) -> Step:
    step: Step = getattr(importlib.import_module(f"components.{name}"), name)
    return step


def parser_of(contract: Contract) -> argparse.ArgumentParser:
    """One option per port, view and section of the step."""
    parser = argparse.ArgumentParser(prog=f"python -m components {contract.name}", allow_abbrev=False)
    for name, port in contract.ports.items():
        required = port.direction != "view"
        parser.add_argument(
            f"--{name}", type=Path, required=required, help=f"{port.direction}: {port.artifact}"
        )
    for name in contract.sealed("input"):
        parser.add_argument(_digest_option(name), metavar="HEX", help=f"the digest that {name} must have")
    for name in contract.sealed("output"):
        parser.add_argument(_digest_option(name), metavar="FILE", type=Path, help="where to write its digest")
    for name in contract.choices():
        parser.add_argument(_choice_option(name), metavar="FILE", type=Path, help="where to write its choice")
    for name in contract.sections:
        parser.add_argument(f"--{name}", metavar="JSON", help=f"the section '{name}' of the settings")
    parser.add_argument("--settings", type=Path, help="resolved settings: every section not given as JSON")
    parser.add_argument("--executor-input", metavar="JSON", help="what Kubeflow Pipelines says of this task")
    parser.add_argument("--code-sha256", metavar="HEX", help="of the code it was compiled for: recorded")
    if FACTS[contract.name].scheduled:
        parser.add_argument("--scheduled-time", default="", help="when a schedule started this run: recorded")
    return parser


def _digest_option(port: str) -> str:
    return f"--{port}-sha256"


def _choice_option(port: str) -> str:
    return f"--{port}-choice"


def sections_from(contract: Contract, arguments: argparse.Namespace) -> dict[str, Any]:
    """Each section from its own JSON, else from the settings file, else its defaults."""
    filed = read_json(arguments.settings.read_text(), str(arguments.settings)) if arguments.settings else {}
    sections = {}
    for name, section in contract.sections.items():
        given = getattr(arguments, name)
        data = filed.get(name, {}) if given is None else read_json(given, f"--{name}")
        sections[name] = section.parse(data, name)
    return sections


def read_json(text: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingError(f"{where}: not JSON ({error})") from None
    if not isinstance(data, dict):
        raise SettingError(f"{where}: expected a JSON object")
    return data


def check_what_arrived(contract: Contract, arguments: argparse.Namespace) -> None:
    """Raises UserError for an input that is not the one its producer wrote."""
    for name in contract.sealed("input"):
        told = getattr(arguments, f"{name}_sha256")
        if told is not None and content_digest(getattr(arguments, name)) != told:
            raise UserError(
                f"--{name}: what arrived is not what the step before wrote (its digest should be {told});"
                " the artifact store lost or changed it: run the pipeline again"
            )


def executor_output_file(arguments: argparse.Namespace) -> Path | None:
    """Where Kubeflow's launcher reads the step's metadata: `outputs.outputFile` of the executor input.

    The launcher has no placeholder for this path alone (KFP 2.17, backend/src/v2/component/launcher_v2.go,
    getPlaceholders). Raises UserError for a text that is no executor input, before the step does any work.
    """
    if arguments.executor_input is None:
        return None
    told = read_json(arguments.executor_input, "--executor-input").get("outputs")
    file = told.get("outputFile") if isinstance(told, dict) else None
    if not isinstance(file, str) or not file:
        raise UserError("--executor-input: it has no outputs.outputFile: this is not Kubeflow Pipelines 2")
    return Path(file)


def hand_over(
    contract: Contract, arguments: argparse.Namespace, metadata: Metadata, file: Path | None
) -> None:
    """Writes what Kubeflow passes on: digests and choices, and in `file` metadata for the dashboard."""
    for name in contract.sealed("output"):
        if path := getattr(arguments, f"{name}_sha256"):
            _write(path, content_digest(getattr(arguments, name)))
    for name in contract.choices():
        if path := getattr(arguments, f"{name}_choice"):
            _write(path, str(metadata[name]["choice"]))
    if file is not None:
        from retrainer.services import lineage

        told = lineage.of_process()
        if arguments.code_sha256:
            told = told | {"code_sha256": arguments.code_sha256}
        shown = {
            name: values | told if name in contract.named("output") else values
            for name, values in metadata.items()
        }
        _write(file, json.dumps(executor_output(contract, shown), allow_nan=False))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def executor_output(contract: Contract, metadata: Metadata) -> dict[str, Any]:
    """Metadata per output, in the form that the Kubeflow Pipelines launcher merges into its artifacts."""
    return {
        "artifacts": {
            name: {"artifacts": [{"name": name, "metadata": _without_unknown(values)}]}
            for name, values in metadata.items()
            if name in contract.ports
        }
    }


def _without_unknown(value: Any) -> Any:
    """The value without what is unknown: the launcher fails a step for a null, or a NaN, in its metadata.

    KFP 2.17: backend/src/v2/metadata/converter.go, StructValueToMLMDValue; protojson knows no NaN.
    """
    if isinstance(value, dict):
        return {key: _without_unknown(each) for key, each in value.items() if not _is_unknown(each)}
    if isinstance(value, list | tuple):
        return [_without_unknown(each) for each in value if not _is_unknown(each)]
    return value


def _is_unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in STEPS:
        print(f"usage: python -m components {{{','.join(STEPS)}}} …", file=sys.stderr)
        return 2
    die_with_runner(os.environ.get("RETRAINER_RUNNER_PID"))
    wait_briefly()
    try:
        with printed_messages():
            run(step_named(argv[0]), argv[1:])
    except (Exception, KeyboardInterrupt) as error:
        return report_failure(argv[0], error)
    return 0


def run(step: Step, words: list[str]) -> None:
    """Reads the step's options, runs it and hands over what it made."""
    contract = contract_of(step)
    arguments = parser_of(contract).parse_args(words)
    file = executor_output_file(arguments)
    if scheduled := getattr(arguments, "scheduled_time", ""):
        os.environ["RETRAINER_SCHEDULED_TIME"] = scheduled
    ports = {name: getattr(arguments, name) for name in contract.ports}
    check_what_arrived(contract, arguments)
    metadata = step(**ports, **sections_from(contract, arguments))
    if metadata:  # none in a process that torchrun has started beside the one that writes
        hand_over(contract, arguments, metadata, file)
