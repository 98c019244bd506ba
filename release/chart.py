"""Packages the Helm chart, as `helm package` does; but the same sources make the same bytes."""

import re
from pathlib import Path

from release import archives, environment
from release.failures import ReleaseError


def make(chart: Path, version: str, out: Path) -> Path:
    """Write the archive of a chart, `NAME-VERSION.tgz`, into `out`; return its path.

    `chart` is its directory. Symbolic links are followed, as Helm does. Raise `ReleaseError` if the
    chart is not of `version`.
    """
    said = re.search(r"^version: (\S+)$", (chart / "Chart.yaml").read_text("utf-8"), re.MULTILINE)
    if said is None or said[1] != version:
        raise ReleaseError(f"{chart / 'Chart.yaml'} is not of version {version}: change it there")
    contents = {
        f"{chart.name}/{path.relative_to(chart)}": (path.read_bytes(), 0o644)
        for path in chart.rglob("*")
        if path.is_file()
    }
    made = out / f"{chart.name}-{version}.tgz"
    archives.write(made, contents, environment.epoch() or 0)
    return made
