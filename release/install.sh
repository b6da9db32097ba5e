#!/bin/sh
# Installs what lies beside it for this user, or for all:
#
#   ./install.sh                        into ~/.local
#   sudo ./install.sh /usr/local        for everybody
#   ./install.sh --uninstall [PREFIX]   removes what it put there, and nothing else
#
# State, logs and results are elsewhere and stay.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

uninstall=
if [ "${1-}" = --uninstall ]; then
	uninstall=1
	shift
fi
if [ $# -gt 1 ]; then
	echo "usage: $0 [--uninstall] [PREFIX]" >&2
	exit 2
fi
prefix=${1-"${HOME:?set HOME, or give a prefix}/.local"}

# place MODE FILE DIRECTORY [NAME] puts one file where it belongs, all at once: a program that runs is replaced safely.
place() {
	[ -f "$here/$2" ] || return 0
	target=$3/${4-$(basename "$2")}
	if [ "$uninstall" ]; then
		rm -f "$target"
		rmdir "$3" 2>/dev/null || true
		return 0
	fi
	mkdir -p "$3"
	cp "$here/$2" "$target.new"
	chmod "$1" "$target.new"
	mv -f "$target.new" "$target"
}
units=$prefix/lib/systemd/user
if [ "$prefix" = "${HOME-}/.local" ]; then
	units=${XDG_CONFIG_HOME-"$HOME/.config"}/systemd/user
fi
place 755 jobserver "$prefix/bin"
place 644 jobserver.1 "$prefix/share/man/man1"
place 644 jobserver.service "$units"
if [ -f "$units/jobserver.service" ]; then
	sed "s|^ExecStart=/usr/bin/|ExecStart=$prefix/bin/|" "$here/jobserver.service" >"$units/jobserver.service.new"
	mv -f "$units/jobserver.service.new" "$units/jobserver.service"
fi

# complete SHELL DIRECTORY NAME: the program writes its completion, with the path that it has now.
complete() {
	if [ "$uninstall" ]; then
		rm -f "$2/$3"
		rmdir "$2" 2>/dev/null || true
		return 0
	fi
	mkdir -p "$2"
	"$prefix/bin/jobserver" completions "$1" >"$2/$3.new"
	mv -f "$2/$3.new" "$2/$3"
}
complete bash "$prefix/share/bash-completion/completions" jobserver
complete zsh "$prefix/share/zsh/site-functions" _jobserver
complete fish "$prefix/share/fish/vendor_completions.d" jobserver.fish

if [ "$uninstall" ]; then
	echo "jobserver has been removed from $prefix"
	exit 0
fi
echo "jobserver is in $prefix/bin"
case :$PATH: in
*:"$prefix/bin":*) ;;
*) echo "put it on your PATH: export PATH=$prefix/bin:\$PATH" ;;
esac
