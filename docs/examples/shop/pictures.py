"""
Pictures of what the shop sells, and two that no thumbnail can be made of

They are uploaded as any program would, by copying them into the directory that the shop watches.
"""

import shutil
import struct
import time
import zlib
from pathlib import Path

from app import PRICES
from PIL import Image, ImageDraw

BROKEN = ("broken", "bomb")
BOMB_SIDE = 13_000


def draw(folder: Path) -> None:
    folder.mkdir()
    for name in PRICES:
        picture = Image.new("RGB", (1600, 1200), "wheat")
        pen = ImageDraw.Draw(picture)
        pen.ellipse((300, 100, 1300, 1100), fill=name.split()[0], outline="black", width=9)
        pen.text((700, 580), name, fill="orange")
        picture.save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes((folder / "red cup.png").read_bytes()[:4000])
    (folder / "bomb.png").write_bytes(bomb())


def bomb() -> bytes:
    """Make a PNG of 2 MB that takes 676 MB when it is read."""
    squeeze = zlib.compressobj(1)
    row = bytes(1 + 3 * BOMB_SIDE)
    rows = b"".join(squeeze.compress(row) for _ in range(BOMB_SIDE)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 8, 2, 0, 0, 0)
    chunks = (b"IHDR" + header, b"IDAT" + rows, b"IEND")
    packed = (struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def upload(folder: Path, to: Path, seconds: float) -> None:
    """Copy them one after the other."""
    files = sorted(folder.iterdir())
    for file in files:
        shutil.copy(file, to)
        time.sleep(seconds / len(files))
