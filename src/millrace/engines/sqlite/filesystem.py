"""Which file system a folder is on. SQLite's locks and shared memory need a local one (source: sqlite.org/wal.html).

Neighbours: `database` refuses network file systems by name; `doctor` reports what was found.
"""

from __future__ import annotations

from pathlib import Path

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs", "fuse.glusterfs"})


def file_system_of(folder: Path, *, mounts: str | None = None) -> str:
    """Return the type of the file system that holds `folder`, or an empty text where the system does not tell.

    Args:
        folder: an existing folder.
        mounts: the text of the mount table; default: the system's own.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8")
        except OSError:
            return ""
    place, best, found = str(folder.resolve()), "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = point in {"/", place} or place.startswith(point + "/")
        if inside and len(point) >= len(best):
            best, found = point, fields[2]
    return found


def network_file_system(folder: Path) -> str | None:
    """Return the name of the network file system that holds `folder`, or None for a local one."""
    found = file_system_of(folder)
    return found if found in NETWORK else None
