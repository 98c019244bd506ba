#!/bin/sh
# After a removal, or an upgrade. hbtd's records, and the user, stay until dpkg purges.
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
if [ "$1" = purge ]; then
    rm -rf /var/lib/hbtd
fi
