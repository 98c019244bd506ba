#!/bin/sh
# After a removal, or an upgrade. hbtd's records, and the user, stay until dpkg purges.
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
if [ "$1" = purge ]; then
    # A disk that is mounted there is emptied, and stays.
    rm -rf /var/lib/hbtd || [ -z "$(ls -A /var/lib/hbtd)" ]
fi
