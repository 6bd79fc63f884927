"""Settings in YAML."""

from __future__ import annotations

from tests.bad_inputs.bricks import Case, Maker


def text(content: str | bytes) -> Maker:
    return lambda _: content


def laughs() -> str:
    lines = ["source:", "- &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


SETTINGS = {
    name: Case(text(content), says, "resolve")
    for name, content, says in (
        (
            "yaml: indent",
            "training:\n  epochs: 1\n seed: 2\n",
            r"recipes/bad\.yaml: not valid YAML in line 3",
        ),
        ("yaml: a tab", "training:\n\tepochs: 1\n", r"recipes/bad\.yaml: not valid YAML in line 2"),
        ("yaml: empty", "", r"recipes/bad\.yaml: expected sections.*found None"),
        ("yaml: a list", "- training\n", r"recipes/bad\.yaml: expected sections"),
        (
            "yaml: a section twice",
            "training: {epochs: 1}\ntraining: {seed: 1}\n",
            r"recipes/bad\.yaml: not valid YAML in line 2: 'training' stands twice",
        ),
        (
            "yaml: a key twice",
            "training:\n  epochs: 1\n  epochs: 2\n",
            r"recipes/bad\.yaml: not valid YAML in line 3: 'epochs' stands twice",
        ),
        (
            "yaml: an unknown section",
            "trainin: {epochs: 1}\n",
            "unknown section 'trainin'; did you mean 'training'",
        ),
        ("yaml: a section that is a number", "1: {epochs: 1}\n", "unknown section '1'"),
        (
            "yaml: a section that holds a number",
            "training: 3\n",
            "section 'training' must hold settings, found 3",
        ),
        (
            "yaml: an unknown key",
            "training: {epoch: 1}\n",
            r"unknown setting training\.epoch; did you mean 'epochs'",
        ),
        ("yaml: a key that is a number", "training: {1: 1}\n", r"setting training\.1"),
        ("yaml: a wrong type", "training: {epochs: many}\n", r"setting training\.epochs: .*got 'many'"),
        ("yaml: a number beyond its bounds", "split: {test: 1.5}\n", r"setting split\.test: .*less than 1"),
        (
            "yaml: no number",
            "training: {learning_rate: .nan}\n",
            r"setting training\.learning_rate: .*finite",
        ),
        (
            "yaml: a date that is none",
            "registry: {name: 2024-13-01}\n",
            r"recipes/bad\.yaml: not valid YAML in line 1: '2024-13-01'",
        ),
        ("yaml: a billion laughs", laughs(), r"the alias \*a0 in line 3 is not read; write it out"),
        ("yaml: an alias of itself", "training: &a [*a]\n", r"the alias \*a in line 1 is not read"),
        ("yaml: deep nesting", "training: " + "[" * 50_000, "more than 20 levels deep in line 1"),
        (
            "yaml: code",
            "training: !!python/object/apply:os.system ['touch pwned']\n",
            r"recipes/bad\.yaml: not valid YAML in line 1: could not",
        ),
        ("yaml: Latin-1", "registry: {name: café}\n".encode("latin-1"), "not UTF-8 text; save it as UTF-8"),
        (
            "yaml: control characters",
            "training: {epochs: \x07}\n",
            r"recipes/bad\.yaml: not valid YAML: .*control characters",
        ),
        ("yaml: two megabytes", "#" * 2**21, "more than 1,048,576 characters"),
        (
            "yaml: two documents",
            "training: {}\n---\nsplit: {}\n",
            r"recipes/bad\.yaml: not valid YAML in line 2: expected a single document",
        ),
    )
}
