"""Archives that are the same whenever, wherever and by whomever they are made."""

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

Contents = Mapping[str, tuple[bytes, int]]
"""The files of an archive, by name: their contents and modes."""


def write(path: Path, contents: Contents, time: int) -> None:
    """Write a compressed archive, whose files all have one time and no owner but root."""
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
    """Return the files of an archive."""
    contents = {}
    with tarfile.open(path) as archive:
        for member in archive:
            data = archive.extractfile(member) if member.isfile() else None
            if data is not None:
                contents[member.name] = (data.read(), 0o755 if member.mode & 0o100 else 0o644)
    return contents
