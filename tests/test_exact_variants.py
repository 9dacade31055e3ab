"""Kernels that Python is not tested on: NEON under an emulator, where there is one (Debian's g++-aarch64-linux-gnu, qemu-user)."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "exact_variants.cpp"


@pytest.mark.parametrize(
    "compiler, emulator, variants",
    [
        ("g++", [], r"plain( avx2| avx512| neon)+"),
        ("aarch64-linux-gnu-g++", ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"], "plain neon"),
    ],
)
def test_variants_without_python(compiler, emulator, variants, tmp_path):
    for program in [compiler, *emulator[:1]]:
        if not shutil.which(program):
            pytest.skip(f"no {program}")
    binary = tmp_path / "variants"
    subprocess.run([compiler, "-std=c++17", "-O2", "-pthread", SOURCE, "-o", binary], check=True)
    run = subprocess.run([*emulator, binary], capture_output=True, text=True)
    if run.returncode == 77:
        pytest.skip("this processor has no vector variant")
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.fullmatch(rf"{variants} agree: [1-9]\d* graphs, [1-9]\d* operations\n", run.stdout)
