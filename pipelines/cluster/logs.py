"""What a failed step said: the last lines of its pod's log, as the API server passes it on.

Kubeflow's API gives no reason and no pod for a failed task, only the nodes of Argo below it (KFP 2.17,
backend/src/apiserver/server/api_converter.go:1902). The pod of a node `WORKFLOW-NUMBER` is named
`WORKFLOW-TEMPLATE-NUMBER` (backend/src/common/util/workflow.go:391), and the launcher runs a step in one of
two templates (backend/src/v2/compiler/argocompiler/container.go). The nodes of a step's tries lie below a
task named `executor`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from pipelines.cluster.connection import Connection, Refused, Unanswered
from retrainer.services.address import without_credentials

# With retries, and without.
_TEMPLATES = ("retry-system-container-impl", "system-container-impl")
_TRIES = "executor"
# What Argo's program says around every command, and Kubeflow's launcher where nothing is wrong.
_THEIRS = re.compile(r"\bargo=true\b|^Error: exit status \d+$|^I\d{4} \d\d:\d\d")
_LINES = 3
_LINE_CHARACTERS = 300
_MOST_NODES = 8


def last_words(connection: Connection, run: Any, step: str) -> list[str]:
    """The step's own last line, `STEP: what went wrong`, else the last lines of its log; none without one.

    What a step that was killed said last is no reason: then the launcher tells of no exit status.
    """
    for pod in pods_of(run):
        lines = _log(connection, run.run_id, pod)
        own = [line for line in lines if line.startswith(f"{step}: ")]
        if own and any("exit status" in line for line in lines):
            return own[-1:]
        if lines:
            return lines[-_LINES:]
    return []


def pods_of(run: Any) -> Iterator[str]:
    """The pods in which the run's failed steps may have run, the latest try first."""
    details = (run.run_details and run.run_details.task_details) or ()
    failed = sorted(
        (task for task in details if task.state == "FAILED"),
        key=lambda task: not task.display_name.startswith(_TRIES),
    )
    nodes = [child.pod_name for task in failed for child in reversed(task.child_tasks or ())]
    for node in list(dict.fromkeys(node for node in nodes if node))[:_MOST_NODES]:
        if found := re.fullmatch(r"([a-z0-9.-]+)-(\d+)", node):
            yield from (f"{found[1]}-{template}-{found[2]}" for template in _TEMPLATES)


def _log(connection: Connection, run_id: str, pod: str) -> list[str]:
    """The printable lines of the pod's log; none where there is no such pod any more."""
    try:
        text = connection.client.text(f"/apis/v1alpha1/runs/{quote(run_id)}/nodes/{quote(pod)}/log")
    except (Refused, Unanswered):
        return []
    # An error is told in the body, behind the status 200 (run_log_server.go:58).
    if text.lstrip().startswith('{"error_message"'):
        return []
    lines = ("".join(c if c.isprintable() else " " for c in line).rstrip() for line in text.splitlines())
    told = (line for line in lines if line and not _THEIRS.search(line))
    return [without_credentials(line)[:_LINE_CHARACTERS] for line in told]
