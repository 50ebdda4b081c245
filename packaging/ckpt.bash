# SPDX-License-Identifier: GPL-2.0-only
# bash completion of ckpt. Commands and options are asked from ckpt itself, so they are those of its table.
_ckpt()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} ckpt=${COMP_WORDS[0]}

	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$("$ckpt" --help 2>/dev/null |
			sed -n 's/^  \([a-z][a-z]*\) .*/\1/p' | grep -vx ckpt) --help --version" -- "$cur")
		return
	fi
	case $prev in
	-t | --pid) mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [0-9]*)" -- "$cur") ;;
	*)
		if [[ $cur == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "$("$ckpt" "${COMP_WORDS[1]}" --help 2>/dev/null |
				sed -n 's,^ .\{1\,8\}\(--[a-z][a-z-]*\).*,\1,p')" -- "$cur")
		else
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		fi
		;;
	esac
}
complete -F _ckpt ckpt
