"""How `ncodec train` adds a masked transformer to a tokenizer's weights. A `training.recipe.Recipe`.

    images --the tokenizer, as it is--> tokens --> transformer, from the tokenizer's coder --training/loop.py--> transformer
                                          +------> what fills in lost ones, beside it
    its weights file + their integers --> weights file

The tokenizer's integers run at every step, some milliseconds a crop, so crops may lie anywhere, and tokens are those of files.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ncodec.errors import InputError, named
from ncodec.models import weights
from ncodec.models.load import load_by_name
from ncodec.models.tokenizer import recipe
from ncodec.models.tokenizer.codec import TokenizerCodec
from ncodec.models.tokenizer.fill_network import metric_of, random_losses
from ncodec.models.tokenizer.masked import MaskedConfig
from ncodec.models.tokenizer.masked_quantise import load_integers, to_integers
from ncodec.models.tokenizer.stages import STRIDE, n_stages
from ncodec.models.tokenizer.transformer import Masked, random_windows
from ncodec.nn.training import Objective, ParameterGroups, TrainingOutput, no_lessons
from ncodec.quality import MAX_QUALITY_CODE, quality_code

CROP_STRIDE = STRIDE
EFFORT = 2
FAMILY = "tokenizer-masked"  # in families.RECIPES
OBJECTIVES = {"ms-ssim": Objective(empty_bpp=1e-4)}  # of rates: the tokens are what they are
CALIBRATION_IMAGES = 32
FILLING = 0.002  # bits a pixel for the error of what is filled in, over that of the line
SLOW = 0.3
diagnose = recipe.diagnose
kmac_per_pixel = recipe.kmac_per_pixel
lessons = no_lessons


@dataclass(frozen=True)
class Config(MaskedConfig):
    """Sizes, and whose tokens: a shipped model, or a weights file."""

    of: str = "fsq-s"


def tokenizer_of(config: Config) -> TokenizerCodec:
    """Return the tokenizer that a config names; InputError unless it is one."""
    with named("config: model.of: "):
        loaded = load_by_name(config.of)
        if not isinstance(loaded.codec, TokenizerCodec):
            raise InputError(
                f"expected a tokenizer, found {config.of} of family {loaded.family.name}"
            )
    return loaded.codec


class MaskedTokens(nn.Module):
    """The transformer, and the tokenizer that makes its tokens, which stays as it is."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        tables = {
            s: self.codec.tensors[f"tokens.{s}.values"]
            for s, stage in enumerate(self.codec.stages)
            if not stage.levels
        }
        self.transformer = Masked(config, self.codec.stages, tables)
        self.metric = metric_of(self.codec.tensors)

    @property
    def codec(self) -> TokenizerCodec:
        """The tokenizer."""
        return tokenizer_of(self.config)

    def tokens(self, x: Tensor) -> Tensor:
        """Return tokens [B, S, h, w] of images [B, 3, H, W]."""
        pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        grids = [self.codec.analyse(np.ascontiguousarray(one), MAX_QUALITY_CODE) for one in pixels]
        return torch.from_numpy(np.stack(grids)).long().to(x.device)

    def forward(
        self,
        x: Tensor,
        q: Tensor,
        noise: list[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> TrainingOutput:
        """Return images [B, 3, H, W], decoded, and the bits of whole stages; with noise, of a random stage of each crop."""
        tokens = self.tokens(x)
        if noise is None:
            return self._files(tokens, q)
        seed = torch.randint(2**31, (1,), generator=noise[0], device=noise[0].device)
        rng = np.random.default_rng(int(seed))
        stages = ((rng.integers(8) + np.arange(len(x))) % tokens.shape[1]).tolist()
        rows, columns = (random_windows(n, rng) for n in tokens.shape[2:])
        each = [slice(i, i + 1) for i in range(len(x))]
        seen = [self.transformer.seen(tokens[i], s) for i, s in zip(each, stages, strict=True)]
        inputs, near = (torch.cat(parts) for parts in zip(*seen, strict=True))
        f = self.transformer.features(inputs, near, rows, columns)
        bits = []
        for i, s in zip(each, stages, strict=True):
            cost = self.transformer.cost(f[i], tokens[i, s], rows, columns, s)
            bits.append(cost.sum() / max(len(cost), 1))
        places = tokens.shape[2] * tokens.shape[3]
        bits_of = {"tokens": torch.stack(bits) * (places / math.log(2))}
        return TrainingOutput(x, bits_of, self._filling(tokens, rng))

    def _filling(self, tokens: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the penalty [B] for errors of what is filled in where random tokens are lost."""
        n_stages = int(rng.integers(1, tokens.shape[1] + 1))
        known = random_losses(tokens.shape, n_stages, rng).to(tokens.device)
        metric = self.metric.to(tokens.device)
        filled, line = self.transformer.fill_errors(tokens, known, n_stages, metric)
        return FILLING * filled / (line + line.mean() + 1)  # smooth crops count, if less

    @torch.no_grad()
    def _files(self, tokens: Tensor, q: Tensor) -> TrainingOutput:
        """Return what files of whole qualities are."""
        pixels, bits = [], []
        for one, quality in zip(tokens, q.tolist(), strict=True):
            code = quality_code(quality)
            n = n_stages(code)
            bits.append(self.transformer.file_bits(one[None], n))
            grid = one[:n].cpu().numpy().astype(np.int32)
            pixels.append(torch.from_numpy(self.codec.synthesise(grid, code)).permute(2, 0, 1))
        x_hat = torch.stack(pixels).float().to(q.device) / 255
        return TrainingOutput(x_hat, {"tokens": torch.stack(bits).to(q.device)})


def build(config: Config) -> MaskedTokens:
    """Return a network with random weights."""
    return MaskedTokens(config)


def start(config: Config, images: list[Tensor]) -> MaskedTokens:
    """Return a network that codes as the tokenizer's own coder does.

    Args:
        config: sizes.
        images: not needed.
    """
    network = MaskedTokens(config)
    network.transformer.start_from(network.codec.tensors)
    return network


def parameter_groups(network: MaskedTokens) -> ParameterGroups:
    """Return the dense layers as matrices, and the others."""
    matrices: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    dense = {id(module.weight) for module in network.modules() if isinstance(module, nn.Linear)}
    for name, parameter in network.named_parameters():
        if id(parameter) in dense:
            matrices.append(parameter)
        elif "near" in (parts := name.split(".")) or (
            parts[-2].isdigit() and parts[-1] in ("bias", "own")
        ):
            slow.append(parameter)  # they begin where the coder is
        else:
            rest.append(parameter)
    return ParameterGroups([(1.0, matrices)], [(SLOW, slow), (1.0, rest)])


def estimate(network: MaskedTokens, x: Tensor, q: Tensor) -> TrainingOutput:
    """Return reconstruction and rate of files; their contexts adapt besides, which saves some."""
    return cast(TrainingOutput, network(x, q))


def as_start(
    config: Config, tensors: Mapping[str, NDArray[Any]], about: dict[str, Any]
) -> dict[str, Any]:
    """Return what a tokenizer's weights file says of its transformer.

    Raises:
        InputError: it has none, or one for another tokenizer's tokens than the config's.
    """
    if "masked" not in about:
        raise InputError(
            f"start from a tokenizer with a masked transformer: found weights of family {about['family']} without"
        )
    codec = tokenizer_of(config)
    if not all(
        np.array_equal(tensors.get(name, 0), part)
        for name, part in recipe.without_transformer(codec.tensors).items()
    ):
        raise InputError(f"its transformer is not for tokens of {config.of}")
    return about | {"family": FAMILY, "config": about["masked"] | {"of": config.of}}


def from_weights(tensors: Mapping[str, NDArray[Any]], about: dict[str, Any]) -> MaskedTokens:
    """Return the float network whose integers these are, as near as they tell.

    Raises:
        ValueError, KeyError, RuntimeError: tensors are missing or of the wrong shape.
    """
    network = MaskedTokens(Config(**about["config"]))
    load_integers(network.transformer, tensors)
    return network


def to_weights(
    network: MaskedTokens, images: list[Tensor]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the tokenizer's tensors with those of the transformer, and what the file says beside them."""
    config = network.config
    tensors, about, _ = weights.read(weights.find_by_name(config.of))
    grids = recipe.grids_of_tokens(tensors, network.codec.config, images[:CALIBRATION_IMAGES])
    ours, _ = to_integers(network.transformer, torch.from_numpy(grids).long())
    sizes = asdict(config)
    del sizes["of"]
    about = {name: value for name, value in about.items() if name != "name"}
    return recipe.without_transformer(tensors) | ours, about | {"masked": sizes}
