"""How `ncodec train` trains family `ftic`: start, parameter groups, weights file. A `training.recipe.Recipe`.

hyperprior-s --all it has--> network, what is new silent --training/loop.py--> network --> weights file
weights file --> network, priors fitted -----//
"""

from torch import Tensor, nn

from ncodec.errors import InputError
from ncodec.models import weights
from ncodec.models.ftic.layers import FticConfig as Config
from ncodec.models.ftic.network import Ftic, take_over
from ncodec.models.hyperprior import recipe as hyperprior
from ncodec.nn.training import ParameterGroups

TRUNK = "hyperprior-s"  # what training starts from
NEW = (".fat.", ".deep.", ".channels.", ".rows.")  # in names of parameters that hyperprior has not
OLD, SLOWEST, FAST = 0.25, 0.01, 3.0  # what is trained already, and of that the linear path


def build(config: Config) -> Ftic:
    """Return a network with random weights."""
    return Ftic(config)


def start(config: Config, images: list[Tensor]) -> Ftic:
    """Return the network of `hyperprior-s`, with what is new in it silent.

    Raises:
        InputError: the config has other sizes.
    """
    trunk = hyperprior.from_weights(*weights.read(weights.find_by_name(TRUNK))[:2])
    for size in ("N", "M", "Z", "H", "S", "B", "analysis_blocks", "synthesis_blocks"):
        found, expected = getattr(config, size), getattr(trunk.config, size)
        if found != expected:
            raise InputError(f"{size}: expected {expected}, that of {TRUNK}, found {found}")
    network = Ftic(config)
    take_over(network, trunk.state_dict())
    return network


def parameter_groups(network: Ftic) -> ParameterGroups:
    """Return the 1x1 convolutions as matrices, and the others; what hyperprior-s knows already learns slowly."""
    dense = {
        id(module.weight)
        for module in network.modules()
        if type(module) is nn.Conv2d and module.kernel_size == (1, 1)
    }
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        is_matrix = id(parameter) in dense
        share = OLD
        if any(part in f".{name}" for part in NEW):
            share = FAST if name.endswith(("attention.bias", "modulation.weight")) else 1.0
        elif name.startswith(("g_a.linear", "g_s.linear")):
            share = SLOWEST
        elif name.startswith(("log_", "index_offset", "prior_")):
            share = FAST * OLD
        groups.setdefault((is_matrix, share), []).append(parameter)
    matrices, others = (
        [(share, group) for (is_matrix, share), group in groups.items() if is_matrix == wanted]
        for wanted in (True, False)
    )
    return ParameterGroups(matrices, others)
