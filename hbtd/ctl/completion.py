"""Completion scripts for bash and zsh, made from hbtctl's parsers; the scripts never run hbtctl."""

from argparse import Action, ArgumentParser

from hbtd.ctl.arguments import make_parsers

_STATES = "ok warned dead alive silent maintenance"

_BASH = """\
# Completion of hbtctl; made by `hbtctl completion`.
_hbtctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= word i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
            @VALUED@) ((i++)) ;;
            -*) ;;
            *) command=$word; break ;;
        esac
    done
    case $before in
        -o|--output) COMPREPLY=($(compgen -W 'table wide json nodeset' -- "$cur")); return ;;
        --state) COMPREPLY=($(compgen -W '@STATES@' -- "$cur")); return ;;
        --token-file|--ca|--cert|--key|set) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        @VALUED@) return ;;
    esac
    case $command in
        '') COMPREPLY=($(compgen -W '@MAIN@' -- "$cur")) ;;
@COMMANDS@
    esac
}
complete -F _hbtctl hbtctl
"""


def script(shell: str) -> str:
    """Return the completion script for a shell, `bash` or `zsh`."""
    main, commands = make_parsers({})
    valued = {"-o", "--output"}
    for parser in (main, *commands.values()):
        for action in _actions(parser):
            if action.nargs is None and action.option_strings:
                valued.update(action.option_strings)
    lines = [
        f"        {name}) COMPREPLY=($(compgen -W '{' '.join(_words(parser))}' -- \"$cur\")) ;;"
        for name, parser in commands.items()
    ]
    text = (
        _BASH.replace("@VALUED@", "|".join(sorted(valued)))
        .replace("@STATES@", _STATES)
        .replace("@MAIN@", " ".join([*commands, *_words(main)]))
        .replace("@COMMANDS@", "\n".join(lines))
    )
    if shell == "bash":
        return text
    return f"#compdef hbtctl\nautoload -U +X bashcompinit && bashcompinit\n{text}"


def _actions(parser: ArgumentParser) -> list[Action]:
    return [action for action in parser._actions if action.dest != "command"]


def _words(parser: ArgumentParser) -> list[str]:
    """Return the words that a shell can complete: long options, and the choices of arguments."""
    words: list[str] = []
    for action in _actions(parser):
        words += [option for option in action.option_strings if option.startswith("--")]
        if not action.option_strings and action.choices:
            words += map(str, action.choices)
    return sorted(words)
