# simclrseg completion for fish: put this file into ~/.config/fish/completions/
function __simclrseg_complete
    set -l items (env _TYPER_COMPLETE_ARGS=(commandline -cp) _SIMCLRSEG_COMPLETE=complete_fish simclrseg 2>/dev/null)
    if test -n "$items"
        printf '%s\n' $items
    else
        __fish_complete_path (commandline -ct)
    end
end
complete --command simclrseg --no-files --keep-order --arguments "(__simclrseg_complete)"
