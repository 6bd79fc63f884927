"""`python -m components STEP …`: forked by the server of steps where one runs, else a process of its own."""

import sys

from components._forked import forked

if __name__ == "__main__":
    status = forked(sys.argv[1:])
    if status is None:
        from components._process import leaving_nothing_behind
        from components.command import main

        with leaving_nothing_behind():
            status = main(sys.argv[1:])
    sys.exit(status)
