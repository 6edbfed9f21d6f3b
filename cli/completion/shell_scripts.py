"""The scripts for bash, zsh and fish. After `run --` they complete a command as the shell itself does."""

BASH = r"""
%(complete_func)s() {
    local cur="${COMP_WORDS[COMP_CWORD]}" line="${COMP_LINE:0:COMP_POINT}" split="" i
    if [[ ${COMP_WORDS[1]} == run ]]; then
        for ((i = 2; i < COMP_CWORD; i++)); do
            [[ ${COMP_WORDS[i]} == -- ]] || continue
            if declare -F _comp_command_offset >/dev/null; then
                _comp_command_offset $((i + 1))
            elif declare -F _command_offset >/dev/null; then
                _command_offset $((i + 1))
            elif ((COMP_CWORD == i + 1)); then
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -A command -- "$cur"; compgen -A directory -- "$cur")
            else
                compopt -o default
                COMPREPLY=()
            fi
            return
        done
    fi
    COMPREPLY=()
    if [[ $COMP_WORDBREAKS == *:* ]]; then  # What stands before a colon is a word of its own.
        split="${line##*[[:space:]]}"
        split="${split%%"${split##*:}"}"
    fi
    while IFS= read -r line; do
        if [[ $line == *@files ]]; then
            compopt -o default
            COMPREPLY=()
            return
        fi
        line="${line%%%%$'\t'*}"
        [[ -z $line ]] || COMPREPLY+=("${line#"$split"}")
    done < <(env %(autocomplete_var)s=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
        _TYPER_COMPLETE_ARGS="${COMP_LINE:0:COMP_POINT}" "$1" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *, ]] && compopt -o nospace
    return 0
}

complete -F %(complete_func)s %(prog_name)s
"""

ZSH = r"""
#compdef %(prog_name)s

%(complete_func)s() {
  local dashes=${words[(i)--]} line
  local -a values
  if [[ ${words[2]} == run ]] && (( dashes < CURRENT )); then
    shift $dashes words
    (( CURRENT -= dashes ))
    _normal
    return
  fi
  for line in "${(@f)$(env %(autocomplete_var)s=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
      _TYPER_COMPLETE_ARGS="${(j: :)words[1,CURRENT-1]} $PREFIX" $words[1] 2>/dev/null)}"; do
    if [[ $line == *@files ]]; then
      _files
      return
    fi
    [[ -n $line ]] && values+=("${${line%%%%$'\t'*}//:/\\:}${${(M)line%%$'\t'*}/$'\t'/:}")
  done
  (( $#values )) && _describe -V value values
}

compdef %(complete_func)s %(prog_name)s
"""

FISH = r"""
function %(complete_func)s_dashes
    set -l words (commandline -opc)
    test "$words[2]" = run; and contains -i -- -- $words
end

function %(complete_func)s_values
    if set -l at (%(complete_func)s_dashes)
        set -l words (commandline -opc)
        set -e words[1..$at]
        complete -C (string join ' ' -- (string escape -- $words) (commandline -ct))
        return
    end
    set -l found (env %(autocomplete_var)s=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
        _TYPER_COMPLETE_ARGS=(commandline -cp) %(prog_name)s 2>/dev/null)
    if string match -q -- '*@files' $found
        __fish_complete_path (commandline -ct)
    else
        string join \n -- $found
    end
end

complete --command %(prog_name)s --no-files --arguments '(%(complete_func)s_values)'
"""

# Typer installs them; the names that are filled in are its own.
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def script(shell: str, program: str) -> str:
    """Return the script of a shell for the command `program`."""
    names = {
        "prog_name": program,
        "complete_func": f"_{program}_completion",
        "autocomplete_var": variable(program),
    }
    return SCRIPTS[shell].strip() % names + "\n"


def variable(program: str) -> str:
    """Return the variable in which a script asks for words."""
    return f"_{program.upper()}_COMPLETE"
