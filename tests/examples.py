"""A page in each annotation format that is read, made when a test wants it: labels are the very bytes, truth stands beside.

What trips readers is in them: a byte order mark, CRLF, commas and quotes in texts, ``###``, ``*``, names that are not ASCII, a page
without text, a photo that its EXIF turns.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

Truth = list[tuple[list[list[int]], str]]

RECEIPT: Truth = [
    ([[16, 14], [210, 14], [210, 38], [16, 38]], "GRAND TOTAL 2,718.28"),
    ([[16, 50], [290, 50], [290, 74], [16, 74]], "UNIT 7, HARBOUR ROAD 9,"),
    ([[16, 90], [120, 90], [120, 112], [16, 112]], "###"),
    ([[16, 128], [140, 128], [140, 150], [16, 150]], '"FRESH"'),
    ([[250, 128], [266, 128], [266, 148], [250, 148]], "*"),
]
SIGN: Truth = [
    ([[70, 40], [190, 64], [184, 94], [64, 70]], "OPEN"),
    ([[200, 150], [330, 150], [330, 178], [200, 178]], "영업 중"),
]
PHOTO: Truth = [([[22, 30], [150, 30], [150, 58], [22, 58]], "UPRIGHT"), ([[22, 190], [120, 190], [120, 216], [22, 216]], "###")]
ARC: Truth = [
    (
        [[30, 140], [90, 92], [150, 76], [210, 92], [270, 140], [246, 156], [198, 118], [150, 104], [102, 118], [54, 156]],
        "ALONG AN ARC",
    ),
    ([[110, 160], [190, 160], [190, 186], [110, 186]], "1871"),
    ([[20, 190], [80, 190], [80, 210], [20, 210]], "###"),
]
PAGES: dict[str, tuple[tuple[int, int], Truth]] = {
    # upright width and height, what is on it
    "receipt_01.jpg": ((320, 200), RECEIPT),
    "영수증 02.png": ((360, 240), SIGN),
    "exif6.jpg": ((180, 280), PHOTO),
    "curved_04.jpg": ((300, 230), ARC),
    "blank_05.jpg": ((200, 120), []),
}
QUADS = {
    "gt_receipt_01.txt": "\ufeff16,14,210,14,210,38,16,38,GRAND TOTAL 2,718.28\r\n"
    "16,50,290,50,290,74,16,74,UNIT 7, HARBOUR ROAD 9,\r\n"
    "16,90,120,90,120,112,16,112,###\r\n"
    '16,128,140,128,140,150,16,150,"FRESH"\r\n'
    "250,128,266,128,266,148,250,148,*\r\n",
    "gt_영수증 02.txt": "70,40,190,64,184,94,64,70,OPEN\n\n200,150,330,150,330,178,200,178,영업 중",
    "gt_exif6.txt": "22,30,150,30,150,58,22,58,UPRIGHT\n22,190,120,190,120,216,22,216,###\n",
    "gt_blank_05.txt": "",
}
POLYGONS = {
    "curved_04.jpg.txt": "\ufeff30,140,90,92,150,76,210,92,270,140,246,156,198,118,150,104,102,118,54,156,ALONG AN ARC\r\n"
    "110,160,190,160,190,186,110,186,1871\r\n20,190,80,190,80,210,20,210,###\r\n",
    "blank_05.jpg.txt": "\r\n",
}


def write_examples(folder: Path) -> Path:
    """``images/``, a folder for each format, and ``canonical.json`` with the truth."""
    canonical: dict[str, Any] = {}
    (folder / "images").mkdir(parents=True)
    for name, (size, truth) in PAGES.items():
        image = Image.new("RGB", size, (236, 233, 226))
        draw = ImageDraw.Draw(image)
        for polygon, _ in truth:
            draw.polygon([tuple(point) for point in polygon], fill=(48, 44, 40))
        more: dict[str, Any] = {}
        if name == "exif6.jpg":  # stored lying on its side; a viewer turns it
            image = image.transpose(Image.Transpose.ROTATE_90)
            more["exif"] = Image.Exif()
            more["exif"][0x0112] = 6
        image.save(folder / "images" / name, **more)
        instances = [{"polygon": polygon, "text": text, "ignore": text == "###"} for polygon, text in truth]
        canonical[name] = {"width": size[0], "height": size[1], "instances": instances}
    for kind, files in (("icdar15", QUADS), ("icdar_poly", POLYGONS)):
        (folder / kind).mkdir()
        for name, content in files.items():
            (folder / kind / name).write_bytes(content.encode())
    (folder / "canonical.json").write_text(json.dumps(canonical), encoding="utf-8")
    return folder
