"""Prompts as a model's chat template writes them.

A template is a program from wherever the weights came. It runs in Jinja's sandbox, as transformers'
`apply_chat_template` runs it (transformers 5.23, utils/chat_template_utils.py), and sees nothing but texts.
It has no clock and draws nothing: `strftime_now` is not defined, for which templates have a fixed date, nor
are Jinja's `random` and `lipsum`, so that the same rows give the same tokens on any day. The sandbox bounds
what a template reaches, not how long it runs.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from retrainer.errors import ModelError, UserError

if TYPE_CHECKING:
    from jinja2 import Template

Message = dict[str, str]

_MOST_CHARACTERS = 1 << 17  # of a template
_ROLES = ("system", "user", "assistant")


def render(template: str, messages: list[Message], marks: dict[str, str], answered: bool = False) -> str:
    """The conversation up to where the assistant answers; `answered`: with the answer, which is its last.

    Raises ModelError where that fails.
    """
    try:
        return _compiled(template).render(messages=messages, add_generation_prompt=not answered, **marks)
    except UserError:
        raise
    except Exception as error:  # a foreign program fails in its own ways
        raise ModelError(f"the chat template of the weights cannot be used: {_brief(error)}") from None


@lru_cache(maxsize=4)
def _compiled(template: str) -> Template:
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if len(template) > _MOST_CHARACTERS:
        raise ModelError(f"the chat template of the weights has {len(template):,} characters; it is none")

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    sandbox.globals["raise_exception"] = refuse
    sandbox.filters["tojson"] = to_json
    del sandbox.filters["random"], sandbox.globals["lipsum"]
    return sandbox.from_string(template)


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "".join(letter for letter in text if letter.isprintable())[:200] or type(error).__name__


def conversation(text: str, where: str) -> list[Message]:
    """Messages out of JSON. Raises UserError that begins with `where` for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not found:
        raise UserError(f"{where}: no conversation; needed is JSON as [{{role: user, content: …}}, …]")
    for message in found:
        given = message if isinstance(message, dict) else {}
        if given.get("role") not in _ROLES or not isinstance(given.get("content"), str):
            raise UserError(
                f"{where}: a message needs a role ({', '.join(_ROLES)}) and a content, which is text"
            )
    if found[-1]["role"] == "assistant":
        raise UserError(f"{where}: the conversation ends with an answer; put that into target_text")
    return [{"role": message["role"], "content": message["content"]} for message in found]
