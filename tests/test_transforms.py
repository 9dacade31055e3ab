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
void run_inverse(const int16_t* c, int16_t* r, int stride, int log2_size, int kind, int rows, int columns) {
  inverse(c, r, stride, log2_size, Kind(kind), rows, columns);
}
void run_forward(const int16_t* r, int stride, int32_t* c, int log2_size, int kind) {
  forward(r, stride, c, log2_size, Kind(kind));
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


def run_inverse(library, coefficients, kind, rows, columns, padding=3):
    n = len(coefficients)
    residual = np.full((n, n + padding), 77, np.int16)
    library.run_inverse(
        pointer(coefficients),
        pointer(residual),
        n + padding,
        log2(n),
        KINDS.index(kind),
        rows,
        columns,
    )
    assert (residual[:, n:] == 77).all()
    return residual[:, :n]


def run_forward(library, residual, kind):
    n = len(residual)
    coefficients = np.zeros((n, n), np.int32)
    library.run_forward(pointer(residual), n, pointer(coefficients), log2(n), KINDS.index(kind))
    return coefficients


def reference_inverse(coefficients, matrix, kind):
    """The normative inverse in plain numpy."""
    first, second = (1, 4) if kind == "angle" else (7, 10)
    rounded = (matrix.T @ coefficients.astype(np.int64) + (1 << (first - 1))) >> first
    middle = np.clip(rounded, -32768, 32767)
    return np.clip((middle @ matrix + (1 << (second - 1))) >> second, -32768, 32767)


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


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_inverse_is_exact(library, matrices, kind, n):
    rng = np.random.default_rng(n)
    used = [(n, n), (1, 1), (1, n), (n, 1), *rng.integers(1, n + 1, (12, 2)).tolist()]
    for rows, columns in used:
        for amplitude in (32768, 2000, 100):
            coefficients = rng.integers(-amplitude, amplitude, (n, n)).astype(np.int16)
            kept = np.zeros_like(coefficients)
            kept[:rows, :columns] = coefficients[:rows, :columns]
            expected = reference_inverse(kept, matrices[kind][n], kind)
            assert (run_inverse(library, coefficients, kind, rows, columns) == expected).all()
    extreme = np.full((n, n), -32768, np.int16)
    expected = reference_inverse(extreme, matrices[kind][n], kind)
    assert (run_inverse(library, extreme, kind, n, n) == expected).all()


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_forward_then_inverse(library, matrices, kind, n):
    rng = np.random.default_rng(n)
    matrix = matrices[kind][n].astype(float)
    unit = reference.unit_rows(matrix) if kind == "angle" else matrix / (64 * np.sqrt(n))
    scales = scales_of(library, kind, n)
    worst = np.full((n, n), 1023, np.int16)
    for residual in (rng.integers(-100, 101, (n, n)).astype(np.int16), worst, -worst):
        coefficients = run_forward(library, residual, kind)
        # In units of 1: int16 between the passes leaves 5 - log2(N) / 2 bits there.
        assert np.abs(coefficients / 32 - unit @ residual @ unit.T).max() < 0.05 * n
        shift = 28 + log2(n)
        scaled = (
            coefficients.astype(np.int64) * np.outer(scales, scales) + (1 << (shift - 1))
        ) >> shift
        assert np.abs(scaled).max() < 32768
        back = run_inverse(library, scaled.astype(np.int16), kind, n, n)
        # Norms are within 0.25 %, and the coefficients have 5 - log2(N) bits.
        error = np.sqrt(np.mean((back - residual.astype(float)) ** 2))
        assert error < 1.5 + 0.01 * np.sqrt(np.mean(residual.astype(float) ** 2))
