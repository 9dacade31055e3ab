"""The block transforms equal their derivation (reference_transforms.py) and specs/dct_transforms.md."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
import reference_transforms as reference
from conftest import ROOT

KINDS = ("dct", "dst", "angle")
CASES = [
    (kind, n) for kind in KINDS for n in (reference.DST_SIZES if kind == "dst" else reference.SIZES)
]
LIBRARY = """
#include "enc_transform.hpp"
using namespace ncodec::dct;
extern "C" {
const int8_t* table(int kind, int log2_size) { return matrix(Kind(kind), log2_size); }
const uint32_t* table_norms2(int kind, int log2_size) { return norms2(Kind(kind), log2_size); }
const uint16_t* table_scales(int kind, int log2_size) { return scales(Kind(kind), log2_size); }
void run_inverse(const int16_t* c, int16_t* r, int stride, int log2_w, int log2_h, int horizontal, int vertical, int rows,
                 int columns) {
  inverse(c, r, stride, {log2_w, log2_h}, {Kind(horizontal), Kind(vertical)}, rows, columns);
}
void run_forward(const int16_t* r, int stride, int32_t* c, int log2_w, int log2_h, int horizontal, int vertical) {
  forward<true>(r, stride, c, {log2_w, log2_h}, {Kind(horizontal), Kind(vertical)});
}
}
"""

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


@pytest.fixture(scope="module", params=["", "-U__SSE2__"], ids=["native", "portable"])
def library(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transforms")
    (folder / "main.cpp").write_text(LIBRARY)
    flags = [
        "-std=c++17",
        "-O1",
        "-fno-exceptions",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
    ]
    flags += [f"-I{ROOT / 'ncodec' / 'dct'}", *request.param.split()]
    subprocess.run(
        ["c++", *flags, str(folder / "main.cpp"), "-o", str(folder / "main.so")], check=True
    )
    loaded = ctypes.CDLL(str(folder / "main.so"))
    loaded.table.restype = ctypes.POINTER(ctypes.c_int8)
    loaded.table_norms2.restype = ctypes.POINTER(ctypes.c_uint32)
    loaded.table_scales.restype = ctypes.POINTER(ctypes.c_uint16)
    return loaded


@pytest.fixture(scope="module")
def matrices():
    return reference.all_matrices()


def log2(n):
    return n.bit_length() - 1


def table_of(library, kind, n):
    return np.ctypeslib.as_array(library.table(KINDS.index(kind), log2(n)), (n, n)).astype(int)


def scales_of(library, kind, n):
    return np.ctypeslib.as_array(library.table_scales(KINDS.index(kind), log2(n)), (n,)).astype(
        np.int64
    )


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def shape_of(block, kinds):
    """Return log2 of width and height, and the numbers of the kinds, horizontal and vertical."""
    height, width = block.shape
    return log2(width), log2(height), *(KINDS.index(kind) for kind in kinds)


def run_inverse(library, coefficients, kinds, rows, columns, padding=3):
    height, width = coefficients.shape
    residual = np.full((height, width + padding), 77, np.int16)
    shape = shape_of(coefficients, kinds)
    library.run_inverse(
        pointer(coefficients), pointer(residual), width + padding, *shape, rows, columns
    )
    assert (residual[:, width:] == 77).all()
    return residual[:, :width]


def run_forward(library, residual, kinds):
    coefficients = np.zeros(residual.shape, np.int32)
    shape = shape_of(residual, kinds)
    library.run_forward(pointer(residual), residual.shape[1], pointer(coefficients), *shape)
    return coefficients


def reference_inverse(coefficients, across, down, kind):
    """The normative inverse in plain numpy; matrices of rows and of columns."""
    first, second = (1, 4) if kind == "angle" else (7, 10)
    rounded = (down.T @ coefficients.astype(np.int64) + (1 << (first - 1))) >> first
    middle = np.clip(rounded, -32768, 32767)
    return np.clip((middle @ across + (1 << (second - 1))) >> second, -32768, 32767)


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_tables_equal_the_derivation(library, matrices, kind, n):
    matrix = matrices[kind][n]
    norms2 = (matrix**2).sum(1)
    assert (table_of(library, kind, n) == matrix).all()
    assert (
        np.ctypeslib.as_array(library.table_norms2(KINDS.index(kind), log2(n)), (n,)) == norms2
    ).all()
    scales = np.round(2**14 * np.sqrt(n / norms2)) if kind == "angle" else np.full(n, 2**14)
    assert (scales_of(library, kind, n) == scales).all()


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_structure(matrices, kind, n):
    matrix = matrices[kind][n]
    if kind != "dst":
        assert (matrix[0::2] == matrix[0::2, ::-1]).all()
        assert (matrix[1::2] == -matrix[1::2, ::-1]).all()
        assert n == 4 or (matrix[0::2, : n // 2] == matrices[kind][n // 2]).all()
    if kind == "angle":
        gram = matrix @ matrix.T
        assert (gram == np.diag(np.diag(gram))).all()
        assert np.abs(matrix).max() == 2
        assert reference.angles(matrix).max() < {4: 5, 8: 24, 16: 45, 32: 57, 64: 66}[n]
    else:
        target = reference.dst(n) if kind == "dst" else reference.dct(n)
        assert reference.angles(matrix, target).max() < 0.5
        assert reference.max_cosine(matrix) < 0.0025
        assert np.abs((matrix**2).sum(1) / (4096 * n) - 1).max() < 0.005
    # No sum of int16 by a column overflows, nor does a coefficient of a 10-bit residual int16.
    assert 2**15 * np.abs(matrix).sum(0).max() < 2**30
    shares = np.abs(matrix).sum(1) / ((matrix**2).sum(1) if kind == "angle" else 64 * n)
    assert shares.max() <= 1


def test_size_8_is_the_papers_class():
    # arXiv 1808.02950 reports 24 additions and 6 shifts for its best matrix.
    assert reference.operations(reference.angle_4_and_8()[8]).tolist() == [24, 6, 0]


# Kind and size of rows, then of columns.
BLOCKS = [(kind, n, kind, n) for kind, n in CASES]
BLOCKS += [
    ("dct", 4, "dct", 64),
    ("dct", 32, "dct", 8),
    ("dst", 4, "dct", 16),
    ("dct", 8, "dst", 4),
]
BLOCKS += [("dst", 16, "dst", 8), ("angle", 64, "angle", 4), ("angle", 8, "angle", 16)]


@pytest.mark.parametrize(("horizontal", "width", "vertical", "height"), BLOCKS)
def test_inverse_is_exact(library, matrices, horizontal, width, vertical, height):
    rng, shape = np.random.default_rng(width), (height, width)
    kinds, across, down = (horizontal, vertical), matrices[horizontal][width], matrices[vertical][height]  # fmt: skip
    used = [shape, (1, 1), (1, width), (height, 1), *rng.integers(1, [height + 1, width + 1], (12, 2)).tolist()]  # fmt: skip
    for rows, columns in used:
        for amplitude in (32768, 2000, 100):
            coefficients = rng.integers(-amplitude, amplitude, shape).astype(np.int16)
            kept = np.zeros_like(coefficients)
            kept[:rows, :columns] = coefficients[:rows, :columns]
            expected = reference_inverse(kept, across, down, horizontal)
            assert (run_inverse(library, coefficients, kinds, rows, columns) == expected).all()
    extreme = np.full(shape, -32768, np.int16)
    expected = reference_inverse(extreme, across, down, horizontal)
    assert (run_inverse(library, extreme, kinds, *shape) == expected).all()


@pytest.mark.parametrize(("horizontal", "width", "vertical", "height"), BLOCKS)
def test_forward_then_inverse(library, matrices, horizontal, width, vertical, height):
    rng, shape, kinds = np.random.default_rng(width), (height, width), (horizontal, vertical)

    def unit_of(kind, n):
        matrix = matrices[kind][n].astype(float)
        return reference.unit_rows(matrix) if kind == "angle" else matrix / (64 * np.sqrt(n))

    across, down = unit_of(horizontal, width), unit_of(vertical, height)
    scale = np.outer(scales_of(library, vertical, height), scales_of(library, horizontal, width))
    worst = np.full(shape, 1023, np.int16)
    for residual in (rng.integers(-100, 101, shape).astype(np.int16), worst, -worst):
        coefficients = run_forward(library, residual, kinds) / np.sqrt(height / width)
        # In units of 1: int16 between the passes leaves 5 - log2(N) / 2 bits there.
        assert np.abs(coefficients / 32 - down @ residual @ across.T).max() < 0.05 * max(shape)
        scaled = np.round(coefficients * scale / (2**28 * np.sqrt(width * height)))
        assert np.abs(scaled).max() < 32768
        back = run_inverse(library, scaled.astype(np.int16), kinds, *shape)
        # Norms are within 0.25 %, and the coefficients have 5 - log2(N) bits.
        error = np.sqrt(np.mean((back - residual.astype(float)) ** 2))
        assert error < 1.5 + 0.01 * np.sqrt(np.mean(residual.astype(float) ** 2))
