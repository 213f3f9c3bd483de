"""Small archives in 3CAD's layout. Extraction never decodes an image, so their content is noise."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from pathlib import Path

CATEGORIES = ("Aluminum_Camera_Cover", "Copper_Stator")


def tree_files(per_folder: int = 4, size: int = 2000, seed: int = 0) -> dict[str, bytes]:
    """Return the files of a small tree by path below the root."""
    noise = random.Random(seed)
    files = {}
    for category in CATEGORIES:
        folders = ["train/good", "test/good", "test/dent", "ground_truth/dent"]
        for folder in folders:
            for number in range(per_folder):
                content = noise.randbytes(noise.randrange(size // 2, size))
                files[f"{category}/{folder}/{number:06d}.png"] = content
    return files


def zip_bytes(files: dict[str, bytes], prefix: str = "3CAD/", **options: int) -> bytes:
    """Return a zip that holds ``files`` below ``prefix``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content)
    return buffer.getvalue()


def read_tree(root: Path) -> dict[str, bytes]:
    """Return every file below ``root`` but our own, by path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".threecad" not in path.relative_to(root).parts
    }


def tar_of(*members: tuple[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
