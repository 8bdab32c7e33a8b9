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
