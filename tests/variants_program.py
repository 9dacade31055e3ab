"""Programs in C++ that compare variants without Python, also NEON under an emulator (Debian's g++-aarch64-linux-gnu, qemu-user)."""

import shutil
import subprocess

import pytest

NATIVE = ("g++", [])
AARCH64 = ("aarch64-linux-gnu-g++", ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"])


def output_of(source, compiler, emulator, folder):
    """Compile a source in a folder and return what the program prints; skip where this machine cannot."""
    for program in [compiler, *emulator[:1]]:
        if not shutil.which(program):
            pytest.skip(f"no {program}")
    binary = folder / "variants"
    subprocess.run([compiler, "-std=c++17", "-O2", "-pthread", source, "-o", binary], check=True)
    run = subprocess.run([*emulator, binary], capture_output=True, text=True)
    if run.returncode == 77:
        pytest.skip("this processor has no vector variant")
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
