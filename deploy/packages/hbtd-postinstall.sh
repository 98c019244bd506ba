#!/bin/sh
# After an installation or an upgrade, of the .deb and the .rpm.
set -e
systemd-sysusers /usr/lib/sysusers.d/hbtd.conf
systemd-tmpfiles --create /usr/lib/tmpfiles.d/hbtd.conf
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    # Only an hbtd that runs, as after an upgrade: it has to be configured before it is started. It is
    # installed, whether it can start now or not; systemd tries it again.
    systemctl try-restart hbtd.service ||
        echo 'hbtd is installed, but could not be restarted: journalctl -u hbtd says why' >&2
fi
