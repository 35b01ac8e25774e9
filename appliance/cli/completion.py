"""`hearth completion SHELL`: the few lines that make a shell ask `hearth` how a command line may go on."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from appliance.cli.commands import Command

BASH = """_hearth_completion() {
    local IFS=$'\\n'
    COMPREPLY=($(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _HEARTH_COMPLETE=complete_bash "$1" 2>/dev/null))
}
complete -o default -F _hearth_completion hearth
"""
ZSH = """#compdef hearth
_hearth_completion() {
    eval "$(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _HEARTH_COMPLETE=complete_zsh "${words[1]}" 2>/dev/null)"
}
if [ "$funcstack[1]" = "_hearth" ]; then _hearth_completion; else compdef _hearth_completion hearth; fi
"""
FISH = """function __hearth_complete
    _HEARTH_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] _TYPER_COMPLETE_ARGS=(commandline -cp) \\
        hearth 2>/dev/null
end
complete --command hearth --no-files --arguments "(__hearth_complete get-args)" --condition "__hearth_complete is-args"
"""


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


SCRIPTS = {Shell.BASH: BASH, Shell.ZSH: ZSH, Shell.FISH: FISH}


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print what a shell needs to complete `hearth` commands.

    \b
    ~/.bashrc:                   eval "$(hearth completion bash)"
    ~/.zshrc:                    eval "$(hearth completion zsh)"
    ~/.config/fish/config.fish:  hearth completion fish | source
    """
    sys.stdout.write(SCRIPTS[shell])


COMMANDS = [
    Command(
        "completion",
        None,
        completion,
        ("hearth completion bash", "hearth completion zsh", "hearth completion fish"),
        takes_session=False,
    )
]
