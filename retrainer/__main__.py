"""The command `retrainer`: what make does, by the same words (`retrainer help` lists them).

Some are the library's own. Those that run pipelines belong to the project, whose `pipelines/` does them.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from retrainer.arguments import parser
from retrainer.calls import CALLS, OF_ONE_RECIPE
from retrainer.commands import COMMANDS, Command
from retrainer.errors import UserError, nearest
from retrainer.messages import printed_messages

_PROJECT = ("dvc.yaml", "components", "pipelines")


def main(argv: list[str]) -> int:
    name = argv[0] if argv else "help"
    try:
        if name in CALLS or name.startswith("-"):
            arguments = parser().parse_args(argv or ["help"])
            with printed_messages():
                if name in OF_ONE_RECIPE and not _is_chosen(arguments):
                    from retrainer.default_recipe import say_default

                    say_default()
                status = int(arguments.call(arguments))
                sys.stdout.flush()
                return status
        if name not in COMMANDS:
            raise UserError(f"no such command{nearest(name, [*COMMANDS, 'help', 'completion'])}")
        return hand_over(COMMANDS[name], argv[1:])
    except BrokenPipeError:  # whoever reads stdout, such as head, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        if os.environ.get("DEBUG") == "1":
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return 2


def _is_chosen(arguments: argparse.Namespace) -> bool:
    """Whether it is said which recipe, or which model without one."""
    return any(getattr(arguments, name, None) for name in ("recipe", "model", "directory", "sections"))


def hand_over(command: Command, words: list[str]) -> int:
    """Becomes the process that does it, in the project here. Raises UserError outside of a project."""
    if missing := _missing():
        raise UserError(f"there is no {missing[0]} here; run it in your project's root, where make runs too")
    call = [sys.executable, "-m", *command.words, *words]
    return os.execve(sys.executable, call, os.environ | {"DVC_NO_ANALYTICS": "1"})


def _missing() -> list[str]:
    """What the folder here lacks of a project."""
    return [name for name in _PROJECT if not Path(name).exists()]


def command_line() -> None:
    """The installed program `retrainer`: it finds the plug-ins of the project here, as `python -m` does."""
    if not _missing():
        sys.path.insert(0, str(Path.cwd()))
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    command_line()
