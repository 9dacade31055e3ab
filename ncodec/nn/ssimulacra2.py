"""SSIMULACRA2 with gradients, to train with: `metrics.ssimulacra2` of a batch, in torch, to 0.05.

    sRGB --> linear light, halved 0 … 4 times --> X, Y, B --> blurred moments --+--> structure: 1 - SSIM
                                                                                +--> edges that only the picture has
                                                                                +--> edges that only the original has
    each map's mean and 4-norm --WEIGHTS--> sum --cubic, power--> 100 - distance

Source: Sneyers 2022, https://github.com/cloudinary/ssimulacra2 (ssimulacra2.cc); colours as in JPEG XL.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

SIGMA, RADIUS = 1.5, 5  # pixels, of the blur
C2 = 0.0009  # of SSIM
SMALLEST = 8  # pixels a side, of a scale that counts
LMS = [  # what the eye's cones make of linear RGB
    [0.30, 0.622, 0.078],
    [0.23, 0.692, 0.078],
    [0.24342268924547819, 0.20476744424496821, 0.55180986650955360],
]
BIAS = 0.0037930732552754493  # light that cones see in the dark
OPPONENT = [
    [7.0, -7.0, 0.0],
    [0.5, 0.5, 0.0],
    [-0.5, -0.5, 1.0],
]  # X, Y, B of cube roots of L, M, S
OFFSET = [0.42, 0.01, 0.55]
# By scale, from the whole picture on, and plane: mean of structure, edges, lost edges; their 4-norms. The 70 other weights,
# none above 0.003, and scale 5, which has no larger one, change a score by less than 0.02.
WEIGHTS: list[dict[str, tuple[float, ...]]] = [
    {"Y": (0, 0, 0, 7.466890328078848, 0, 17.445833984131262)},
    {
        "X": (0, 0, 0, 1.1041726426657346, 0, 0),
        "Y": (0, 0, 0, 6.683678146179332, 0, 1.027889937768264),
    },
    {
        "X": (0, 0, 0, 1.8422455520539298, 11.441172603757666, 0),
        "Y": (225.20515300849274, 0, 0, 19.213238186143016, 0, 0),
    },
    {
        "X": (0, 0, 0, 1.8787594979546387, 10.94906990605142, 0),
        "Y": (176.39317598450694, 0, 0, 24.43300999870476, 0.28520802612117757, 0),
        "B": (0, 0, 0, 8.826982764996862, 23.19243343998926, 0),
    },
    {
        "X": (0, 0.9677937080626833, 0, 0, 0.9981766977854967, 0),
        "Y": (0, 0, 0, 34.77906344483772, 44.835625328877896, 0),
        "B": (95.1080498811086, 0.9863978034400682, 0.9834382792465353, 0, 171.2667255897307, 0.9807858872435379),
    },
]  # fmt: skip
# Of the weighted sum, and of the distance that it becomes.
CUBIC = (0.9562382616834844, 2.326765642916932, -0.020884521182843837, 6.248496625763138e-05)
POWER = 0.6276336467831387


def ssimulacra2(a: Tensor, b: Tensor) -> Tensor:
    """Return SSIMULACRA2 [B] of originals `a` and pictures `b`: 100 is equal, 90 looks so, 30 is low, below 0 is possible.

    Args:
        a, b: sRGB [B, 3, H, W] in [0, 1], float32; sides of 8 or more. (Below 225 the program gives scales other weights.)
    """
    linear = [_linear(x.contiguous()) for x in (a, b)]
    total = a.new_zeros(len(a))
    for scale, weights in enumerate(WEIGHTS):
        if scale:
            linear = [_half(x) for x in linear]
        if min(linear[0].shape[2:]) < SMALLEST:
            break
        maps = _maps(*(_planes(x, "".join(weights)) for x in linear))
        norms = torch.stack([maps.mean((3, 4)), _norm4(maps)])  # [2, 3, B, P]
        weight = a.new_tensor(list(weights.values())).view(-1, 2, 3)
        total = total + torch.einsum("nmbp,pnm->b", norms, weight)
    unit, *cubic = CUBIC
    s = unit * total
    distance = cubic[0] * s + cubic[1] * s**2 + cubic[2] * s**3
    return 100 - 10 * distance.clamp_min(1e-6) ** POWER


def _linear(x: Tensor) -> Tensor:
    """Return linear light of sRGB."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def _half(x: Tensor) -> Tensor:
    """Return means of 2x2 pixels; the last row and column of odd sides stand for two."""
    height, width = x.shape[2:]
    if height % 2 or width % 2:
        x = pad(x, (0, width % 2, 0, height % 2), mode="replicate")
    return avg_pool2d(x, 2)


def _planes(linear: Tensor, names: str) -> Tensor:
    """Return planes [B, P, H, W], named by letters of "XYB", of linear RGB."""
    rows = ["XYB".index(name) for name in names]
    lms = torch.einsum("ij,bjhw->bihw", linear.new_tensor(LMS), linear) + BIAS
    roots = lms ** (1 / 3) - BIAS ** (1 / 3)
    planes = torch.einsum("ij,bjhw->bihw", linear.new_tensor(OPPONENT)[rows], roots)
    return planes + linear.new_tensor(OFFSET)[rows, None, None]


def _maps(x: Tensor, y: Tensor) -> Tensor:
    """Return structure, edges that `y` alone has and edges that it has lost, [3, B, P, H, W], 0 where all is well.

    1 - SSIM is written in the error y - x: so float32 does for pictures that are nearly equal.
    """
    mean_x, mean_y = _blur(x), _blur(y)
    shift = (mean_y - mean_x).square()
    variances = _blur(x * x + y * y) - mean_x * mean_x - mean_y * mean_y
    noise = (_blur((y - x).square()) - shift) / (variances + C2)  # variances - 2 covariance
    structure = (
        shift + noise - shift * noise
    )  # 1 - (1 - shift) (2 covariance + C2) / (variances + C2)
    edges = (1 + (y - mean_y).abs()) / (1 + (x - mean_x).abs()) - 1
    return torch.stack([structure, edges, -edges]).relu()


def _norm4(maps: Tensor) -> Tensor:
    return maps.square().square().mean((3, 4)).clamp_min(1e-24) ** 0.25


def _blur(x: Tensor) -> Tensor:
    """Return Gaussian means of planes [..., H, W]: beyond top and bottom lies their mirror image, beyond the sides 0."""
    return _rows(x.shape[-2], True).to(x) @ x @ _rows(x.shape[-1], False).to(x).T


@lru_cache(64)
def _rows(side: int, is_mirrored: bool) -> Tensor:
    """Return the blur of one side as a matrix [side, side]."""
    steps = torch.arange(-RADIUS, RADIUS + 1)
    gauss = torch.exp(-steps.double().square() / (2 * SIGMA**2))
    matrix = torch.zeros(side, side, dtype=torch.float64)
    for step, weight in zip(steps.tolist(), (gauss / gauss.sum()).tolist(), strict=True):
        at = torch.arange(side) + step
        seen = at % (2 * side) if is_mirrored else at
        seen = torch.minimum(seen, 2 * side - 1 - seen) if is_mirrored else seen
        inside = (0 <= seen) & (seen < side)
        matrix[torch.arange(side)[inside], seen[inside]] += weight
    return matrix.float()
