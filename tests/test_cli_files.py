"""The command line: which files it reads and writes, and which it refuses to."""

import json
import os
import stat
import tempfile

import numpy as np
import pytest
from command import ncodec
from conftest import SAMPLE
from PIL import Image

from ncodec import files

DCT = ("--model", "dct")


@pytest.fixture
def image(tmp_path, monkeypatch):
    """a.png in the current folder, small."""
    monkeypatch.chdir(tmp_path)
    with Image.open(SAMPLE) as picture:
        picture.crop((0, 0, 40, 24)).save("a.png")
    return tmp_path / "a.png"


def listing(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# ---------------------------------------------------------------- names


def test_two_names(image, tmp_path):
    """IN OUT, as cjxl has it: where OUT is not there yet."""
    assert ncodec("encode", "a.png", "b.nc", *DCT).out.startswith("b.nc: ")
    ncodec("decode", "b.nc", "c.ppm")
    assert sorted(listing(tmp_path)) == ["a.png", "b.nc", "c.ppm"]
    assert "d.nc" in ncodec("encode", "-", "d.nc", *DCT, data=image.read_bytes()).out


def test_two_names_where_the_second_exists(image, tmp_path):
    ncodec("encode", "a.png", "b.nc", *DCT)
    (tmp_path / "it's.png").write_bytes(image.read_bytes())
    before = listing(tmp_path)
    for words, command in (
        (("encode", "a.png", "b.nc"), "ncodec encode a.png -o b.nc overwrites"),
        (("encode", "a.png", "b.nc", "--force"), "ncodec encode a.png -o b.nc"),
        (("decode", "b.nc", "a.png", "--force"), "ncodec decode b.nc -o a.png"),
        (("decode", "b.nc", "it's.png"), """ncodec decode b.nc -o 'it'"'"'s.png'"""),
        (("encode", "a.png", "-"), "ncodec encode a.png -o -"),
        (("decode", "b.nc", "-"), "ncodec decode b.nc -o -"),
    ):
        assert command in ncodec(*words, code=2).err
        assert listing(tmp_path) == before
    (tmp_path / "odd.png").write_bytes((tmp_path / "b.nc").read_bytes())  # an .nc file all the same
    ncodec("decode", "b.nc", "odd.png", "-o", "out/")
    assert sorted(listing(tmp_path / "out")) == ["b.png", "odd.png"]


def test_a_folder_last(image, tmp_path):
    """cp's habit: what is in that folder is no input."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "other.png").write_bytes(image.read_bytes())
    for last in ("out", "out/", "new/"):
        done = ncodec("encode", "a.png", last, *DCT, code=2)
        assert f"ncodec encode a.png -o {last} writes into it" in done.err
    ncodec("encode", "out", "a.png", *DCT)
    assert (tmp_path / "a.nc").exists() and (tmp_path / "out" / "other.nc").exists()
    assert (
        "a folder as input needs one as output: -o x.nc/"
        in ncodec("encode", "out", "-o", "x.nc", code=2).err
    )
    assert "found a folder" in ncodec("encode", "out", "-o", "-", code=2).err


@pytest.fixture
def tree(image, tmp_path):
    """photos/ with folders in it, hidden ones, and links: to a file, to a folder, in a circle, to nothing."""
    for name in (
        "photos/a.png",
        "photos/cats/b.PNG",
        "photos/cats/old/a.png",
        "photos/.thumbs/c.png",
        "far/d.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(image.read_bytes())
    (tmp_path / "photos" / ".e.png").touch()
    for name, to in (
        ("cats/link.png", image), ("far", tmp_path / "far"), ("cats/up", tmp_path / "photos"), ("no.png", "nothing"),
    ):  # fmt: skip
        (tmp_path / "photos" / name).symlink_to(to)
    return tmp_path


def below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_tree_stays_a_tree(tree):
    coded = ["a.nc", "cats/b.nc", "cats/link.nc", "cats/old/a.nc"]
    ncodec("encode", "photos", *DCT, "-o", "out/")
    assert below(tree / "out") == coded
    ncodec("decode", "out/", "-o", "back/")
    assert below(tree / "back") == [name.replace(".nc", ".png") for name in coded]
    (tree / "out" / "cats" / "b.nc").write_bytes(b"?")
    done = ncodec("info", "out", "out/a.nc", code=3)
    assert "out/cats/b.nc: signature" in done.err
    assert [line.split(":")[0] for line in done.out.splitlines()] == [
        "out/a.nc", "out/cats/link.nc", "out/cats/old/a.nc", "out/a.nc",
    ]  # fmt: skip
    ncodec("encode", "photos", *DCT)  # beside each
    assert (tree / "photos" / "cats" / "old" / "a.nc").exists()
    assert (
        not (tree / "far" / "d.nc").exists() and not (tree / "photos" / ".thumbs" / "c.nc").exists()
    )


def test_what_cannot_be_looked_into_is_named(tree, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("cats"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    done = ncodec("encode", "photos", *DCT, "-o", "out/", code=6)
    assert done.err == "ncodec: photos/cats: Permission denied\n" and below(tree / "out") == [
        "a.nc"
    ]


def test_clashes_are_all_named_and_the_others_go_on(image, tmp_path):
    for name in ("x/a.png", "y/a.png", "x/b.png", "x/b.jpg", "x/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.open(image).save(tmp_path / name)
    done = ncodec("encode", "x", "y", *DCT, "-o", "out/", "--force", code=6)
    assert done.err.splitlines() == [
        f"ncodec: {name}: its output out/{target} would be that of {other}, too; -o names another"
        for name, target, other in (
            ("x/a.png", "a.nc", "y/a.png"),
            ("x/b.jpg", "b.nc", "x/b.png"),
            ("x/b.png", "b.nc", "x/b.jpg"),
            ("y/a.png", "a.nc", "x/a.png"),
        )
    ]
    assert below(tmp_path / "out") == ["c.nc"]
    assert ncodec("encode", "a.png", "./a.png", *DCT).out.count("a.nc: ") == 1  # once


def test_no_input_is_overwritten(image, tmp_path):
    ncodec("encode", "a.png", "k.nc", *DCT)
    (tmp_path / "link.png").symlink_to(image)
    os.link(image, tmp_path / "hard.nc")
    (tmp_path / "k.png").write_bytes(b"another")
    before = listing(tmp_path)
    for words in (
        ("encode", "a.png", "-o", "a.png"),
        ("encode", "a.png", "-o", "link.png"),
        ("encode", "a.png", "-o", "hard.nc"),
        ("encode", "hard.nc", "--force"),
        ("decode", "k.nc", "k.png", "link.png", "--force"),  # k.png is an input, by its name
    ):
        said = ncodec(*words, code=6).err
        assert "would be lost" in said or "written over itself" in said
        assert listing(tmp_path) == before


# ---------------------------------------------------------------- writing


def test_a_link_stays_a_link_and_a_mode_is_kept(image, tmp_path):
    (tmp_path / "link.nc").symlink_to(tmp_path / "real.nc")
    ncodec("encode", "a.png", *DCT, "-o", "link.nc")
    assert (tmp_path / "link.nc").is_symlink() and (tmp_path / "real.nc").stat().st_size > 50
    (tmp_path / "b.nc").touch(0o600)
    ncodec("encode", "a.png", *DCT, "-o", "b.nc")
    assert stat.S_IMODE((tmp_path / "b.nc").stat().st_mode) == 0o600
    assert "too long" in ncodec("encode", "a.png", *DCT, "-o", "n" * 300, code=6).err
    ncodec("encode", "a.png", *DCT, "-o", "/dev/null")
    assert os.path.exists("/dev/null") and not os.path.isfile("/dev/null")


def test_a_damaged_file_leaves_no_output(image, tmp_path):
    ncodec("encode", "a.png", *DCT, "-o", "a.nc")
    damaged = bytearray((tmp_path / "a.nc").read_bytes())
    damaged[-9] ^= 1
    (tmp_path / "a.nc").write_bytes(damaged)
    for target in ("b.png", "b.xyz"):
        assert "a.nc: " in ncodec("decode", "a.nc", "-o", target, code=3).err
    assert sorted(listing(tmp_path)) == ["a.nc", "a.png"]


def test_a_read_only_file_is_refused(image, tmp_path):
    ncodec("encode", "a.png", *DCT, "-o", "a.nc")
    before = (tmp_path / "a.nc").read_bytes()
    (tmp_path / "a.nc").chmod(0o444)
    for words in (("-o", "a.nc"), ("--force",)):
        done = ncodec("encode", "a.png", *DCT, "-q", 8, *words, code=6)
        assert "a.nc: cannot write: the file is read-only" in done.err
    assert (tmp_path / "a.nc").read_bytes() == before
    assert sorted(listing(tmp_path)) == ["a.nc", "a.png"]


@pytest.fixture
def full_folder(monkeypatch):
    """A folder that takes no new files, also for root."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_writable_file_in_a_read_only_folder(full_folder, tmp_path, size):
    (tmp_path / "a").write_bytes(b"x" * 100)
    files.write_whole(tmp_path / "a", b"y" * size)
    assert (tmp_path / "a").read_bytes() == b"y" * size
    with pytest.raises(PermissionError):
        files.write_whole(tmp_path / "new", b"y")


def test_it_is_restored_where_writing_fails(full_folder, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"before" * 10)
    write, fail = os.write, [True]

    def write_some(handle, data):
        if len(data) == 1000:
            return write(handle, data[:100])
        if len(data) == 900 and fail.pop():
            raise OSError(28, "No space left on device")
        return write(handle, data)

    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(OSError, match="No space"):
        files.write_whole(tmp_path / "a", b"y" * 1000)
    assert (tmp_path / "a").read_bytes() == b"before" * 10


def test_json_names_the_files(image, tmp_path):
    """One object a line, each with the names of its files."""
    line = ncodec("encode", "a.png", *DCT, "-o", "b.nc", "--json").out
    assert line.count("\n") == 1
    about = json.loads(line)
    assert (about["input"], about["output"], about["quality"]) == ("a.png", "b.nc", 4)
    about = json.loads(ncodec("decode", "b.nc", "-o", "c.png", "--json").out)
    assert (about["width"], about["height"]) == (40, 24) and about["decode_s"] > 0
    assert np.asarray(Image.open("c.png")).shape == (24, 40, 3)
