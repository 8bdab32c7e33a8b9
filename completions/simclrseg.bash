# simclrseg completion for bash: source this file, or put it into ~/.local/share/bash-completion/completions/simclrseg
_simclrseg_completion() {
    local IFS=$'\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" \
                   _SIMCLRSEG_COMPLETE=complete_bash "$1" 2>/dev/null ) )
    [[ ${#COMPREPLY[@]} -eq 1 && $COMPREPLY == *[/=] ]] && compopt -o nospace 2>/dev/null
}
complete -o default -F _simclrseg_completion simclrseg
