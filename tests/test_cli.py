"""The installed command, run as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLE
from PIL import Image

NCODEC = str(Path(sys.executable).parent / "ncodec")


def ncodec(*arguments, data=None, code=0):
    done = subprocess.run(
        [NCODEC, *map(str, arguments)], input=data, capture_output=True, timeout=300
    )
    assert done.returncode == code, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
    return done


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    picture = Image.open(SAMPLE)
    for i, box in enumerate([(0, 0, 96, 64), (200, 100, 301, 165)]):
        picture.crop(box).save(folder / f"crop{i}.png")
    return folder


def test_encode_decode_info(crops, tmp_path):
    done = ncodec("encode", crops / "crop0.png", "-q", "5.5", "-o", tmp_path / "a.nc")
    size = (tmp_path / "a.nc").stat().st_size
    assert f"{size} bytes" in done.stdout.decode() and "dB" in done.stdout.decode()
    about = json.loads(ncodec("info", tmp_path / "a.nc", "--json").stdout)
    assert (about["width"], about["height"], about["quality"], about["size_bytes"]) == (
        96,
        64,
        5.5,
        size,
    )
    ncodec("decode", tmp_path / "a.nc", "-o", tmp_path / "a.png")
    difference = pixels(tmp_path / "a.png").astype(int) - pixels(crops / "crop0.png")
    assert np.abs(difference).mean() < 6
    assert "hyperprior-s" in ncodec("models").stdout.decode()


def test_many_files_into_a_folder(crops, tmp_path):
    out = tmp_path / "out"
    done = ncodec("encode", crops / "crop0.png", crops / "crop1.png", "-o", f"{out}/", "--json")
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["size_bytes"] for r in reports] == [
        (out / f"crop{i}.nc").stat().st_size for i in (0, 1)
    ]
    assert all(r["psnr"] > 25 and r["encode_s"] > 0 for r in reports)
    ncodec("decode", out / "crop0.nc", out / "crop1.nc", "-o", out)
    assert pixels(out / "crop1.png").shape == (65, 101, 3)
    before = (out / "crop0.nc").read_bytes()
    done = ncodec("encode", crops / "crop0.png", "-q", "8", "-o", out, code=6)  # derived name
    assert b"exists already" in done.stderr and (out / "crop0.nc").read_bytes() == before
    ncodec("encode", crops / "crop0.png", "-q", "8", "-o", out, "--force")
    assert (out / "crop0.nc").read_bytes() != before
    ncodec("encode", crops / "crop0.png", "-q", "1", "-o", out / "crop0.nc")  # named: overwritten
    assert (out / "crop0.nc").stat().st_size < len(before)


def test_one_bad_file_among_many(crops, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nonsense")
    done = ncodec("encode", bad, crops / "crop1.png", "-o", f"{tmp_path}/out/", code=6)
    assert b"bad.png" in done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["crop1.nc"]


def test_standard_streams(crops, tmp_path):
    data = ncodec("encode", "-", "-o", "-", data=(crops / "crop1.png").read_bytes()).stdout
    assert data.startswith(b"\x89NC1")
    png = ncodec("decode", "-", "-o", "-", data=data).stdout
    (tmp_path / "x.png").write_bytes(png)
    assert pixels(tmp_path / "x.png").shape == (65, 101, 3)
    assert json.loads(ncodec("info", "-", "--json", data=data).stdout)["width"] == 101


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["encode", "missing.png", "-o", "x.nc"], 6, b"missing.png"),
        (["encode", SAMPLE, "-q", "9", "-o", "x.nc"], 6, b"expected 1 to 8"),
        (["encode", SAMPLE, "-q", "high", "-o", "x.nc"], 2, b"valid number"),
        (["encode", SAMPLE, "--model", "nope", "-o", "x.nc"], 5, b"nope"),
        (["encode", SAMPLE, "--device", "tpu", "-o", "x.nc"], 6, b"tpu"),
        (["encode", SAMPLE, SAMPLE, "-o", "x.nc"], 2, b"folder"),
        (["encode", SAMPLE, "-o", "no/such/folder/x.nc"], 6, b"cannot write"),
        (["decode", SAMPLE, "-o", "x.png"], 3, b"not an .nc file"),
        (["decode", "missing.nc", "-o", "x.png"], 6, b"missing.nc"),
        (["info", SAMPLE], 3, b"signature"),
        (["frobnicate"], 2, b"frobnicate"),
    ],
)
def test_bad_calls(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ncodec(*arguments, code=code)
    assert message in done.stderr and b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []  # nothing half-written is left


def test_input_is_not_overwritten(crops, tmp_path):
    before = (crops / "crop0.png").read_bytes()
    (tmp_path / "link.png").symlink_to(crops / "crop0.png")
    for same in (crops / "crop0.png", tmp_path / "link.png"):
        assert b"would be lost" in ncodec("encode", crops / "crop0.png", "-o", same, code=6).stderr
    assert (crops / "crop0.png").read_bytes() == before


def test_a_link_stays_a_link(crops, tmp_path):
    (tmp_path / "link.nc").symlink_to(tmp_path / "real.nc")
    ncodec("encode", crops / "crop0.png", "-o", tmp_path / "link.nc")
    assert (tmp_path / "link.nc").is_symlink() and (tmp_path / "real.nc").stat().st_size > 100


def test_mode_is_kept_and_names_are_checked(crops, tmp_path):
    (tmp_path / "a.nc").touch(0o600)
    ncodec("encode", crops / "crop0.png", "-o", tmp_path / "a.nc")
    assert (tmp_path / "a.nc").stat().st_mode & 0o777 == 0o600
    assert b"too long" in ncodec("encode", crops / "crop0.png", "-o", "n" * 300, code=6).stderr
    done = ncodec("decode", tmp_path / "a.nc", "-o", tmp_path / "same" / "deep.png", code=6)
    assert b"cannot write" in done.stderr
    (tmp_path / "b.nc").write_bytes((crops / "crop1.png").read_bytes())
    assert b"would be lost" in ncodec("encode", tmp_path / "b.nc", "--force", code=6).stderr


def test_full_disk_and_closed_streams(crops, tmp_path):
    ncodec("encode", crops / "crop0.png", "-o", tmp_path / "a.nc")
    for line, message in (
        (f"{NCODEC} info {tmp_path}/a.nc > /dev/full", b"No space left"),
        (f"{NCODEC} info - <&-", b"standard input is closed"),
        (f"PYTHONIOENCODING=ascii {NCODEC} encode --help", b""),
    ):
        done = subprocess.run(["bash", "-c", line], capture_output=True)
        assert message in done.stderr and b"Traceback" not in done.stderr
        assert done.returncode == (6 if message else 0)


def test_damaged_file_leaves_no_output(crops, tmp_path):
    ncodec("encode", crops / "crop0.png", "-o", tmp_path / "a.nc")
    damaged = bytearray((tmp_path / "a.nc").read_bytes())
    damaged[-20] ^= 1
    (tmp_path / "a.nc").write_bytes(damaged)
    assert (
        b"CRC-32C" in ncodec("decode", tmp_path / "a.nc", "-o", tmp_path / "a.png", code=3).stderr
    )
    assert not (tmp_path / "a.png").exists()
    ncodec("decode", tmp_path / "a.nc", "-o", tmp_path / "a.xyz", code=3)


@pytest.mark.parametrize("arguments", [["--help"], ["info", "--help"], ["models"], ["--version"]])
def test_light_commands_do_not_import_torch(arguments):
    program = (
        "import sys, contextlib; sys.argv = ['ncodec', *sys.argv[1:]]\n"
        "from ncodec.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "sys.exit(int('torch' in sys.modules or 'PIL' in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True)


def test_import_is_light():
    program = "import sys, ncodec; ncodec.info; sys.exit(int('torch' in sys.modules))"
    subprocess.run([sys.executable, "-c", program], check=True)
