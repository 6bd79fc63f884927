"""Tab completion: the script that a shell reads once, made of the table of commands and of the settings."""

from __future__ import annotations

from retrainer.commands import COMMANDS
from retrainer.errors import UserError, nearest
from retrainer.settings import SECTIONS

_SCRIPT = """\
# Tab completion of `retrainer`. In ~/.{shell}rc:  eval "$(retrainer completion {shell})"
{first}_retrainer_names() {{
    local file
    for file in "$@"; do
        [ -f "$file" ] && file="${{file##*/}}" && echo "${{file%.*}}"
    done
}}
_retrainer() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
    case "$COMP_CWORD $before" in
        1\\ *) words="{commands}" ;;
        *\\ --recipe) words="$(_retrainer_names recipes/*.yaml)" ;;
        *\\ --set) words="{settings}" && compopt -o nospace 2>/dev/null ;;
        2\\ step | 2\\ replay) words="$(_retrainer_names components/[a-z]*.py | grep -vx steps)" ;;
        *) case "${{COMP_WORDS[1]}}" in
{options}
        esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _retrainer retrainer
"""
_FIRST = {"bash": "", "zsh": "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"}


def script(shell: str) -> str:
    """What `eval` takes. Raises UserError for a shell that is not known."""
    if shell not in _FIRST:
        raise UserError(f"completion: no script for {shell!r}{nearest(shell, _FIRST)}")
    keys = [f"{name}.{key}=" for name, section in SECTIONS.items() for key in section.model_fields]
    options = [
        f'            {name}) words="{" ".join(command.options)}" ;;'
        for name, command in COMMANDS.items()
        if command.options
    ]
    return _SCRIPT.format(
        shell=shell,
        first=_FIRST[shell],
        commands=" ".join([*COMMANDS, "help", "completion"]),
        settings=" ".join(keys),
        options="\n".join(options),
    )
