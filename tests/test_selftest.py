"""Shipped models decode today what they decoded when they were shipped."""

from dataclasses import replace

import pytest
from ncodec.cli.main import app
from typer.testing import CliRunner

import ncodec
from ncodec.errors import WeightsMismatchError
from ncodec.selftest import make_self_test, symbols_sha256, verify

MODELS = ncodec.list_models()


@pytest.mark.parametrize("entry", MODELS, ids=lambda entry: entry.name)
def test_shipped_models(entry):
    verify(entry)
    assert make_self_test(entry.path)["file"]  # encoders may change, decoders may not


def test_command():
    done = CliRunner().invoke(app, ["models", "--verify"])
    assert done.exit_code == 0 and done.stdout.count(": verified") == len(MODELS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbols_sha256": "00"}, "expected symbols_sha256 00, found"),
        ({"psnr": 99.0}, r"expected psnr 99\.0, found"),
    ],
)
def test_another_result_is_refused(change, message):
    entry = MODELS[0]
    with pytest.raises(WeightsMismatchError, match=message):
        verify(replace(entry, self_test=entry.self_test | change))


def test_digest_covers_every_latent():
    import base64

    entry = MODELS[0]
    data = base64.b64decode(entry.self_test["file"])
    other = ncodec.encode(ncodec.decode(data, "numpy") // 2, 4, device="cpu")
    assert symbols_sha256(data, entry.path) != symbols_sha256(other, entry.path)
