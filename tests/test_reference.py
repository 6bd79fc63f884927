"""docs/reference.md says what the settings say of themselves."""

from __future__ import annotations

from pathlib import Path

from retrainer import extend
from retrainer.reference import PAGE, reference
from retrainer.settings import SECTIONS
from tests.conftest import ROOT


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text() == reference(), "run make docs"


def test_it_has_every_key_and_none_that_resolve_writes() -> None:
    page = reference()
    for name, section in SECTIONS.items():
        part = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for key, field in section.model_fields.items():
            by_resolve = (field.description or "").startswith("written by resolve")
            assert (f"| `{key}` |" in part) is not by_resolve, f"{name}.{key}"
    assert "| `privacy.epsilon` |" in page and "| `resources.NAME.cpu` |" in page
    assert "`error`, `warn`, `off`" in page and "≥ 1" in page


def test_every_key_of_every_file_is_described() -> None:
    """Tasks, families and sources have keys of their own."""
    for package in ("tasks", "models", "data/sources"):
        for name in extend.builtin_names(package):
            module = extend.load(package, name, package)
            fields = module.Options.model_fields if hasattr(module, "Options") else {}
            assert not [key for key, field in fields.items() if not field.description], Path(package, name)
