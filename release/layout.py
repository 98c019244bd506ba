"""The layout of hbtd on a host: where its units, links and documents are, and its environment."""

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
    """Where hbtd is installed: a host's root directory, or DESTDIR, and the paths below it."""

    root: Path
    """What stands before all paths: `/`, or DESTDIR."""
    prefix: str = "/usr/local"
    where: str = PACKAGED
    """The private environment."""

    def path(self, absolute: str) -> Path:
        """Return where a path of the host is at present, below `root`."""
        return self.root / absolute.lstrip("/")

    @property
    def environment(self) -> Path:
        """The directory in which the private environment is at present, below `root`."""
        return self.path(self.where)


@dataclass(frozen=True)
class File:
    """A file to be installed on a host, with its contents and mode."""

    path: str
    contents: bytes
    mode: int = 0o644
    kept: bool = False
    """Whether it belongs to whoever runs the host once it is there."""


def files(place: Place, built: Path) -> Iterator[File]:
    """Yield the files to be installed outside of the environment, which was built in `built`."""
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
    """Return the files in a directory and in the directories below it, sorted."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def links(place: Place, built: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and the target of the link to each of hbtd's commands."""
    for name in environment.commands(built):
        yield f"{place.prefix}/bin/{name}", f"{place.where}/bin/{name}"


def lay_out(place: Place, built: Path) -> list[str]:
    """Install the environment that was built in `built`, and the files and links outside of it.

    A file that an administrator of the host has edited is kept, and the new one is put beside it,
    with `.new` after its name. Return a line for the user about each such file.
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
    """Remove all that `lay_out` has installed, except files that were edited since.

    Return a line for the user about each of these. Raise `ReleaseError` if nothing is installed.
    """
    built, said = place.environment, []
    if not built.is_dir():
        raise ReleaseError(f"{built} is not there: nothing is installed")
    check_replaceable(built)
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
    """Build an environment with `wheels` beside the directory where it will be; return its path."""
    built = place.environment.with_name(f"{place.environment.name}.new")
    for path in (place.environment, built, _old(place.environment)):
        check_replaceable(path)
    if built.exists():
        shutil.rmtree(built)
    environment.build(wheels, built, place.where)
    return built


def check_replaceable(path: Path) -> None:
    """Raise `ReleaseError` if there is something at a path that is no environment of hbtd.

    An empty directory, and what an interrupted build has left, may be replaced.
    """
    if path.is_symlink():
        raise ReleaseError(f"{path} is a symbolic link; name the directory that it leads to")
    if path.is_dir() and not any(path.iterdir()):
        return
    ours = any(path.glob("lib/python*/site-packages/hbtd-*.dist-info"))
    interrupted = path.suffix == ".new" and (path / "pyvenv.cfg").is_file()
    if path.exists() and not (ours or interrupted):
        raise ReleaseError(f"{path} is no environment of hbtd, and would be deleted; name another")


def _completion(built: Path, shell: str) -> bytes:
    """Return the script by which a shell completes the arguments of hbtctl."""
    command = [str(built / "bin" / "python"), "-I", "-B", "-m", "hbtd.ctl", "completion", shell]
    return subprocess.run(command, check=True, capture_output=True, cwd="/").stdout


def _unchanged(path: Path, place: Place) -> bool:
    """Return whether a file is the same as when it was installed with the present environment."""
    brought = place.environment / "share" / "hbtd" / "systemd" / path.name
    return brought.is_file() and path.read_bytes() == _deployed(brought, place)


def _deployed(path: Path, place: Place) -> bytes:
    """Return the contents of a file of `deploy/`, with the environment's path for `/opt/hbtd`."""
    return path.read_bytes().replace(f"{PACKAGED}/".encode(), f"{place.where}/".encode())


def _write(path: Path, file: File) -> None:
    """Write a file in one step, so that no other process sees a part of it.

    Directories that it needs are made.
    """
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


def _old(environment: Path) -> Path:
    """Return where an old environment is until it is removed."""
    return environment.with_name(f"{environment.name}.old")


def _swap(built: Path, where: Path) -> None:
    """Move the environment `built` to `where`, in place of the old one, which is removed.

    A process may still run in the old one, which is moved aside before it is removed.
    """
    old = _old(where)
    if old.exists():
        shutil.rmtree(old)
    if where.exists():
        where.rename(old)
    built.rename(where)
    if old.exists():
        shutil.rmtree(old)


def _remove_empty(directory: Path) -> None:
    """Remove a directory and those below it, as far as they contain no files."""
    if directory.is_dir() and not directory.is_symlink():
        for each in list(directory.iterdir()):
            if each.is_dir():
                _remove_empty(each)
        if not any(directory.iterdir()):
            directory.rmdir()
