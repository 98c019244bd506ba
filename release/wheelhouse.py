"""An archive by which hbtd is installed on a host that has no network."""

from pathlib import Path

from release import archives
from release.environment import epoch
from release.lock import Locked, locked, sha256
from release.wheels import CHECKOUT, LOCK

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
_TOOLS = ("installer", "packaging")
_TOOLS_LOCK = CHECKOUT / "requirements" / "tools.txt"
_INSTALL = CHECKOUT / "deploy" / "packages" / "install.sh"


def tools() -> list[Locked]:
    """Return the packages that the installation imports; they are pure Python."""
    return [each for each in locked(_TOOLS_LOCK.read_text(), PYTHONS[0]) if each.name in _TOOLS]


def make(version: str, wheel: Path, wheels: list[Path], tools: list[Path], path: Path) -> None:
    """Write the archive: hbtd's wheel, those of what hbtd needs, and those that install all."""
    lock = LOCK.read_text() + str(Locked("hbtd", version, frozenset({f"sha256:{sha256(wheel)}"})))
    contents = {
        "install.sh": (_INSTALL.read_bytes(), 0o755),
        "requirements.txt": (lock.encode(), 0o644),
    }
    for each in (wheel, *wheels):
        contents[f"wheels/{each.name}"] = (each.read_bytes(), 0o644)
    for each in tools:
        contents[f"tools/{each.name}"] = (each.read_bytes(), 0o644)
    for module in Path(__file__).parent.glob("*.py"):
        contents[f"release/{module.name}"] = (module.read_bytes(), 0o644)
    top = path.name.removesuffix(".tar.gz")
    time = epoch() or int(wheel.stat().st_mtime)
    archives.write(path, {f"{top}/{name}": each for name, each in contents.items()}, time)
