"""Stands in until branch `metadata` is here."""

from typing import Any

from PIL import Image

EXIF_PREFIX = b"Exif\0\0"
LAYOUT_TAGS = {*range(254, 267), 273, *range(277, 282), 284, *range(290, 294), *range(317, 348)}
LAYOUT_TAGS |= {*range(512, 533), 700, 34377, 34675}


def without_layout(exif: Image.Exif) -> Image.Exif:
    for tag in LAYOUT_TAGS & set(exif):
        del exif[tag]
    return exif


def of_image(image: Image.Image, raw: bytes) -> tuple[dict[str, bytes], list[str]]:
    metadata = {"icc": image.info.get("icc_profile"), "exif": image.info.get("exif"), "xmp": image.info.get("xmp")}
    if not metadata["exif"] and len(exif := without_layout(image.getexif())):
        metadata["exif"] = exif.tobytes()  # a TIFF's own tags
    if metadata["exif"] and not metadata["exif"].startswith(EXIF_PREFIX):
        metadata["exif"] = EXIF_PREFIX + metadata["exif"]  # WebP has none, JPEG needs it
    return {key: value for key, value in metadata.items() if isinstance(value, bytes) and value}, []


def turned(picture: Any) -> Any:
    return picture


def options_for(picture: Any, form: str) -> dict[str, Any]:
    names = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}
    options: dict[str, Any] = {names[k]: v for k, v in picture.metadata.items() if k in names}
    if form == "PNG" and "xmp" in options:
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode("utf-8", "replace"))
        options["pnginfo"] = text
    if form == "TIFF" and ("exif" in options or "xmp" in options):
        tags = Image.Exif()
        tags.load(options.get("exif", b""))
        options["exif"] = without_layout(tags)
        if "xmp" in options:
            tags[700] = options.pop("xmp")
    return options
