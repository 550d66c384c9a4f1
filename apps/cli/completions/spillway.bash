# bash completion for spillway(1); installed as bash-completion/completions/spillway.

# The position of the program among COMP_WORDS, which is what _command_offset counts in, or 0
# before there is one. There --ram=SIZE is three words.
_spillway_program_at() {
  local i
  for ((i = 2; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --)
        echo $((i + 1))
        return
        ;;
      --ram | --swap-ram | --swap-dir | --swap-max | --reserve | --report)
        [ "${COMP_WORDS[i + 1]}" = "=" ] && ((i++))
        ((i++))
        ;;
      -*) ;;
      *)
        echo "$i"
        return
        ;;
    esac
  done
  echo 0
}

# Word lists hold no blanks of their own, so splitting them is what is meant.
# shellcheck disable=SC2207
_spillway_run() {
  local at
  at=$(_spillway_program_at)
  if [ "$at" -gt 0 ]; then
    # From here on the words belong to the program.
    _command_offset "$at"
    return
  fi
  case $prev in
    --ram)
      COMPREPLY=($(compgen -W 'auto 256M 512M 1G 2G 4G 50%' -- "$cur"))
      return
      ;;
    --swap-ram | --reserve)
      COMPREPLY=($(compgen -W '64M 128M 256M 512M 1G' -- "$cur"))
      return
      ;;
    --swap-max)
      COMPREPLY=($(compgen -W '0 1G 4G 16G 50%' -- "$cur"))
      return
      ;;
    --swap-dir)
      _filedir -d
      return
      ;;
    --report)
      _filedir
      return
      ;;
  esac
  case $cur in
    -*)
      COMPREPLY=($(compgen -W '--ram --swap-ram --swap-dir --swap-max --reserve --stats --report
        -q --quiet -v --verbose -h --help --' -- "$cur"))
      ;;
    *) _command_offset "$COMP_CWORD" ;;
  esac
}

# shellcheck disable=SC2207
_spillway_scenario() {
  case $prev in
    --html) _filedir html && return ;;
    --color) COMPREPLY=($(compgen -W 'auto always never' -- "$cur")) && return ;;
    --seed) return ;;
    scenario) COMPREPLY=($(compgen -W 'list show run' -- "$cur")) && return ;;
    show | run)
      COMPREPLY=($(compgen -W "$(spillway scenario list 2>/dev/null | cut -d ' ' -f 1)" -- "$cur"))
      _filedir spw
      return
      ;;
  esac
  COMPREPLY=($(compgen -W '--step --json --html --seed --color -q --quiet -h --help' -- "$cur"))
}

# shellcheck disable=SC2207
_spillway_mount() {
  case $prev in
    --ram) COMPREPLY=($(compgen -W 'auto 16M 64M 256M 1G 10%' -- "$cur")) && return ;;
    --sync-interval | --kernel-cache) COMPREPLY=($(compgen -W '0 1 5 30' -- "$cur")) && return ;;
  esac
  case $cur in
    -*)
      COMPREPLY=($(compgen -W '--ram -r --read-only -f --foreground --allow-other --sync-interval
        --kernel-cache --stats -v --verbose -h --help' -- "$cur"))
      ;;
    *) _filedir ;;
  esac
}

# shellcheck disable=SC2207
_spillway() {
  # shellcheck disable=SC2034 # split and words are set for us
  local cur prev words cword split
  # -s: --ram=SIZE stays one word of `words`, while cur and prev see its two halves.
  _init_completion -s || return
  if [ "$cword" -eq 1 ]; then
    COMPREPLY=($(compgen -W 'run mount doctor scenario help -h --help -V --version' -- "$cur"))
    return
  fi
  case ${words[1]} in
    run) _spillway_run ;;
    scenario) _spillway_scenario ;;
    mount) _spillway_mount ;;
    doctor)
      if [ "$prev" = --swap-dir ]; then
        _filedir -d
      else
        COMPREPLY=($(compgen -W '--swap-dir --json -h --help' -- "$cur"))
      fi
      ;;
    help) COMPREPLY=($(compgen -W 'run mount doctor scenario' -- "$cur")) ;;
  esac
}

complete -F _spillway spillway
