"""The matrices of specs/dct_transforms.md, derived in numpy; run it for the table of the specification.

python tests/reference_transforms.py
"""

from itertools import permutations, product

import numpy as np

SIZES = (4, 8, 16, 32, 64)
DST_SIZES = (4, 8, 16)
RHO = 0.95
TIE = 1e-7  # cosines closer than this are ties


def dct(n):
    """[n, n] orthonormal DCT-II, a row a basis vector."""
    k, i = np.mgrid[:n, :n]
    rows = np.cos(np.pi * k * (2 * i + 1) / (2 * n)) * np.sqrt(2 / n)
    rows[0] /= np.sqrt(2)
    return rows


def dst(n):
    """[n, n] orthonormal DST-VII."""
    k, i = np.mgrid[:n, :n]
    return np.sin(np.pi * (2 * k + 1) * (i + 1) / (2 * n + 1)) * 2 / np.sqrt(2 * n + 1)


def from_cosines(values, n):
    """Integer DCT-II of size n from the first quadrant, 64 sqrt(2) cos(j pi / 128) for j = 0 .. 64."""
    k, i = np.mgrid[:n, :n]
    j = (64 // n) * k * (2 * i + 1) % 256
    j = np.where(j > 128, 256 - j, j)
    return np.where(j > 64, -1, 1) * np.asarray(values)[np.where(j > 64, 128 - j, j)]


def from_sines(values):
    """Integer DST-VII of size n from its n + 1 values of the first quadrant."""
    n = len(values) - 1
    k, i = np.mgrid[:n, :n]
    j = (2 * k + 1) * (i + 1) % (4 * n + 2)
    folded = j % (2 * n + 1)
    folded = np.where(folded > n, 2 * n + 1 - folded, folded)
    return np.where(j > 2 * n + 1, -1, 1) * np.asarray(values)[folded]


def orthogonality_error(matrices):
    """Deviation of the Gram matrices from identity: mean square per row plus twice the largest square."""
    total = 0.0
    for matrix in matrices:
        n = len(matrix)
        error = (matrix @ matrix.T) / (4096 * n) - np.eye(n)
        total += (error**2).sum() / n + 2 * np.abs(error).max() ** 2
    return total


def tune(true, build, fixed=()):
    """Round `true`, then take the best step of 1 (within 1.5 of true) until none lowers the cost."""

    def cost(values):
        return 1e4 * orthogonality_error(build(values)) + 0.002 * ((values - true) ** 2).sum()

    values = np.round(true).astype(int)
    best = cost(values)
    while True:
        steps = []
        for at in set(range(len(values))) - set(fixed):
            for step in (-1, 1):
                moved = values.copy()
                moved[at] += step
                if abs(moved[at] - true[at]) <= 1.5:
                    steps.append((cost(moved), at, moved))
        lowest, _, moved = min(steps, key=lambda s: s[:2])
        if lowest >= best - 1e-9:
            return values
        best, values = lowest, moved


def tuned_cosines():
    """[65] the header's COSINES; entries 0, 32 and 64 are 64, 64 and 0 by definition."""
    true = 64 * np.sqrt(2) * np.cos(np.arange(65) * np.pi / 128)
    true[0] = 64
    return tune(true, lambda v: [from_cosines(v, n) for n in SIZES], fixed=(0, 32, 64))


def tuned_sines(n):
    """[n + 1] the header's SINES_n."""
    true = 128 * np.sqrt(n / (2 * n + 1)) * np.sin(np.arange(n + 1) * np.pi / (2 * n + 1))
    return tune(true, lambda v: [from_sines(v)], fixed=(0,))


# Minimal angle


def candidates(width, entries=(-2, -1, 0, 1, 2)):
    """[n, width] every half row with coprime entries."""
    rows = np.array(list(product(entries, repeat=width)))
    return rows[np.gcd.reduce(rows, axis=1) == 1]


def odd_targets(size):
    """{k: unit left half of row k} of the DCT's odd rows."""
    return {k: dct(size)[k, : size // 2] * np.sqrt(2) for k in range(1, size, 2)}


def greedy(size, order, pool):
    """Odd half rows by arXiv 1808.02950: row after row, the candidate of least angle that is orthogonal
    to those taken. Returns every outcome, ties branching, as [size / 2, size / 2] in row order."""
    targets = odd_targets(size)
    unit = pool / np.linalg.norm(pool, axis=1)[:, None]
    found = []

    def search(left, taken):
        if len(taken) == len(order):
            found.append(np.array([taken[k] for k in sorted(taken)]))
            return
        if not len(left):
            return
        row = order[len(taken)]
        cosines = unit[left] @ targets[row]
        for at in np.flatnonzero(cosines > max(cosines.max() - TIE, TIE)):
            vector = pool[left[at]]
            search(left[pool[left] @ vector == 0], {**taken, row: vector})

    search(np.arange(len(pool)), {})
    return found


def beam(size, widths, pool):
    """As `greedy` for rows 1, 3, 5, ..., but the widths[i] nearest candidates of row i are all followed."""
    targets = list(odd_targets(size).values())
    cosines = [pool @ target / np.linalg.norm(pool, axis=1) for target in targets]
    found = []

    def search(left, taken):
        if len(taken) == len(targets):
            found.append(pool[taken])
            return
        near = cosines[len(taken)][left]
        for at in np.argsort(-near, kind="stable")[: widths[len(taken)]]:
            if near[at] < 0.5:
                break
            index = left[at]
            search(left[pool[left] @ pool[index] == 0], [*taken, index])

    search(np.flatnonzero(np.max(cosines, axis=0) > 0.6), [])
    return found


def nested(even, odd):
    """[2n, 2n] whose even rows are `even` and its mirror image, and whose odd rows are antisymmetric."""
    matrix = np.empty((2 * len(even), 2 * len(even)), int)
    matrix[0::2] = np.hstack([even, even[:, ::-1]])
    matrix[1::2] = np.hstack([odd, -odd[:, ::-1]])
    return matrix


def angle_4_and_8():
    """The least total angle over all orders; at size 8, of the two that tie, the one of more coding gain."""
    outcomes = {}
    even = nested(np.ones((1, 1), int), np.ones((1, 1), int))
    for size in (4, 8):
        pool = candidates(size // 2)
        orders = permutations(range(1, size, 2))
        found = [nested(even, odd) for order in orders for odd in greedy(size, order, pool)]
        least = min(angles(matrix).sum() for matrix in found)
        found = [matrix for matrix in found if angles(matrix).sum() < least + 1e-4]
        even = outcomes[size] = max(found, key=coding_gain)
    return outcomes


BEAM_WIDTHS = (30, 16, 10, 6, 4, 2, 1, 1)


def angle_matrices():
    """{size: matrix} of kind `angle`."""
    matrices = angle_4_and_8()
    odds = beam(16, BEAM_WIDTHS, candidates(8))
    matrices[16] = max((nested(matrices[8], odd) for odd in odds), key=coding_gain)
    for size in (32, 64):
        matrices[size] = nested(
            matrices[size // 2], matrices[size // 2]
        )  # Jridi, Alfalou, Meher 2015
    return matrices


def prolonged(odd):
    """[2n, 2n] odd half of the next size: each entry twice, and for the upper rows with opposite signs."""
    n = len(odd)
    upper = odd * (-1) ** np.arange(n)  # DCT-IV with alternating signs is DST-IV upside down
    rows = np.vstack([np.kron(odd, [1, 1]), np.kron(upper, [1, -1])])
    targets = np.array(list(odd_targets(4 * n).values()))
    return rows * np.where((rows * targets).sum(1) < 0, -1, 1)[:, None]


# Figures of merit, for rows scaled to norm 1


def unit_rows(matrix):
    return matrix / np.linalg.norm(matrix, axis=1)[:, None]


def angles(matrix, target=None):
    """[n] angle of each row to the row it stands for, in degrees."""
    target = dct(len(matrix)) if target is None else target
    return np.degrees(np.arccos(np.clip((unit_rows(matrix) * target).sum(1), -1, 1)))


def covariance(n):
    return RHO ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def mse(matrix):
    """Mean squared difference of the coefficients of AR(1) to the DCT's."""
    error = dct(len(matrix)) - unit_rows(matrix)
    return np.trace(error @ covariance(len(matrix)) @ error.T) / len(matrix)


def coding_gain(matrix):
    """Unified coding gain for AR(1) (Katto, Yasuda 1991), in dB."""
    rows = unit_rows(matrix)
    variances = np.diag(rows @ covariance(len(rows)) @ rows.T)
    synthesis = (np.linalg.inv(rows) ** 2).sum(0)
    return -10 * np.log10(variances * synthesis).mean()


def efficiency(matrix):
    """Transform efficiency: the diagonal's share of the coefficients' absolute covariance, in percent."""
    rows = unit_rows(matrix)
    result = np.abs(rows @ covariance(len(rows)) @ rows.T)
    return 100 * np.trace(result) / result.sum()


def max_cosine(matrix):
    """Largest |cosine| of two rows."""
    rows = unit_rows(matrix)
    return np.abs(rows @ rows.T - np.eye(len(rows))).max()


def operations(matrix):
    """(additions, shifts, multiplications) of a vector's transform by even/odd butterflies.

    Odd rows are computed directly. A product by 2 is a shift, made once per input and used by all rows; one by
    +-1 is free; any other is a multiplication. An odd part equal to the even part's matrix is computed alike.
    """
    n = len(matrix)
    if n == 1:
        value = abs(int(matrix[0, 0]))
        return np.array([0, 0, int(value > 2)])
    even, odd = matrix[0::2, : n // 2], matrix[1::2, : n // 2]
    total = np.array([n, 0, 0]) + operations(even)
    if n > 4 and (even == odd).all():
        return total + operations(odd)
    large = (np.abs(odd) > 2).sum()
    shifts = (np.abs(odd) == 2).any(0).sum() if not large else 0
    return total + np.array([(odd != 0).sum() - n // 2, shifts, large])


def all_matrices():
    """{name: {size: matrix}} of what the codec has, in the header's order."""
    cosines = tuned_cosines()
    return {
        "dct": {n: from_cosines(cosines, n) for n in SIZES},
        "dst": {n: from_sines(tuned_sines(n)) for n in DST_SIZES},
        "angle": angle_matrices(),
    }


def main():
    matrices = all_matrices()
    greedy_odd = max(
        greedy(16, (1, 15, 7, 5, 9, 3, 11, 13), candidates(8)),
        key=lambda odd: coding_gain(nested(matrices["angle"][8], odd)),
    )
    rows = []
    for n in SIZES:
        rows += [
            (n, "DCT-II, real", dct(n)),
            (n, "`dct`", matrices["dct"][n]),
            (n, "`angle`", matrices["angle"][n]),
        ]
        even = matrices["angle"].get(n // 2)
        if n == 16:
            rows += [(n, "greedy", nested(even, greedy_odd)), (n, "JAM", nested(even, even))]
        if n == 32:
            rows += [(n, "prolonged", nested(even, prolonged(even[1::2, :8])))]
    print(
        "| N | transform | total, max angle | MSE | gain | efficiency | add, shift, mul | max cosine |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for n, name, matrix in rows:
        real = name.endswith("real")
        counts = "" if real else ", ".join(str(c) for c in operations(matrix))
        a = angles(matrix)
        print(
            f"| {n} | {name} | {a.sum():.1f}, {a.max():.1f} | {mse(matrix):.6f} | {coding_gain(matrix):.4f} "
            f"| {efficiency(matrix):.2f} | {counts} | {max_cosine(matrix):.4f} |"
        )
    print("\n| N | `dst`: total, max angle | norm^2 / 4096 N | max cosine |")
    print("|---|---|---|---|")
    for n, matrix in matrices["dst"].items():
        a, norms = angles(matrix, dst(n)), (matrix**2).sum(1) / (4096 * n)
        print(
            f"| {n} | {a.sum():.2f}, {a.max():.2f} | {norms.min():.4f} to {norms.max():.4f} | {max_cosine(matrix):.4f} |"
        )


if __name__ == "__main__":
    main()
