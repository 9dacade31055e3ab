"""`ncodec completion`: what a shell completes: verbs and options; elsewhere names of files."""

from enum import Enum
from typing import Annotated, Any

import typer

BASH = """\
_ncodec() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=
    case ${{COMP_CWORD}}:${{COMP_WORDS[1]}} in
        1:*) words="{verbs}" ;;
{cases}
    esac
    if [[ $word == -* || $words != -* ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
    fi
}}
complete -o bashdefault -o default -F _ncodec ncodec
"""
ZSH = """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
autoload -Uz bashcompinit && bashcompinit
"""


class Shell(str, Enum):
    """For which there is a script."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
) -> None:
    """Print a script of completions: put `eval "$(ncodec completion bash)"` into ~/.bashrc."""
    assert context.parent is not None
    verbs: dict[str, Any] = context.parent.command.commands  # type: ignore[attr-defined]
    if shell is Shell.fish:
        print("\n".join(_fish_lines(verbs)))
        return
    cases = "\n".join(
        f'        *:{name}) words="{" ".join(_names(verb))}" ;;' for name, verb in verbs.items()
    )
    print(
        (ZSH if shell is Shell.zsh else "") + BASH.format(verbs=" ".join(verbs), cases=cases),
        end="",
    )


def _names(verb: Any) -> list[str]:
    """Return the long names of a verb's options, or its own verbs."""
    if hasattr(verb, "commands"):
        return list(verb.commands)
    options = [option for option in verb.params if option.param_type_name == "option"]
    return [name for option in options for name in option.opts if name.startswith("--")]


def _fish_lines(verbs: dict[str, Any]) -> list[str]:
    lines = []
    for name, verb in verbs.items():
        about = verb.get_short_help_str().replace("'", "")
        lines.append(f"complete -c ncodec -n __fish_use_subcommand -f -a {name} -d '{about}'")
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        lines += [
            f"complete -c ncodec {seen} {f'-l {word[2:]}' if word.startswith('--') else f'-f -a {word}'}"
            for word in _names(verb)
        ]
    return lines
