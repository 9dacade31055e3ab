"""kodak_eval/losses.py: what is lost is what was chosen, and what it says of that is so."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import ncodec
import ncodec.models.load
from ncodec import container
from ncodec.models.weights import family_named

sys.path.append(str(ROOT / "kodak_eval"))
import losses

TOKENIZERS = [m.name for m in ncodec.list_models() if family_named(m.family).has_tokens]


@pytest.fixture(params=TOKENIZERS[:1])
def model(request):
    return request.param


def test_what_is_lost(crop, model):
    data = ncodec.encode(crop, 4, model, tile=0, ranges=3)
    chunks = losses.chunks_of(data)
    assert len(chunks) == 12 and chunks[-1].stop == len(data)
    assert all(a.stop == b.start for a, b in pairwise(chunks))
    assert losses.lose(data, [], (0,)) == data
    damaged = losses.lose(data, [1, 7], (0,))
    payloads = container.read(damaged, conceal=True).payloads
    assert [i for i, payload in enumerate(payloads) if payload is None] == [1, 7]
    tokens = ncodec.models.load.load_by_name(model, "cpu").codec.read(
        container.read(damaged, conceal=True).tiles[0], 60, (9, 13)
    )
    assert losses.gone([1, 7], 4, 3) == pytest.approx((tokens < 0).mean())  # rows come in threes
    assert losses.lose(data, [1, 7], (0,)) == damaged != losses.lose(data, [1, 7], (1,))


def test_choice():
    assert losses.choose(40, 0.1, (1, 2)) == losses.choose(40, 0.1, (1, 2))
    assert losses.choose(40, 0.1, (1, 2)) != losses.choose(40, 0.1, (1, 3))
    assert [len(set(losses.choose(32, share, (0,)))) for share in losses.SHARES] == [0, 2, 3, 6]


def test_tables(sample, model, tmp_path, monkeypatch, capsys):
    """A row each; more loss is worse; a prefix is the file of its quality."""
    Image.fromarray(sample[:192, :192]).save(tmp_path / "a.png")
    monkeypatch.setattr(losses, "QUALITIES", (2,))
    monkeypatch.setattr(sys, "argv", ["losses.py", str(tmp_path), "--model", model])
    losses.main()
    lines = [
        line.split(" | ") for line in capsys.readouterr().out.splitlines() if line[:3] != "|--"
    ]
    lost, prefix = ([r for r in lines if len(r) == n and r[0][2:].isdigit()] for n in (7, 6))
    ways = len(lost) // 4  # with its transformer, and from neighbours alone
    assert [row[2] for row in lost] == ["0.0%", "6.2%", "9.4%", "18.8%"] * ways
    assert float(lost[0][4]) > float(lost[3][4])
    assert [row[3] for row in prefix] == ["1 of 1"] * 8
    rates = np.array([[float(rate) for rate in row[1:3]] for row in prefix])
    assert (np.diff(rates[:, 0]) > 0).all() and np.allclose(rates[:, 0], rates[:, 1], atol=0.003)
