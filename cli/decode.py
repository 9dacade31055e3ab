"""`ncodec decode`: images, or the JPEG files that were made smaller, from .nc files."""

import time
from functools import partial
from io import BytesIO
from typing import Annotated, Any, NamedTuple

import typer
from ncodec.cli import batch, files
from ncodec.cli.batch import Progress, Report, no_progress
from ncodec.cli.options import (
    Background,
    Device,
    Engine,
    Force,
    Jobs,
    Json,
    ModelOption,
    Output,
    Quiet,
    SkipExisting,
    Threads,
    parse_region,
    parse_scale,
    refuse_both,
    use_threads,
)

from ncodec.errors import FormatError, named


class Way(NamedTuple):
    """How files are decoded."""

    suffix: str  # of the format; "": what the file holds, or PNG
    model: str | None
    device: str
    stages: int | None  # at most; None: all
    conceal: bool
    region: tuple[int, int, int, int] | None = None  # x, y, width, height (pixels)
    scale: float = 1
    quality: int | None = None  # of the format
    background: tuple[int, int, int] | None = None

    @property
    def is_of_files(self) -> bool:
        """Whether nothing is asked for that pixels must be decoded for."""
        asked = (self.stages, self.region, self.quality, self.background)
        return self.suffix in ("", *files.JPEG_SUFFIXES) and self.scale == 1 and not any(asked)


def decode_file(
    way: Way, source: str, data: bytes, progress: Progress = no_progress
) -> tuple[bytes, Report]:
    """Return the image file in an .nc file and the report; on any machine."""
    from ncodec import codec, container, image

    name = files.shown(source)
    begin = time.perf_counter()
    damage, text, notices = {}, "", []
    with named(f"{name}: "):
        if way.is_of_files and _holds_jpeg(data):
            restored = codec.decode_jpeg(data)
            seconds = time.perf_counter() - begin
            header = container.read(data).header
            width, height = header.width, header.height
        else:
            picture = codec.decode_picture(
                data, way.model, way.device, stages=way.stages, conceal=way.conceal, region=way.region,
                scale=way.scale, progress=progress,
            )  # fmt: skip
            seconds = time.perf_counter() - begin
            height, width = picture.pixels.shape[:2]
            stream = BytesIO()
            said = image.write(picture, stream, way.suffix or ".png", way.quality, way.background)
            restored, notices = stream.getvalue(), [*picture.notices, *said]
            if way.conceal:
                damage = {"lost": picture.lost, "skipped_bytes": picture.skipped_bytes}
            if picture.lost or picture.skipped_bytes:
                text = f"; damaged: {picture.lost} lost and concealed, {picture.skipped_bytes} bytes skipped"
    facts = {
        "input": source,
        "width": width,
        "height": height,
        "decode_s": seconds,
        "notices": notices,
    }
    return restored, Report(facts | damage, f"{width}x{height}, {seconds:.2f} s{text}")


def _holds_jpeg(data: bytes) -> bool:
    """Return whether an .nc file holds a JPEG file, by its header."""
    from ncodec import container
    from ncodec.families import family_by_id

    header = container.peek_header(data)
    try:
        return header is not None and family_by_id(header.family).holds == "file"
    except FormatError:  # said when it is decoded
        return False


def _start_of(name: str) -> bytes:
    """Return as much of a file as a header may have; nothing where it cannot be read."""
    from ncodec import container

    try:
        with open(name, "rb") as file:
            return file.read(container.MAX_HEADER)
    except OSError:  # said again, and for good, when it is decoded
        return b""


def _suffix_of_decoded(name: str) -> str:
    """Return what a whole .nc file decodes to unless it is told otherwise."""
    return ".jpg" if _holds_jpeg(_start_of(name)) else ".png"


def _is_image(name: str) -> bool:
    """Return whether a name is an image's, and no .nc file lies there."""
    from ncodec import container

    is_one = files.suffix_of(name) in files.IMAGE_SUFFIXES
    return is_one and container.peek_header(_start_of(name)) is None


def decode(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IN...",
            help=".nc files, folders (all .nc files below them), or `-` for standard input.",
        ),
    ],
    output: Output = None,
    model: ModelOption = None,
    crop: Annotated[
        Any,
        typer.Option(
            parser=parse_region,
            metavar="X,Y,W,H",
            help="Only this part of the picture (pixels): of a large one only the tiles that it takes.",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            parser=parse_scale, metavar="SCALE", help="Smaller: 1/2, 1/4, 1/8 or 1/16 of the sides."
        ),
    ] = None,
    output_quality: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Of .jpg, .webp and other formats that lose something, as Pillow has it.",
            show_default="nearly lossless",
        ),
    ] = None,
    background: Background = None,
    stages: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Decode so many of a file's layers, at most: coarser. Of families that have layers.",
            show_default="all",
        ),
    ] = None,
    conceal: Annotated[
        bool,
        typer.Option("--conceal", help="Decode what is left of files that are damaged or cut."),
    ] = False,
    device: Device = "cpu",
    jobs: Jobs = 1,
    threads: Threads = None,
    engine: Engine = "local",
    force: Force = False,
    skip_existing: SkipExisting = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Restore images from .nc files; the suffix of -o chooses the format, PNG by default.

    Of a JPEG file that was made smaller it restores the file itself, unless -o names another format.
    `decode IN OUT.png` is `decode IN -o OUT.png` where OUT.png is not there yet.
    """
    refuse_both(("--force", force), ("--skip-existing", skip_existing))
    refuse_both(("--quiet", quiet), ("--json", as_json))
    inputs, output = files.split_output("decode", inputs, output, _is_image)
    use_threads(threads, jobs)
    if model is not None:
        from ncodec.models.load import load_by_name

        load_by_name(model, device)  # refused ahead of all work
    way = Way(
        "", model, device, stages, conceal, crop, 1 if scale is None else scale, output_quality, background
    )  # fmt: skip
    derive = _suffix_of_decoded if way.is_of_files else lambda _: ".png"
    items = files.plan(inputs, output, [".nc"], derive, force, skip_existing)
    if items[0].target == output:
        way = way._replace(suffix=files.suffix_of(output))
    work = partial(decode_file, way)
    batch.run(items, work, jobs, engine, quiet, as_json)
