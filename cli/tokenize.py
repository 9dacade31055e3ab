"""`ncodec tokenize`: many images into shards of tokens, to train on.

    images --read, upright, square--> tokens, on many processes --in the order of their names--> shards --> index.json

A shard is written whole or not at all, index.json last. The same command again does what is missing.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from ncodec.cli import batch, files
from ncodec.cli.options import (
    Device,
    Engine,
    Jobs,
    Json,
    Quiet,
    Threads,
    UsageError,
    checked,
    refuse_both,
    use_threads,
)

from ncodec.errors import InputError, NcodecError, named

if TYPE_CHECKING:
    from ncodec.image import Picture
    from ncodec.shards import Tokens, Usage

SHARD = "tokens-{:05d}.safetensors"
BITS = ("raw_bits", "digit_bits", "entropy_bits", "coded_bits")  # a token, in the index


class Way(NamedTuple):
    """How images become tokens."""

    quality: float
    model: str | None
    device: str
    crop: int | None  # pixels
    resize: int | None  # pixels


class Shard(NamedTuple):
    """What a shard holds, and what of it is there already."""

    path: Path
    images: list[tuple[str, str]]  # file, and name in the shard
    done: set[str]  # names


def tokenize_image(way: Way, source: str, data: bytes) -> tuple["Tokens", list[int]]:
    """Return the tokens of an image file, and of each stage the bytes that they take in an `.nc` file; on any machine."""
    from ncodec import image, tokens
    from ncodec.quality import quality_code

    with named(f"{source}: "):
        picture = image.plain(image.read(BytesIO(data), "image"), "tokenize")
        picture = prepared(picture, way.crop, way.resize)
        loaded, code = tokens.load_tokenizer(way.model, way.device), quality_code(way.quality)
        found = tokens.analyse(picture, code, loaded)
        parts = tokens.codec_of(loaded).write(found.grid, code, 1)
        return found, [sum(len(payload or b"") for payload in row) for row in parts]


def prepared(picture: "Picture", crop: int | None, resize: int | None) -> "Picture":
    """Return an image upright, as its EXIF has it, without metadata; square, where that is asked for.

    Args:
        picture: the image.
        crop: side of the square in its middle (pixels).
        resize: side of that square after the shorter side is scaled to it (pixels).

    Raises:
        InputError: too small to crop.
    """
    import numpy as np
    from PIL import Image, ImageOps

    from ncodec.image import Picture, to_pillow

    image = ImageOps.exif_transpose(to_pillow(picture))
    if crop:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        if min(left, top) < 0:
            raise InputError(f"expected {crop}x{crop} pixels, found {image.width}x{image.height}")
        image = image.crop((left, top, left + crop, top + crop))
    if resize:
        image = ImageOps.fit(image, (resize, resize), Image.Resampling.LANCZOS)
    return Picture(np.asarray(image))


def find_images(inputs: list[str]) -> list[tuple[str, str]]:
    """Return files, and their names in the shards; folders are searched to the bottom, linked and hidden ones aside.

    Raises:
        InputError: a folder without images, or a file that is named twice.
    """
    found = []
    for name in inputs:
        root, kinds = Path(name), files.IMAGE_SUFFIXES
        if not root.is_dir():
            found.append((name, name))
            continue
        inside, troubles = files.inside(name, kinds)
        if troubles:
            raise troubles[0]
        if not inside:
            raise InputError(f"{name}: no files in it that end in {', '.join(sorted(kinds))}")
        above = root if len(inputs) > 1 else Path()
        found += [(path, (above / Path(path).relative_to(root)).as_posix()) for path in inside]
    seen: set[str] = set()
    for _, name in found:
        if name in seen:
            raise InputError(f"{name}: is named twice")
        seen.add(name)
    return found


def plan(
    images: list[tuple[str, str]], out: Path, settings: dict[str, Any], size: int
) -> list[Shard]:
    """Return the shards of a run, `size` images each, with what an earlier run has left.

    Raises:
        InputError: shards of another run are there.
        FormatError: a shard is damaged.
    """
    from ncodec.shards import about

    shards = []
    for number, first in enumerate(range(0, len(images), size)):
        path, some = out / SHARD.format(number), images[first : first + size]
        done: set[str] = set()
        if path.exists():
            facts = about(path)
            for key, expected in settings.items():
                if facts.get(key) != expected:
                    raise _of_another(path, f"{key} {expected}", facts.get(key))
            done = {image["name"] for image in facts["images"]}
            if strange := sorted(done - {name for _, name in some}):
                raise _of_another(path, f"{some[0][1]} to {some[-1][1]}", strange[0])
        shards.append(Shard(path, some, done))
    known = {shard.path for shard in shards}
    for path in sorted(out.glob(SHARD.replace("{:05d}", "*"))):
        if path not in known:
            raise _of_another(path, f"{len(shards)} shards", "this one")
    return shards


def _of_another(path: Path, expected: str, found: Any) -> InputError:
    return InputError(
        f"{path}: of another run: expected {expected}, found {found}; -o names another folder"
    )


def finish(
    shard: Shard,
    new: dict[str, tuple["Tokens", list[int]]],
    settings: dict[str, Any],
    usage: "Usage",
) -> dict[str, Any]:
    """Write a shard, unless there is nothing new; count its tokens, return what the index says of it."""
    from ncodec.shards import coded_bytes, load, pack, save_bytes

    images = {image.name: image for image in load(shard.path)} if shard.done else {}
    coded = coded_bytes(shard.path) if shard.done else [0] * len(settings["codebooks"])
    for name, (tokens, sizes) in new.items():
        images[name] = replace(tokens, name=name)
        coded = [before + size for before, size in zip(coded, sizes, strict=True)]
    ordered = [images[name] for _, name in shard.images if name in images]
    if new:
        way = {key: settings[key] for key in ("crop", "resize")}
        save_bytes(shard.path, pack(ordered, **way, coded_bytes=coded))
    usage.add(ordered, coded)
    n_tokens = sum(image.grid.size for image in ordered)
    return {"file": shard.path.name, "images": len(ordered), "tokens": n_tokens}


def run(
    shards: list[Shard],
    settings: dict[str, Any],
    way: Way,
    jobs: int,
    engine: str,
    screen: batch.Screen,
    say: Any,
) -> tuple[dict[str, Any], list[NcodecError]]:
    """Tokenize what is missing, and return the index and the errors; `say` prints a line."""
    from ncodec.parallel import attempt
    from ncodec.shards import Usage

    usage, errors, failed = Usage(settings["codebooks"], _levels(way)), [], []
    new: list[dict[str, Any]] = [{} for _ in shards]
    left = [len(shard.images) - len(shard.done) for shard in shards]
    todo = [
        (number, source, name)
        for number, shard in enumerate(shards)
        for source, name in shard.images
        if name not in shard.done
    ]
    rows: dict[int, dict[str, Any]] = {}

    def close(number: int) -> None:
        shard = shards[number]
        if new[number] or shard.done:
            rows[number] = row = finish(shard, new[number], settings, usage)
            is_new = "" if new[number] else "exists already, "
            say(f"{shard.path}: {is_new}{row['images']} images, {row['tokens']} tokens")
        new[number] = {}

    for number, missing in enumerate(left):
        if not missing:
            close(number)
    tasks = ((source, attempt(files.read_bytes, source)) for _, source, _ in todo)
    for task, outcome in batch.spread(partial(tokenize_image, way), True, tasks, jobs, engine):
        number, _, name = todo[task]
        if isinstance(outcome, NcodecError):
            screen.print(batch.prefixed(outcome), True, "red")
            errors.append(outcome)
            failed.append(name)
        else:
            new[number][name] = outcome
        left[number] -= 1
        if not left[number]:
            close(number)
        screen.advance()
    ordered = [rows[number] for number in sorted(rows)]
    totals = {key: sum(row[key] for row in ordered) for key in ("images", "tokens")}
    index = (
        settings | totals | {"shards": ordered, "stages": usage.stages(), "failed": sorted(failed)}
    )
    return index, errors


def _table(index: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of what a run has come to; the last of all stages together, bits a place of the grid."""
    yield (
        f"{len(index['shards'])} shards, {index['images']} images, {index['tokens']} tokens;"
        f" model {index['model']}, quality {index['quality']:g}; bits a token:"
    )
    yield "stage  codebook     used  perplexity    raw  digits  entropy  coded   vs raw  vs entropy"
    for row in index["stages"]:
        left = f"{row['stage']:5}  {row['codebook']:8}  {100 * row['used']:5.1f} %  {row['perplexity']:10.1f}"
        yield left + _bits(row)
    columns = {kind: [row[kind] for row in index["stages"]] for kind in BITS}
    sums = {kind: None if None in column else sum(column) for kind, column in columns.items()}
    yield f"{'all':34}" + _bits(sums)


def _bits(row: Mapping[str, Any]) -> str:
    """Return the right half of a line: bits, and how far the coded ones are from the raw ones and from the entropy."""
    raw, digits, entropy, coded = (row[kind] for kind in BITS)
    saved = [f"{100 * coded / bits - 100:+.1f} %" if bits else "-" for bits in (raw, entropy)]
    shown = "-" if digits is None else f"{digits:.2f}"
    return f"  {raw:5.2f}  {shown:>6}  {entropy:7.2f}  {coded:5.2f}  {saved[0]:>7}  {saved[1]:>10}"


def _levels(way: Way) -> list[tuple[int, ...]]:
    """Return the levels of the digits of each stage's tokens; () of tokens without digits."""
    from ncodec import tokens
    from ncodec.shards import stages_of

    stages = tokens.codec_of(tokens.load_tokenizer(way.model, way.device)).stages
    return [stage.levels for stage in stages[: stages_of(way.quality)]]


def _settings(way: Way) -> dict[str, Any]:
    """Return what all shards of a run have in common; refuses a model that cannot be had, ahead of all work."""
    from ncodec import tokens
    from ncodec.quality import quality_code, quality_of
    from ncodec.shards import VERSION, stages_of

    loaded = tokens.load_tokenizer(way.model, way.device)
    sizes = [stage.size for stage in tokens.codec_of(loaded).stages[: stages_of(way.quality)]]
    return {
        "version": VERSION, "model": loaded.name, "weights": loaded.digest.hex(),
        "quality": quality_of(quality_code(way.quality)), "codebooks": sizes, "crop": way.crop, "resize": way.resize,
    }  # fmt: skip


def _check_quality(quality: float) -> float:
    from ncodec.quality import quality_code

    return checked(quality_code, quality)


def tokenize(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IN...", help="Images, or folders, which are searched to the bottom."
        ),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FOLDER", help="Where the shards go.")
    ],
    quality: Annotated[
        float,
        typer.Option(
            "-q",
            "--quality",
            callback=_check_quality,
            help="1 (one stage) to 8 (all), fractions allowed.",
        ),
    ] = 8,
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of a shipped tokenizer, or a weights file.",
            show_default="the first tokenizer",
        ),
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(min=1, metavar="SIDE", help="Only the square in the middle (pixels)."),
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="SIDE",
            help="That square, the shorter side scaled to SIDE (pixels) before.",
        ),
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Images a shard.")] = 1000,
    device: Device = "cpu",
    jobs: Jobs = 1,
    threads: Threads = None,
    engine: Engine = "local",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn images into shards of tokens, to train on: `ncodec.read_shards(FOLDER)` reads them.

    Prints how the codebooks are used. The same command again goes on where it was interrupted.
    """
    refuse_both(("--quiet", quiet), ("--json", as_json))
    refuse_both(("--crop", crop is not None), ("--resize", resize is not None))
    if "-" in inputs:
        raise UsageError("tokenize takes files and folders, not standard input")
    use_threads(threads, jobs)
    way = Way(quality, model, device, crop, resize)
    settings, out = _settings(way), Path(output)
    shards = plan(find_images(inputs), out, settings, shard_size)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot make the folder: {error.strerror}") from error
    _tokenize(shards, settings, way, out, jobs, engine, quiet, as_json)


def _tokenize(
    shards: list[Shard],
    settings: dict[str, Any],
    way: Way,
    out: Path,
    jobs: int,
    engine: str,
    quiet: bool,
    as_json: bool,
) -> None:
    from ncodec.shards import INDEX, save_bytes

    n_images = sum(len(shard.images) for shard in shards)
    n_todo = n_images - sum(len(shard.done) for shard in shards)
    if n_todo:
        (out / INDEX).unlink(missing_ok=True)
    has_bar = sys.stderr is not None and sys.stderr.isatty() and not quiet
    begin = time.perf_counter()
    try:
        with batch.Screen(n_todo, has_bar) as screen:
            say = (lambda text: None) if quiet or as_json else partial(screen.print, is_aside=False)
            index, errors = run(shards, settings, way, jobs, engine, screen, say)
    except KeyboardInterrupt:
        there = sum(shard.path.exists() for shard in shards)
        batch.print_aside(
            f"ncodec: interrupted; {there} of {len(shards)} shards are there, the same command goes on"
        )
        raise SystemExit(batch.INTERRUPTED) from None
    if not index["images"]:
        with suppress(OSError):  # others' files are in it
            out.rmdir()
    else:
        save_bytes(out / INDEX, (json.dumps(index, indent=1) + "\n").encode())
        if as_json:
            print(json.dumps(index))
        elif not quiet:
            print("\n".join(_table(index)), f"{time.perf_counter() - begin:.1f} s", sep="\n")
    if errors:
        raise SystemExit(max(map(batch.exit_code, errors)))
