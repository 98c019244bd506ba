"""Reproducible archives: the same contents give the same bytes, whenever and wherever."""

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

Contents = Mapping[str, tuple[bytes, int]]
"""The files of an archive, by name: their contents and modes."""


def write(path: Path, contents: Contents, time: int) -> None:
    """Write a `.tar.gz` of files that belong to root and have the modification time `time`.

    `time` is in Unix seconds.
    """
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=time) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        for name, (data, mode) in sorted(contents.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), mode, time
            archive.addfile(member, io.BytesIO(data))


def read(path: Path) -> Contents:
    """Return the regular files of an archive; the mode of each is 0o755 or 0o644."""
    contents = {}
    with tarfile.open(path) as archive:
        for member in archive:
            data = archive.extractfile(member) if member.isfile() else None
            if data is not None:
                contents[member.name] = (data.read(), 0o755 if member.mode & 0o100 else 0o644)
    return contents
