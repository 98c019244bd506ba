#!/bin/sh
# Before a removal, for which dpkg says "remove" and rpm 0, but not before an upgrade.
set -e
case "$1" in
remove | 0)
    if [ -d /run/systemd/system ]; then
        systemctl disable --now hbtd-agent.service ||
            echo 'hbtd-agent is removed, but could not be stopped or disabled' >&2
    elif command -v systemctl >/dev/null; then
        # In an image that is being built: it would still be enabled there.
        systemctl disable hbtd-agent.service || :
    fi
    ;;
esac
