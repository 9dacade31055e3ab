"""The training program: learns, resumes, averages over processes, exports what it evaluates."""

import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from conftest import SAMPLE
from PIL import Image

import ncodec
from ncodec.errors import InputError
from ncodec.metrics import psnr
from ncodec.models.hyperprior import Hyperprior, HyperpriorConfig, step_masks
from ncodec.nn.gain import LAMBDAS, at_quality, lmbda_at_quality
from ncodec.nn.priors import FactorizedPrior, ScaleMixture
from ncodec.training.data import block_pca, load_images, random_crops
from ncodec.training.export import export
from ncodec.training.loop import TrainingOptions, train

TINY = HyperpriorConfig(N=16, M=48, Z=8, H=16, S=16, analysis_blocks=1, synthesis_blocks=1)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    picture = Image.open(SAMPLE)
    for i in range(6):
        picture.crop((100 * i, 60 * i, 100 * i + 128, 60 * i + 128)).save(folder / f"{i}.png")
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for i in range(6):
            tar.add(folder / f"{i}.png", f"{i}.png")
    return folder / "shard.tar"


def test_train_resume_export_encode(shard, tmp_path):
    options = TrainingOptions(minutes=0.15, batch=2, crop=64, learning_rate=2e-3)
    train(TINY, options, [shard], [], tmp_path, resume=False)
    first = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    longer = TrainingOptions(minutes=0.25, batch=2, crop=64, learning_rate=2e-3)
    train(TINY, longer, [shard], [], tmp_path, resume=True)
    second = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert second["step"] > first["step"] > 10
    assert second["elapsed_s"] >= first["elapsed_s"]
    assert second["skipped"] == 0
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in log if e.get("event") == "start"] == [0, first["step"]]

    export(tmp_path / "checkpoint.pt", tmp_path / "tiny.safetensors", skip_below=1)
    assert json.loads((tmp_path / "index.json").read_text())["models"][0]["name"] == "tiny"
    image = np.asarray(Image.open(SAMPLE))[:128, :192]
    data = ncodec.encode(image, 6, tmp_path / "tiny.safetensors")
    assert ncodec.info(data).model is None
    decoded = ncodec.decode(data, "numpy", model=tmp_path / "tiny.safetensors")
    assert psnr(image, decoded) > 22


def test_estimate_in_training_is_the_file_size(shard, tmp_path):
    """What `eval()` estimates for a checkpoint is what its exported integers write."""
    options = TrainingOptions(minutes=0.15, batch=2, crop=64, learning_rate=2e-3)
    train(TINY, options, [shard], [], tmp_path, resume=False)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    model = Hyperprior(TINY).eval()
    model.load_state_dict(state["ema"])
    export(tmp_path / "checkpoint.pt", tmp_path / "tiny.safetensors", skip_below=0)
    image = np.asarray(Image.open(SAMPLE))
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    for quality in (2.0, 6.0):
        with torch.no_grad():
            out = model(x, torch.tensor([quality]))
        size = len(ncodec.encode(image, quality, tmp_path / "tiny.safetensors"))
        assert float(out.y_bits + out.z_bits) / 8 == pytest.approx(size, rel=0.01)


def test_two_processes_agree(shard, tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from ncodec.models.hyperprior import HyperpriorConfig\n"
        "from ncodec.training.loop import TrainingOptions, train\n"
        f"train({TINY!r}, TrainingOptions(0.05, 2, 64), [Path({str(shard)!r})], [],"
        f" Path({str(tmp_path)!r}), False)\n"
    )
    script = tmp_path / "two.py"
    script.write_text(program)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script)]
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] > 0


def test_bad_data(tmp_path):
    with pytest.raises(InputError, match="folder of images or a tar"):
        load_images([tmp_path / "absent"], 64)
    with pytest.raises(InputError, match="no image of at least"):
        load_images([tmp_path], 64)
    (tmp_path / "broken.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"broken\.png"):
        load_images([tmp_path], 64)


def test_crops_are_seeded(shard):
    images = load_images([shard], 64)
    a, b = (random_crops(images, 4, 64, np.random.default_rng(7)) for _ in range(2))
    assert a.shape == (4, 3, 64, 64) and torch.equal(a, b) and 0 <= a.min() and a.max() <= 1


def test_pca_is_orthonormal(shard):
    basis, std = block_pca(load_images([shard], 64), 16, 48)
    assert torch.allclose(basis @ basis.T, torch.eye(48), atol=1e-4)
    assert (std.diff() <= 0).all()


def test_lambdas():
    q = torch.tensor([1.0, 4.5, 8.0])
    lmbda = lmbda_at_quality(q).tolist()
    assert lmbda == pytest.approx(
        [LAMBDAS[0], (LAMBDAS[3] * LAMBDAS[4]) ** 0.5, LAMBDAS[7]], rel=1e-5
    )
    table = torch.arange(8.0)[:, None]
    assert at_quality(table, q).flatten().tolist() == [0, 3.5, 7]


def test_context_steps_take_every_latent_once():
    masks = step_masks(5, 3, 4, torch.device("cpu"))
    assert torch.equal(masks.sum(0), torch.ones(5, 3, 4, dtype=torch.long))


def test_priors_sum_to_one():
    for row in ScaleMixture().pmf_rows(511, 2.0**-14)[:40]:
        assert float(row.sum()) == pytest.approx(1, abs=1e-4)
    for row in FactorizedPrior(2).pmf_rows(511, 2.0**-14):
        assert float(row.sum()) == pytest.approx(1, abs=1e-4)
