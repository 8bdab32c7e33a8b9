"""The completion script of each shell. They know no option: each Tab asks the program (cli/completion.py)."""

from __future__ import annotations

from simclrseg.errors import UnknownName

BASH = """\
# simclrseg completion for bash: source this file, or put it into ~/.local/share/bash-completion/completions/simclrseg
_simclrseg_completion() {
    local IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" \\
                   _SIMCLRSEG_COMPLETE=complete_bash "$1" 2>/dev/null ) )
    [[ ${#COMPREPLY[@]} -eq 1 && $COMPREPLY == *[/=] ]] && compopt -o nospace 2>/dev/null
}
complete -o default -F _simclrseg_completion simclrseg
"""

ZSH = """\
#compdef simclrseg
# simclrseg completion for zsh: put this file, named _simclrseg, into a folder of $fpath
_simclrseg() {
    local -a items
    items=("${(@f)$(env _TYPER_COMPLETE_ARGS="${(j: :)words[1,CURRENT]}" \\
                        _SIMCLRSEG_COMPLETE=complete_zsh "$words[1]" 2>/dev/null)}")
    items=(${items:#})
    if (( $#items )); then
        _describe -V simclrseg items
    else
        _files
    fi
}
if [[ "$funcstack[1]" == _simclrseg ]]; then
    _simclrseg "$@"  # loaded from $fpath by the first Tab, which is to be answered too
else
    compdef _simclrseg simclrseg
fi
"""

FISH = """\
# simclrseg completion for fish: put this file into ~/.config/fish/completions/
function __simclrseg_complete
    set -l items (env _TYPER_COMPLETE_ARGS=(commandline -cp) _SIMCLRSEG_COMPLETE=complete_fish simclrseg 2>/dev/null)
    if test -n "$items"
        printf '%s\\n' $items
    else
        __fish_complete_path (commandline -ct)
    end
end
complete --command simclrseg --no-files --keep-order --arguments "(__simclrseg_complete)"
"""

POWERSHELL = """\
# simclrseg completion for PowerShell: dot-source this file in $PROFILE
Register-ArgumentCompleter -Native -CommandName simclrseg -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $Env:_SIMCLRSEG_COMPLETE = "complete_powershell"
    $Env:_TYPER_COMPLETE_ARGS = $commandAst.ToString()
    $Env:_TYPER_COMPLETE_WORD_TO_COMPLETE = $wordToComplete
    simclrseg | Where-Object { $_ } | ForEach-Object {
        $value, $help = $_ -Split ":::"
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
    }
    Remove-Item Env:_SIMCLRSEG_COMPLETE, Env:_TYPER_COMPLETE_ARGS -ErrorAction Ignore
    Remove-Item Env:_TYPER_COMPLETE_WORD_TO_COMPLETE -ErrorAction Ignore
}
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH, "powershell": POWERSHELL}
FILES = {"bash": "simclrseg.bash", "zsh": "_simclrseg", "fish": "simclrseg.fish", "powershell": "simclrseg.ps1"}


def script(shell: str) -> str:
    """The completion script of a shell."""
    if shell not in SCRIPTS:
        raise UnknownName("shell", shell, known=SCRIPTS)
    return SCRIPTS[shell].rstrip("\n")
