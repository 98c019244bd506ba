"""`python -m release COMMAND`, which the Makefile and the wheelhouse's install.sh call."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from packaging.tags import sys_tags

from release import environment, layout
from release.failures import ReleaseError
from release.layout import Place
from release.lock import chosen, locked
from release.owners import check_unpackaged

_SYSTEMD = Path("/run/systemd/system")
_NEXT = (
    "Set its options in /etc/hbtd/hbtd.env, then: systemctl enable --now hbtd"
    " (or systemctl restart hbtd)"
)


def main() -> int:
    """Do what the command line says; return the exit status."""
    os.umask(0o022)
    options = _parser().parse_args()
    try:
        options.do(options)
    except (ReleaseError, OSError, subprocess.CalledProcessError) as error:
        print(f"release {options.command}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, do, text in (
        ("install", _install, "install hbtd on this host, or into a directory"),
        ("uninstall", _uninstall, "remove it; what was edited, and hbtd's records, stay"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(do=do)
        command.add_argument("--destdir", default="", help="what to put before all paths")
        command.add_argument("--prefix", default="/usr/local", help="default: %(default)s")
        command.add_argument(
            "--envdir",
            default=layout.PACKAGED,
            help="the private environment; default: %(default)s",
        )
        if name == "install":
            command.add_argument("--wheels", type=Path, help="take wheels from this directory")
            command.add_argument("--requirements", type=Path, help="their lock file")
    command = commands.add_parser("release", help="make everything that is published, in dist/")
    command.add_argument("--out", type=Path, default=Path("dist"), help="default: %(default)s")
    command.add_argument("--packages-only", action="store_true", help="only the .deb and the .rpm")
    command.set_defaults(do=_release)
    return parser


def _place(options: argparse.Namespace) -> Place:
    """Return where to install hbtd, or where it is installed, as the options say.

    Raise `ReleaseError` if a path can't be used.
    """
    for name in ("prefix", "envdir"):
        if not getattr(options, name).startswith("/") or " " in getattr(options, name):
            raise ReleaseError(f"--{name} must be an absolute path without spaces")
    root = Path(options.destdir or "/").absolute()
    return Place(root, options.prefix.rstrip("/"), options.envdir.rstrip("/"))


def _install(options: argparse.Namespace) -> None:
    """Carry out the command `install`, and print what was done."""
    place = _place(options)
    check_unpackaged(place)
    if options.wheels:
        directory, lock = options.wheels, options.requirements.read_text()
        packages = locked(lock, environment.PYTHON)
    else:
        # These are not among the files that an archive for hosts without network has.
        from release.everything import for_this_host

        directory, packages = for_this_host()
    environment.base_python()
    wheels = chosen(packages, directory, list(sys_tags()))
    said = layout.lay_out(place, layout.build(place, wheels))
    if place.root == Path("/"):
        for command in (
            ["systemd-sysusers", f"{place.prefix}/lib/sysusers.d/hbtd.conf"],
            ["systemd-tmpfiles", "--create", f"{place.prefix}/lib/tmpfiles.d/hbtd.conf"],
        ):
            if Path(command[-1]).exists():
                subprocess.run(command, check=True)
        if _SYSTEMD.is_dir():
            subprocess.run(["systemctl", "daemon-reload"], check=True)
    print(
        "\n".join(
            [
                *said,
                f"hbtd {environment.version(place.environment)} is installed in {place.environment}"
                f" with Python {environment.PYTHON}.",
                *([] if options.destdir else [_NEXT]),
            ]
        )
    )


def _uninstall(options: argparse.Namespace) -> None:
    """Carry out the command `uninstall`, and print which files are kept."""
    place = _place(options)
    check_unpackaged(place)
    running = place.root == Path("/") and _SYSTEMD.is_dir()
    if running and place.environment.is_dir():
        units = ["hbtd.socket", "hbtd.service"]
        subprocess.run(["systemctl", "disable", "--now", *units], check=False)
    for line in layout.remove(place):
        print(line)
    if running:
        subprocess.run(["systemctl", "daemon-reload"], check=True)


def _release(options: argparse.Namespace) -> None:
    """Carry out the command `release`: make packages and, unless told otherwise, archives."""
    from release.everything import make, make_packages

    (make_packages if options.packages_only else make)(options.out)


if __name__ == "__main__":
    sys.exit(main())
