"""Kernels that Python is not tested on: NEON under an emulator, where there is one."""

import re
from pathlib import Path

import pytest
from variants_program import AARCH64, NATIVE, output_of

SOURCE = Path(__file__).parent / "exact_variants.cpp"


@pytest.mark.parametrize(
    "compiler, emulator, variants",
    [(*NATIVE, r"plain( avx2| avx512| neon)+"), (*AARCH64, "plain neon")],
)
def test_variants_without_python(compiler, emulator, variants, tmp_path):
    printed = output_of(SOURCE, compiler, emulator, tmp_path)
    assert re.fullmatch(rf"{variants} agree: [1-9]\d* graphs, [1-9]\d* operations\n", printed)
