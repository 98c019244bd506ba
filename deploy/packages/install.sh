#!/bin/sh
# Install hbtd from the wheels beside this file; nothing is downloaded, and no pip is needed.
#   ./install.sh                        # into /opt/hbtd, with links in /usr/local/bin
#   ./install.sh install --help         # says what can be chosen
#   ./install.sh uninstall
# The newest Python of 3.10 to 3.13 is taken; PYTHON=/usr/bin/python3.11 ./install.sh says which.
set -eu
CDPATH= cd "$(dirname "$0")"
case ${1:-} in
-h | --help)
    sed -n '2,/^set/s/^# //p' install.sh
    exit
    ;;
esac
[ $# -gt 0 ] || set -- install
command=$1
shift
[ "$command" != install ] || set -- --wheels=wheels --requirements=requirements.txt "$@"
PYTHONPATH=$(echo tools/*.whl | tr ' ' :)
PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH PYTHONDONTWRITEBYTECODE
for python in ${PYTHON:-python3.13 python3.12 python3.11 python3.10}; do
    case $python in
    /*) ;;
    *) python=/usr/bin/$python ;;
    esac
    [ ! -x "$python" ] || exec "$python" -m release "$command" "$@"
done
echo 'hbtd needs Python 3.10, 3.11, 3.12 or 3.13: install one, or say where it is, PYTHON=...' >&2
exit 1
