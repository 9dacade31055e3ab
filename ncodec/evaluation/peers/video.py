"""Still pictures by video encoders: HEVC and AV1 through PyAV, VVC through the programs vvencapp and VTM.

    RGB 8 bits -> BT.709 Y'CbCr, full range, 10 bits, 4:4:4 or 4:2:0 -> one intra frame -> bytes of the stream
    RGB 8 bits <- clamp, round  <-  float conversion                 <- decoded planes  <-

The conversion is done in float on both sides, so that what is measured is the codec and not an 8-bit
colour conversion. Every encoder runs on one thread, which fixes its output too.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ncodec.errors import InputError
from ncodec.evaluation.peers.common import Pixels, check_option

Planes = list[NDArray[np.uint16]]  # Y', Cb, Cr; 10 bits

PEAK = 1023  # of 10 bits
SUBSAMPLINGS = ("4:4:4", "4:2:0")
# ITU-R BT.709: weights of R and B in Y'.
K_R, K_B = 0.2126, 0.0722
TO_YCBCR = np.array(
    [
        [K_R, 1 - K_R - K_B, K_B],
        np.array([-K_R, K_R + K_B - 1, 1 - K_B]) / (2 * (1 - K_B)),
        np.array([1 - K_R, K_R + K_B - 1, -K_B]) / (2 * (1 - K_R)),
    ]
)
TO_RGB = np.linalg.inv(TO_YCBCR)


def _resize(plane: NDArray[np.float32], width: int, height: int, how: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(plane).resize((width, height), how))


def to_planes(pixels: Pixels, subsampling: str) -> Planes:
    """Return 10-bit Y'CbCr planes; for 4:2:0 sides are first made even by repeating the last line.

    Chroma is halved by 2x2 means (its samples lie in the middle of four pixels).
    """
    if subsampling == "4:2:0":
        height, width = pixels.shape[:2]
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    ycbcr = (pixels / 255.0) @ TO_YCBCR.T + [0, 0.5, 0.5]
    planes: list[NDArray[np.float32]] = [ycbcr[..., i].astype(np.float32) for i in range(3)]
    if subsampling == "4:2:0":
        height, width = pixels.shape[:2]
        planes[1:] = [_resize(p, width // 2, height // 2, Image.Resampling.BOX) for p in planes[1:]]
    return [np.clip(np.rint(p * PEAK), 0, PEAK).astype(np.uint16) for p in planes]


def to_pixels(planes: Planes, shape: tuple[int, int]) -> Pixels:
    """Return RGB [H, W, 3] from 10-bit planes, cut to `shape` (H, W); chroma grows by bicubic interpolation."""
    height, width = planes[0].shape
    full = [(p / PEAK).astype(np.float32) for p in planes]
    full[1:] = [
        p if p.shape == full[0].shape else _resize(p, width, height, Image.Resampling.BICUBIC)
        for p in full[1:]
    ]
    rgb = (np.stack(full, -1).astype(np.float64) - [0, 0.5, 0.5]) @ TO_RGB.T
    return np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)[: shape[0], : shape[1]]


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError("codecs hevc and svtav1 need PyAV: pip install 'ncodec[eval]'") from error
    return av


def _av_versions(library: str) -> dict[str, str]:
    av = _av()
    if library not in av.codecs_available:
        raise InputError(f"this build of PyAV has no {library}")
    return {
        "av": av.__version__,
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
    }


def _encode_frame(library: str, planes: Planes, subsampling: str, options: dict[str, str]) -> bytes:
    """Return the stream of one frame, as `library` writes it, without any container."""
    av = _av()
    height, width = planes[0].shape
    form = f"yuv{subsampling.replace(':', '')}p10le"
    context = av.CodecContext.create(library, "w")
    context.width, context.height, context.pix_fmt = width, height, form
    context.time_base, context.framerate = Fraction(1), 1
    context.color_range, context.colorspace = 2, 1  # full range, BT.709
    context.options, context.thread_count = options, 1
    frame = av.VideoFrame(width, height, form)
    frame.pts = 0
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
        rows[:, : plane.width] = values
        plane.update(rows.tobytes())
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def _decode_frame(library: str, data: bytes) -> Planes:
    context = _av().CodecContext.create(library, "r")
    context.thread_count = 1
    frames = [*context.decode(_av().Packet(data)), *context.decode(None)]
    if len(frames) != 1:
        raise InputError(f"{library}: expected one frame, found {len(frames)}")
    return [
        np.frombuffer(plane, "<u2").reshape(plane.height, plane.line_size // 2)[:, : plane.width]
        for plane in frames[0].planes
    ]


@dataclass(frozen=True)
class Hevc:
    """HEVC by x265: one intra picture at constant QP, tuned for PSNR."""

    preset: str = "veryslow"
    subsampling: str = "4:4:4"

    WORST: ClassVar[float] = 51
    BEST: ClassVar[float] = 0
    STEP: ClassVar[float] = 1
    QUALITIES: ClassVar[tuple[float, ...]] = (44, 41, 38, 35, 32, 29, 26, 23, 20)
    LOW: ClassVar[tuple[float, ...]] = (51, 49, 47, 44, 41, 38)

    def __post_init__(self) -> None:
        check_option("hevc", "subsampling", self.subsampling, SUBSAMPLINGS)

    def versions(self) -> dict[str, str]:
        return _av_versions("libx265")

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        parameters = f"qp={quality:g}:keyint=1:pools=none:frame-threads=1:info=0:log-level=error"
        options = {"preset": self.preset, "tune": "psnr", "x265-params": parameters}
        return _encode_frame(
            "libx265", to_planes(pixels, self.subsampling), self.subsampling, options
        )

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        return to_pixels(_decode_frame("hevc", data), shape)


@dataclass(frozen=True)
class SvtAv1:
    """AV1 by SVT-AV1: one still picture at constant quantiser index, tuned for PSNR; it knows 4:2:0 only."""

    preset: int = 4

    WORST: ClassVar[float] = 63
    BEST: ClassVar[float] = 1
    STEP: ClassVar[float] = 1
    QUALITIES: ClassVar[tuple[float, ...]] = (58, 52, 47, 42, 37, 32, 26, 20, 14)
    LOW: ClassVar[tuple[float, ...]] = (63, 61, 58, 55, 52, 47)

    def __post_init__(self) -> None:
        check_option("svtav1", "preset", self.preset, range(14))

    def versions(self) -> dict[str, str]:
        return _av_versions("libsvtav1")

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        os.environ.setdefault("SVT_LOG", "1")  # errors only
        parameters = "avif=1:lp=1:tune=1:rc=0:aq-mode=0"
        options = {
            "preset": str(self.preset), "qp": f"{quality:g}", "svtav1-params": parameters,
        }  # fmt: skip
        return _encode_frame("libsvtav1", to_planes(pixels, "4:2:0"), "4:2:0", options)

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        return to_pixels(_decode_frame("libdav1d", data), shape)


# ---------------------------------------------------------------- programs


def find_program(name: str, codec: str, option: str) -> str:
    """Return the path of a program.

    Raises:
        InputError: it is neither on the PATH nor a file that can be run.
    """
    found = shutil.which(name)
    if found is None:
        raise InputError(
            f"codec {codec}: program {name!r} is not on the PATH; name it with {codec}:{option}=FILE"
        )
    return found


def run_program(arguments: list[str], peaks: list[int], good: tuple[int, ...] = (0,)) -> str:
    """Run a program and return what it printed; its peak memory (bytes) is appended to `peaks`.

    Raises:
        InputError: its exit code is not a `good` one; the message ends with its last line.
    """
    with tempfile.TemporaryFile() as printed:
        try:
            program = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise InputError(f"{arguments[0]}: cannot run: {error.strerror}") from error
        _, status, usage = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read().decode(errors="replace").strip()
    peaks.append(usage.ru_maxrss * 1024)
    if program.returncode not in good:
        last = text.splitlines()[-1] if text else "it printed nothing"
        raise InputError(f"{Path(arguments[0]).name} ended with code {program.returncode}: {last}")
    return text


def _write_planes(planes: Planes, path: Path) -> None:
    path.write_bytes(b"".join(p.astype("<u2").tobytes() for p in planes))


def _read_planes(path: Path, shape: tuple[int, int], subsampling: str) -> Planes:
    """Return the planes in a raw 10-bit file of one frame with luma `shape`."""
    half = 2 if subsampling == "4:2:0" else 1
    shapes = [shape, *[(shape[0] // half, shape[1] // half)] * 2]
    values = np.fromfile(path, "<u2")
    if len(values) != sum(h * w for h, w in shapes):
        raise InputError(
            f"decoder: expected {sum(h * w for h, w in shapes)} samples, found {len(values)}"
        )
    cuts = np.cumsum([h * w for h, w in shapes])[:-1]
    return [part.reshape(s) for part, s in zip(np.split(values, cuts), shapes, strict=True)]


def _decode_by_program(
    command: list[str], data: bytes, shape: tuple[int, int], subsampling: str, peaks: list[int]
) -> Pixels:
    """Return what a VVC decoder, whose options end in `-b STREAM -o PLANES`, makes of a stream."""
    with tempfile.TemporaryDirectory() as folder:
        coded, raw = Path(folder) / "in.266", Path(folder) / "out.yuv"
        coded.write_bytes(data)
        run_program([*command, "-b", str(coded), "-o", str(raw)], peaks)
        height, width = shape
        if subsampling == "4:2:0":  # coded with even sides
            height, width = height + height % 2, width + width % 2
        return to_pixels(_read_planes(raw, (height, width), subsampling), shape)


@dataclass(frozen=True)
class Vvenc:
    """VVC by Fraunhofer's vvencapp and vvdecapp: all-intra, constant QP, no perceptual adaptation; 4:2:0 only."""

    preset: str = "medium"
    encoder: str = "vvencapp"
    decoder: str = "vvdecapp"
    child_peaks: list[int] = field(default_factory=list, init=False, compare=False, repr=False)

    WORST: ClassVar[float] = 63
    BEST: ClassVar[float] = 0
    STEP: ClassVar[float] = 1
    QUALITIES: ClassVar[tuple[float, ...]] = (47, 42, 37, 32, 27, 22, 17)
    LOW: ClassVar[tuple[float, ...]] = (60, 56, 52, 47, 42, 37)

    def versions(self) -> dict[str, str]:
        find_program(self.decoder, "vvenc", "decoder")
        text = run_program([find_program(self.encoder, "vvenc", "encoder"), "--version"], [])
        found = re.search(r"version \S+", text)
        return {"vvenc": found[0] if found else "unknown"}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        planes = to_planes(pixels, "4:2:0")
        with tempfile.TemporaryDirectory() as folder:
            raw, coded = Path(folder) / "in.yuv", Path(folder) / "out.266"
            _write_planes(planes, raw)
            height, width = planes[0].shape
            run_program(
                [
                    find_program(self.encoder, "vvenc", "encoder"),
                    *("--input", str(raw), "--output", str(coded), "--size", f"{width}x{height}"),
                    *("--format", "yuv420_10", "--framerate", "1", "--frames", "1"),
                    *("--intraperiod", "1", "--preset", self.preset, "--qp", f"{quality:g}"),
                    *("--qpa", "0", "--threads", "1", "--verbosity", "1"),
                ],
                self.child_peaks,
            )
            return coded.read_bytes()

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        command = [find_program(self.decoder, "vvenc", "decoder"), "-t", "1", "-v", "1"]
        return _decode_by_program(command, data, shape, "4:2:0", self.child_peaks)


@dataclass(frozen=True)
class Vtm:
    """VVC by VTM, the reference software: `encoder_intra_vtm.cfg`, 10 bits, constant QP."""

    subsampling: str = "4:4:4"
    encoder: str = "EncoderAppStatic"
    decoder: str = "DecoderAppStatic"
    config: str = (
        ""  # encoder_intra_vtm.cfg; default: cfg/ of the source tree that holds the encoder
    )
    child_peaks: list[int] = field(default_factory=list, init=False, compare=False, repr=False)

    WORST: ClassVar[float] = 63
    BEST: ClassVar[float] = 0
    STEP: ClassVar[float] = 1
    QUALITIES: ClassVar[tuple[float, ...]] = (42, 37, 32, 27, 22)
    LOW: ClassVar[tuple[float, ...]] = (60, 55, 50, 46, 42, 37)

    def __post_init__(self) -> None:
        check_option("vtm", "subsampling", self.subsampling, SUBSAMPLINGS)

    def _config(self) -> str:
        if self.config:
            candidates = [Path(self.config)]
        else:
            encoder = Path(find_program(self.encoder, "vtm", "encoder")).resolve()
            candidates = [folder / "cfg" / "encoder_intra_vtm.cfg" for folder in encoder.parents]
        for candidate in candidates:
            if candidate.is_file():
                return str(candidate)
        raise InputError(
            f"codec vtm: {self.config or 'encoder_intra_vtm.cfg'} not found; name it with vtm:config=FILE"
        )

    def versions(self) -> dict[str, str]:
        self._config()
        find_program(self.decoder, "vtm", "decoder")
        encoder = find_program(self.encoder, "vtm", "encoder")
        text = run_program([encoder, "--help"], [], good=(0, 1))  # VTM's help ends with 1
        found = re.search(r"Encoder Version (\S+)", text)
        return {"vtm": found[1] if found else "unknown"}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        planes = to_planes(pixels, self.subsampling)
        chroma = self.subsampling.replace(":", "")
        with tempfile.TemporaryDirectory() as folder:
            raw, coded = Path(folder) / "in.yuv", Path(folder) / "out.266"
            _write_planes(planes, raw)
            height, width = planes[0].shape
            run_program(
                [
                    *(find_program(self.encoder, "vtm", "encoder"), "-c", self._config()),
                    *("-i", str(raw), "-b", str(coded), "-q", f"{quality:g}"),
                    *(f"--SourceWidth={width}", f"--SourceHeight={height}"),
                    *("--InputBitDepth=10", "--InternalBitDepth=10", "--OutputBitDepth=10"),
                    *(f"--InputChromaFormat={chroma}", f"--ChromaFormatIDC={chroma}"),
                    *("--FrameRate=1", "--FramesToBeEncoded=1", "--ConformanceWindowMode=1"),
                    *("--SEIDecodedPictureHash=0", "--Verbosity=1"),
                ],
                self.child_peaks,
            )
            return coded.read_bytes()

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        command = [find_program(self.decoder, "vtm", "decoder"), "-d", "10"]
        return _decode_by_program(command, data, shape, self.subsampling, self.child_peaks)
