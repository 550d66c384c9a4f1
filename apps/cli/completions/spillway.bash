# bash completion for spillway(1); installed as bash-completion/completions/spillway.

# The position of the program among the words of `spillway run`, or 0 before there is one.
_spillway_program_at() {
  local i
  for ((i = 2; i < cword; i++)); do
    case ${words[i]} in
      --)
        echo $((i + 1))
        return
        ;;
      --ram | --swap-ram | --swap-dir | --swap-max | --reserve | --report) ((i++)) ;;
      -*) ;;
      =) ((i++)) ;; # --ram=SIZE is three words to readline
      *)
        echo "$i"
        return
        ;;
    esac
  done
  [ "${words[cword - 1]}" = -- ] && echo "$cword" || echo 0
}

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
    *) _command_offset "$cword" ;;
  esac
}

_spillway() {
  local cur prev words cword
  _init_completion || return
  if [ "$cword" -eq 1 ]; then
    COMPREPLY=($(compgen -W 'run doctor help -h --help -V --version' -- "$cur"))
    return
  fi
  case ${words[1]} in
    run) _spillway_run ;;
    doctor)
      if [ "$prev" = --swap-dir ]; then
        _filedir -d
      else
        COMPREPLY=($(compgen -W '--swap-dir --json -h --help' -- "$cur"))
      fi
      ;;
    help) COMPREPLY=($(compgen -W 'run doctor' -- "$cur")) ;;
  esac
}

complete -F _spillway spillway
