"""The command line behind the Makefile's targets.

python -m pipelines pipeline [--recipe NAME] [--set section.key=value]...
"""

from __future__ import annotations

import gc
import os
import sys

from components._process import die_with_runner, report_failure
from pipelines._arguments import parser
from retrainer.messages import printed_messages


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    # Set by make to its own process id: ending make ends us, and that ends the running step.
    die_with_runner(os.environ.get("RETRAINER_RUNNER_PID"))
    try:
        with printed_messages():
            if getattr(arguments, "recipe", "given") in (None, ""):
                from retrainer.default_recipe import say_default

                say_default()
            return int(arguments.call(arguments))
    except (Exception, KeyboardInterrupt) as error:
        return report_failure(arguments.command, error)


if __name__ == "__main__":
    # Imports make many objects and hardly any garbage, for which Python by default looks every 700 objects.
    gc.set_threshold(100_000)
    sys.exit(main(sys.argv[1:]))
