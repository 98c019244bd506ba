#!/bin/sh
# Before a removal, for which dpkg says "remove" and rpm 0, but not before an upgrade.
set -e
case "$1" in
remove | 0)
    [ ! -d /run/systemd/system ] || systemctl disable --now hbtd-agent.service
    ;;
esac
