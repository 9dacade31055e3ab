"""README.md shows the measured figures; its Python lines and those of specs/guide.md run."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest
from conftest import ROOT, SAMPLE
from PIL import Image

TEXTS = [(ROOT / name).read_text() for name in ("README.md", "specs/guide.md")]
BLOCKS = [block for text in TEXTS for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
SHOWN = [
    "hyperprior-s",
    " (2000, 3000, 3)",
    "(64, 8, 8) blocks",
    "(8, 32, 48) True",
    " bits a token",
    "NCODEC (256, 171)",
    "BdRate(percent=",
]


def test_the_readme_is_short():
    assert TEXTS[0].count("\n") <= 125


def test_figures_are_the_committed_results(tmp_path):
    """`kodak_eval/run.py readme` changes nothing: plot, tables and README come from the studies' JSON."""
    for name in ("README.md", "kodak_eval", "weights"):
        source, target = ROOT / name, tmp_path / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    command = [sys.executable, tmp_path / "kodak_eval" / "run.py", "readme"]
    subprocess.run(command, check=True, cwd=tmp_path)
    reports = (f"kodak_eval/results/{name}.md" for name in ("kodak", "visual", "low_rates"))
    for name in ("README.md", *(report for report in reports if (tmp_path / report).exists())):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), name
    old, new = ((root / "kodak_eval/results/kodak.svg").read_text() for root in (ROOT, tmp_path))
    if f"Matplotlib v{version('matplotlib')}," in old:  # another one may draw it another way
        assert new == old


@pytest.mark.parametrize(("block", "shown"), list(zip(BLOCKS, SHOWN, strict=True)), ids=SHOWN)
def test_python_lines(block, shown, tmp_path):
    """Each block is a script that runs as it stands."""
    (tmp_path / "photo.png").write_bytes(SAMPLE.read_bytes())
    (tmp_path / "photos").mkdir()
    with Image.open(SAMPLE) as sample:
        sample.crop((100, 100, 300, 280)).save(tmp_path / "photos" / "crop.png")
    if "read_shards" in block:
        command = [sys.executable, "-m", "ncodec", "tokenize", "photos", "-o", "shards"]
        subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    (tmp_path / "script.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert shown in done.stdout
