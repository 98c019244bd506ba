"""Where what belongs to hbtd is on a host, outside of its private environment."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from release import environment
from release.failures import ReleaseError

PACKAGED = "/opt/hbtd"
"""The environment that the files in `deploy/` name."""


@dataclass(frozen=True)
class Place:
    """A host, or a directory that is going to be a host's root, and the paths there."""

    root: Path
    """What stands before all paths: `/`, or DESTDIR."""
    prefix: str = "/usr/local"
    where: str = PACKAGED
    """The private environment."""

    def path(self, absolute: str) -> Path:
        """Return where a path of the host is now."""
        return self.root / absolute.lstrip("/")

    @property
    def environment(self) -> Path:
        """Where the private environment is now."""
        return self.path(self.where)


@dataclass(frozen=True)
class File:
    """A file of the host, with its contents."""

    path: str
    contents: bytes
    mode: int = 0o644
    kept: bool = False
    """Whether it belongs to whoever runs the host once it is there."""


def files(place: Place, built: Path) -> Iterator[File]:
    """Yield the files for a host whose environment has been built in a directory."""
    share, prefix = built / "share", place.prefix
    systemd = share / "hbtd" / "systemd"
    for unit in sorted([*systemd.glob("*.service"), *systemd.glob("*.socket")]):
        yield File(f"{prefix}/lib/systemd/system/{unit.name}", _deployed(unit, place))
    for kind in ("sysusers", "tmpfiles"):
        path = systemd / f"hbtd.{kind}"
        yield File(f"{prefix}/lib/{kind}.d/hbtd.conf", _deployed(path, place))
    yield File("/etc/hbtd/hbtd.env", _deployed(systemd / "hbtd.env", place), 0o640, kept=True)
    for page in sorted((share / "man").glob("man*/hbt*")):
        if not page.name.startswith("hbtd-agent."):  # it has its own package
            yield File(f"{prefix}/share/man/{page.parent.name}/{page.name}", page.read_bytes())
    for shell, name in (
        ("bash", "share/bash-completion/completions/hbtctl"),
        ("zsh", "share/zsh/site-functions/_hbtctl"),
    ):
        yield File(f"{prefix}/{name}", _completion(built, shell))
    documents = f"{prefix}/share/doc/hbtd"
    for path in _tree(share / "doc" / "hbtd"):
        yield File(f"{documents}/{path.relative_to(share / 'doc' / 'hbtd')}", path.read_bytes())
    for path in _tree(share / "hbtd"):
        name = str(path.relative_to(share / "hbtd"))
        yield File(f"{documents}/deploy/{name}", _deployed(path, place))


def _tree(directory: Path) -> list[Path]:
    """Return the files in a directory and those below it."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def links(place: Place, built: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and the target of each link to one of hbtd's commands."""
    for name in environment.commands(built):
        yield f"{place.prefix}/bin/{name}", f"{place.where}/bin/{name}"


def lay_out(place: Place, built: Path) -> list[str]:
    """Put a built environment, and everything outside of it, in its place.

    A file that whoever runs the host has edited is kept, with the new one beside it, `.new` after
    its name. Return what to say about that.
    """
    said = []
    old = place.environment
    for file in files(place, built):
        path = place.path(file.path)
        if file.kept and path.exists() and path.read_bytes() != file.contents:
            if not _unchanged(path, place):
                said.append(
                    f"{file.path} has been edited and is kept; {file.path}.new is the new one"
                )
                path = path.with_name(f"{path.name}.new")
        elif file.kept:
            path.with_name(f"{path.name}.new").unlink(missing_ok=True)
            if path.exists():
                continue
        _write(path, file)
    for link, target in links(place, built):
        path = place.path(link)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    _swap(built, old)
    return said


def remove(place: Place) -> list[str]:
    """Remove what `lay_out` has put there, but no file that was edited; return what to say."""
    built, said = place.environment, []
    if not built.is_dir():
        raise ReleaseError(f"{built} is not there: nothing is installed")
    paths = [place.path(link) for link, _ in links(place, built)]
    for file in files(place, built):
        path = place.path(file.path)
        if file.kept and path.exists() and path.read_bytes() != file.contents:
            said.append(f"{file.path} has been edited and is kept")
        else:
            paths.append(path)
        paths += [path.with_name(f"{path.name}.new")] if file.kept else []
    for path in paths:
        path.unlink(missing_ok=True)
    shutil.rmtree(built)
    for directory in {parent for path in paths for parent in (path.parent, path.parent.parent)}:
        if "hbtd" in directory.name or "hbtd" in directory.parent.name:
            _remove_empty(directory)
    return said


def build(place: Place, wheels: list[Path]) -> Path:
    """Build the environment of some wheels beside where it will be; return its directory."""
    built = place.environment.with_name(f"{place.environment.name}.new")
    if built.exists():
        shutil.rmtree(built)
    environment.build(wheels, built, place.where)
    return built


def _completion(built: Path, shell: str) -> bytes:
    """Return the completion of hbtctl for a shell."""
    command = [str(built / "bin" / "python"), "-I", "-B", "-m", "hbtd.ctl", "completion", shell]
    return subprocess.run(command, check=True, capture_output=True, cwd="/").stdout


def _unchanged(path: Path, place: Place) -> bool:
    """Return whether a file is as the environment that is there has brought it."""
    brought = place.environment / "share" / "hbtd" / "systemd" / path.name
    return brought.is_file() and path.read_bytes() == _deployed(brought, place)


def _deployed(path: Path, place: Place) -> bytes:
    """Return the contents of a file of `deploy/`, with the environment that is installed."""
    return path.read_bytes().replace(f"{PACKAGED}/".encode(), f"{place.where}/".encode())


def _write(path: Path, file: File) -> None:
    """Write a file, so that it is there wholly or not at all."""
    for directory in reversed(path.parents):
        if not directory.is_dir():
            directory.mkdir()
            directory.chmod(0o755)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(file.contents)
    temporary.chmod(file.mode)
    temporary.replace(path)
    time = environment.epoch()
    if time is not None:
        os.utime(path, (time, time))


def _swap(built: Path, where: Path) -> None:
    """Put an environment in the place of another, which a process may still run in."""
    old = where.with_name(f"{where.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if where.exists():
        where.rename(old)
    built.rename(where)
    if old.exists():
        shutil.rmtree(old)


def _remove_empty(directory: Path) -> None:
    """Remove directories that are empty, from the innermost on."""
    if directory.is_dir() and not directory.is_symlink():
        for each in list(directory.iterdir()):
            if each.is_dir():
                _remove_empty(each)
        if not any(directory.iterdir()):
            directory.rmdir()
