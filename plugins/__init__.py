"""Your own sources, tasks, model families and trainers: see docs/extending.md."""
