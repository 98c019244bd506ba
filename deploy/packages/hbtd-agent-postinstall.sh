#!/bin/sh
# After an installation or an upgrade, of the .deb and the .rpm.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart hbtd-agent.service ||
        echo 'hbtd-agent is installed, but could not be restarted: journalctl -u hbtd-agent says why' >&2
fi
