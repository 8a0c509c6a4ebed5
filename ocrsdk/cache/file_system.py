"""The file system below a cache: whether it suits, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path

from ocrsdk.errors import CacheEnvironmentError, CacheError

_NETWORK = re.compile(r"nfs\d*|cifs|smb\w*|smbfs|lustre|gpfs|beegfs|ceph|afs|fuse\.(sshfs|s3fs|gcsfuse|rclone|glusterfs)")


def check_root(root: Path) -> None:
    """Refuse folders in which a cache can never be kept safely; creates nothing.

    Raises:
        CacheError: A file is in the way, anyone may write there, or it lies on a network file system.
    """
    if str(root) in ("", "."):
        raise CacheError("cache.dir is empty; name a folder, for instance cache.dir=~/.cache/ocrsdk")
    existing = next(path for path in (root, *root.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise CacheError(f"{existing}: is a file, not a folder; choose another cache.dir")
    if existing == root and root.stat().st_mode & stat.S_IWOTH:
        raise CacheError(f"{root}: anyone may write there, and so change what training reads. Try: chmod o-w {root}")
    kind = file_system(existing)
    if _NETWORK.fullmatch(kind):
        raise CacheError(
            f"{root}: lies on a network file system ({kind}), whose locks cannot be relied on; "
            "choose a local cache.dir, or a backend that is a server"
        )


def file_system(path: Path) -> str:
    """The type of the file system that holds ``path``, e.g. ``ext4``; an empty string where it cannot be told."""
    best, kind = "", ""
    with contextlib.suppress(OSError):
        real = os.path.realpath(path)
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _, mount, found, *_ = line.split(" ")
            mount = mount.replace("\\040", " ")
            if (real == mount or real.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
                best, kind = mount, found
    return kind


def environment_error(error: OSError, path: Path | str) -> CacheEnvironmentError:
    """``error`` with the file, and what to do about it."""
    advice = {
        errno.ENOSPC: "the disk is full, or out of inodes; free space, or: ocrsdk cache prune",
        errno.EDQUOT: "the disk quota is used up; free space, or: ocrsdk cache prune",
        errno.EMFILE: "too many open files; raise the limit (ulimit -n) or use fewer workers",
        errno.EACCES: "permission denied; check its owner and mode",
        errno.EROFS: "the file system is read-only",
    }.get(error.errno or 0, error.strerror or str(error))
    if error.errno == errno.ENOSPC:
        with contextlib.suppress(OSError):
            where = next(p for p in Path(path).absolute().parents if p.exists())
            if (status := os.statvfs(where)).f_files and not status.f_favail:
                advice = "no inodes are left on this file system (there is space): remove small files, or: ocrsdk cache prune"
    return CacheEnvironmentError(f"{path}: {advice}")
