"""README.md shows the measured figures, and its Python lines run."""

import re

from conftest import ROOT, SAMPLE

README = (ROOT / "README.md").read_text()


def test_figures_are_the_committed_results():
    assert (ROOT / "kodak_eval" / "results" / "kodak.md").read_text().strip() in README


def test_python_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(SAMPLE.read_bytes())
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(lines, {})
    assert "hyperprior-s" in capsys.readouterr().out
