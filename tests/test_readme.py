"""README.md shows the measured figures, and its Python lines run."""

import re
import shutil
import subprocess
import sys

from conftest import ROOT, SAMPLE
from PIL import Image

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_figures_are_the_committed_results(tmp_path):
    """`kodak_eval/run.py readme` changes nothing: plot, tables and README come from kodak.json."""
    for name in ("README.md", "kodak_eval", "weights"):
        source, target = ROOT / name, tmp_path / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    command = [sys.executable, tmp_path / "kodak_eval" / "run.py", "readme"]
    subprocess.run(command, check=True, cwd=tmp_path)
    for name in ("README.md", "kodak_eval/results/kodak.md", "kodak_eval/results/kodak.svg"):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), name


def test_python_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(SAMPLE.read_bytes())
    (tmp_path / "photos").mkdir()
    with Image.open(SAMPLE) as sample:
        sample.crop((100, 100, 300, 280)).save(tmp_path / "photos" / "crop.png")
    (encode, measure) = BLOCKS
    exec(encode, {})
    assert "hyperprior-s" in capsys.readouterr().out
    exec(measure, {})
    assert "BdRate(percent=" in capsys.readouterr().out
