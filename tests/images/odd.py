"""Odd images: the shared ones that cannot be read, and a way to turn one."""

from __future__ import annotations

from PIL import Image

UNREADABLE = {
    "broken.png": "header is damaged",
    "broken_data_stream.png": "damaged",
    "decompression_bomb.gif": "pixels",
    "made_bomb_30000x30000.png": "900,000,000 pixels",
    "made_cut_at_60_percent.jpg": "cut short",
    "made_text_named.jpg": "not a picture",
    "made_zero_bytes.jpg": "empty",
    "truncated_image.png": "cut short",
    "truncated_jpeg.jpg": "cut short",
}


def orientation_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()
