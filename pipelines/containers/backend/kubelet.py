"""What the kubelet does with a container's command, arguments and environment: `$(NAME)` and `$$`.

Source: kubernetes, third_party/forked/golang/expansion/expand.go, and pkg/kubelet/container/helpers.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipelines.containers.docker_api import StepFailed

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """`$(NAME)` becomes the variable's value where there is one, and `$$` becomes `$`."""

    def fill(match: re.Match[str]) -> str:
        return "$" if match[1] is None else environment.get(match[1], match[0])

    return _REFERENCE.sub(fill, text)


def expand_words(words: list[str], environment: Mapping[str, str], secrets: tuple[str, ...]) -> list[str]:
    """A command as the container gets it.

    Raises StepFailed where a secret would come into it: everyone who may read the pod's processes reads that.
    """
    expanded = [expand(word, environment) for word in words]
    for word, full in zip(words, expanded, strict=True):
        named = [
            match[1] for match in _REFERENCE.finditer(word) if environment.get(match[1] or "") in secrets
        ]
        if named and full != word:
            raise StepFailed(
                f"Kubernetes would write the secret {named[0]} into its command, where $({named[0]}) stands"
            )
    return expanded
