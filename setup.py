"""What pyproject.toml cannot say: the wheel carries the files of a new project, as retrainer/template/.

They are this repository's own, but for what is left out or added below. Decision 0038 says why.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
# Named one by one where secrets may lie beside them, as docker/.env does.
FILES = (
    *("params.yaml", "dvc.yaml", "Makefile", "requirements.lock", ".dvcignore", ".gitignore"),
    *(".dvc/config", ".dvc/.gitignore", ".ci/containers"),
    *("recipes/*.yaml", "plugins/__init__.py", "components/**/*.py", "pipelines/**/*.py"),
    *("docker/Dockerfile", "docker/*.Dockerfile", "docker/*.dockerignore", "docker/*.lock"),
    *("docker/*.in", "docker/*.excludes", "docker/install", "docker/compose.yaml"),
    *("deploy/**/*.yaml", "deploy/mlflow/server.env"),
    *("docs/**/*.md", "docs/images/*.png"),
)
# What a project has otherwise than this repository: a file of template/ → its place in the project.
OTHERS = {
    "template/README.md": "README.md",
    "template/ci.yml": ".github/workflows/ci.yml",
    "template/stages.json": "recipes/stages.json",
}
_WHEEL_INTO_IMAGE = (
    "COPY .retrainer/*.whl /tmp/library/\n"
    "RUN python -m zipfile -e /tmp/library/*.whl /tmp/library && mv /tmp/library/retrainer . \\\n"
    "    && rm -r /tmp/library retrainer/template\n"
)
# File → a text of it, and what a project has in its place.
REPLACED = {
    "docker/Dockerfile": ("COPY retrainer retrainer\n", _WHEEL_INTO_IMAGE),
    "docker/Dockerfile.dockerignore": ("!retrainer\n", "!.retrainer\n"),
    ".gitignore": (
        ".venv\n",
        "# The library: clones and images are made with it.\n!/.retrainer/*.whl\n.venv\n",
    ),
}
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def shipped() -> list[Path]:
    """What FILES name; in a checkout only what is in git, and so nothing that is one person's."""
    found = [path for glob in FILES for path in ROOT.glob(glob) if path.is_file()]
    if not (ROOT / ".git").exists():
        return found
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = set(listed.stdout.split("\0"))
    return [path for path in found if path.relative_to(ROOT).as_posix() in tracked]


def template() -> dict[str, bytes]:
    """Path in a new project → content. Raises ValueError where a text to replace is not there once."""
    found = {path.relative_to(ROOT).as_posix(): path for path in shipped()}
    found |= {place: ROOT / name for name, place in OTHERS.items()}
    files = {place: path.read_bytes() for place, path in sorted(found.items()) if path.is_file()}
    for place, (old, new) in REPLACED.items():
        text = files[place].decode()
        if text.count(old) != 1:
            raise ValueError(f"setup.py: {place} has {old!r} {text.count(old)} times, and not once")
        files[place] = text.replace(old, new).encode()
    files["Makefile"] = _without_own_targets(files["Makefile"].decode()).encode()
    return {place: _without_dead_links(place, content, files) for place, content in files.items()}


def _without_dead_links(place: str, content: bytes, files: dict[str, bytes]) -> bytes:
    """Of a page: a link to what this repository alone has is its text, and where that is."""

    def shown(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), link[2]))
        if target in files or any(name.startswith(f"{target}/") for name in files):
            return link[0]
        return f"{link[1]} (`{target}` of Retrainer's repository)"

    return _LINK.sub(shown, content.decode()).encode() if place.endswith(".md") else content


def _without_own_targets(makefile: str) -> str:
    """A Makefile without the targets for this repository's own code, of which a project has `clean` alone."""
    head, title, rest = makefile.partition("##@ this project's own code\n")
    own, next_title, tail = rest.partition("##@ ")
    declared = re.search(r"^\.PHONY:(?:.*\\\n)*.*\n", head, re.M)
    if not (title and declared and "\nclean:" in own):
        raise ValueError("setup.py: the Makefile has no .PHONY, no own targets, or among these no clean")
    gone = set(re.findall(r"^([a-z-]+):.*## ", own, re.M)) - {"clean"}
    names = [name for name in declared[0].replace("\\\n", " ").split() if name not in gone]
    return (
        head.replace(declared[0], f"{' '.join(names)}\n")
        + own[own.index("\nclean:") + 1 :]
        + next_title
        + tail
    )


class Build(build_py):
    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)  # a file of an earlier build that is gone now
        super().run()
        for place, content in template().items():
            target = Path(self.build_lib, "retrainer", "template", place)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


class Source(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        ours = shipped() + [ROOT / name for name in OTHERS]
        names = {path.relative_to(ROOT).as_posix() for path in ours if path.is_file()}
        super().make_release_tree(base_dir, sorted({*files, *names}))


setup(cmdclass={"build_py": Build, "sdist": Source})
