"""The files of `deploy/`, such as the systemd unit, which are installed along with hbtd."""

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import hbtd

PACKAGED = "/opt/hbtd/"
"""The directory where the files of `deploy/` expect hbtd to be installed."""

_INSTALLED = "share/hbtd/"


def deployed_files() -> dict[str, Path]:
    """Return the paths of the files of `deploy/`, by file name; no two have the same name.

    The files of the Helm chart, which no host needs, are left out. The paths are those of the
    installed files or, if hbtd runs in a checkout without being installed, those in the checkout.
    """
    try:
        listed = distribution("hbtd").files or []
    except PackageNotFoundError:
        listed = []
    found = [Path(str(each.locate())) for each in listed if _INSTALLED in each.as_posix()]
    if not found:
        checkout = Path(hbtd.__file__).resolve().parent.parent / "deploy"
        chart = checkout / "helm"
        found = [p for p in checkout.glob("**/*") if p.is_file() and chart not in p.parents]
    return {path.name: path for path in sorted(found)}


def deployed_text(name: str) -> str:
    """Return the text of the file `name` of `deploy/`, with paths that fit this installation.

    In the file, paths begin with `/opt/hbtd/`, where packages install hbtd. If hbtd is installed in
    the current Python environment, the directory of the environment replaces `/opt/hbtd/`. If there
    is no file of this name, raise `LookupError` with the names of the existing files.
    """
    files = deployed_files()
    if name not in files:
        raise LookupError(f"there is no {name!r}, but {', '.join(files) or 'nothing'}")
    text = files[name].read_text("utf-8")
    if (Path(sys.prefix) / "bin" / "hbtd").exists():
        text = text.replace(PACKAGED, f"{sys.prefix}/")
    return text
