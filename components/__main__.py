"""The command line of every step: what DVC runs on a laptop and Kubeflow runs in an image.

python -m components train --settings .run/NAME/settings.json --dataset DIR --model DIR
python -m components train --task '{…}' --backbone '{…}' … --dataset DIR --model DIR --executor-output FILE
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from components._process import die_with_runner, report_failure
from retrainer.contract import Contract, Metadata, Step, contract_of
from retrainer.errors import UserError
from retrainer.formats.files import content_digest

STEPS = ("ingest", "preprocess", "train", "evaluate", "register")


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
    for name in contract.sections:
        parser.add_argument(f"--{name}", metavar="JSON", help=f"the section '{name}' of the settings")
    parser.add_argument("--settings", type=Path, help="resolved settings: every section not given as JSON")
    parser.add_argument("--executor-output", type=Path, help="where Kubeflow Pipelines reads the metadata")
    if not contract.named("input"):
        parser.add_argument("--scheduled-time", default="", help="when a schedule started this run: recorded")
    return parser


def _digest_option(port: str) -> str:
    return f"--{port}-sha256"


def sections_from(contract: Contract, arguments: argparse.Namespace) -> dict[str, Any]:
    """Each section from its own JSON, else from the settings file, else its defaults."""
    filed = _read_json(arguments.settings.read_text(), str(arguments.settings)) if arguments.settings else {}
    sections = {}
    for name, section in contract.sections.items():
        given = getattr(arguments, name)
        data = filed.get(name, {}) if given is None else _read_json(given, f"--{name}")
        sections[name] = section.parse(data, name)
    return sections


def _read_json(text: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error})") from None
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected a JSON object")
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


def hand_over(contract: Contract, arguments: argparse.Namespace, metadata: Metadata) -> None:
    """Writes what Kubeflow passes on: each output's digest, and metadata for the dashboard."""
    for name in contract.sealed("output"):
        if path := getattr(arguments, f"{name}_sha256"):
            _write(path, content_digest(getattr(arguments, name)))
    if arguments.executor_output:
        from retrainer.services import lineage

        told = lineage.of_process()
        scheduled = getattr(arguments, "scheduled_time", "")
        # Not every Kubeflow fills in the macro that a schedule passes.
        if scheduled and not scheduled.startswith("[["):
            told["scheduled_time"] = scheduled
        shown = {
            name: values | told if name in contract.named("output") else values
            for name, values in metadata.items()
        }
        _write(arguments.executor_output, json.dumps(executor_output(contract, shown)))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def executor_output(contract: Contract, metadata: Metadata) -> dict[str, Any]:
    """Metadata per output, in the form that the Kubeflow Pipelines launcher merges into its artifacts."""
    return {
        "artifacts": {
            name: {"artifacts": [{"name": name, "metadata": values}]}
            for name, values in metadata.items()
            if name in contract.ports
        }
    }


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in STEPS:
        print(f"usage: python -m components {{{','.join(STEPS)}}} …", file=sys.stderr)
        return 2
    die_with_runner(os.environ.get("RETRAINER_RUNNER_PID"))
    # Threads that wait must sleep: by default they spin, and beside another busy process a training becomes
    # ten times slower. Read when torch is imported, which no step does before this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        step = step_named(argv[0])
        contract = contract_of(step)
        arguments = parser_of(contract).parse_args(argv[1:])
        ports = {name: getattr(arguments, name) for name in contract.ports}
        check_what_arrived(contract, arguments)
        metadata = step(**ports, **sections_from(contract, arguments))
        if metadata:  # none in a process that torchrun has started beside the one that writes
            hand_over(contract, arguments, metadata)
    except (Exception, KeyboardInterrupt) as error:
        return report_failure(argv[0], error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
