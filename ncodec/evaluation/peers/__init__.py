"""The codecs that can be measured, by name: `NAME[:option=value,…]`, such as `avif:speed=2,tune=psnr`;
checkpoints of CompressAI's models by `compressai:FILE`.

A codec turns RGB pixels into the bytes of a file and back, on one thread. What it needs is imported
when it is first used; what is missing is said in one message. A file a kind: pillow, jxl, video, ours, compressai.
"""

from dataclasses import fields
from typing import Any

from ncodec.errors import InputError
from ncodec.evaluation.peers.common import Codec as Codec
from ncodec.evaluation.peers.compressai import Checkpoints, CompressAi
from ncodec.evaluation.peers.jxl import JpegXl
from ncodec.evaluation.peers.ours import Ncodec, chosen_options, our_names
from ncodec.evaluation.peers.pillow import Avif, Jpeg, Jpeg2000, Png, Webp
from ncodec.evaluation.peers.video import Hevc, SvtAv1, Vtm, Vvenc

CODECS: dict[str, type[Codec]] = {
    "jpeg": Jpeg,
    "webp": Webp,
    "avif": Avif,
    "jxl": JpegXl,
    "jpeg2000": Jpeg2000,
    "png": Png,
    "hevc": Hevc,
    "svtav1": SvtAv1,
    "vvenc": Vvenc,
    "vtm": Vtm,
    "ncodec": Ncodec,
    "compressai": CompressAi,
}


def _value(text: str, kind: type, place: str) -> object:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise InputError(f"{place}: expected true or false, found {text!r}")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"{place}: expected {kind.__name__}, found {text!r}") from error


def parse_codec(text: str) -> Codec:
    """Return the codec named by `NAME[:option=value,…]` or `compressai:FILE`; NAME is a key of `CODECS`, a shipped model or a family without weights.

    Raises:
        InputError: no such name or option, or a value of the wrong kind.

    >>> parse_codec("avif:speed=2,subsampling=4:2:0")
    Avif(speed=2, subsampling='4:2:0', tune='')
    """
    name, _, rest = text.partition(":")
    models = our_names()
    kind: Any = CODECS.get(name) or (Ncodec if name in models else None)
    given: dict[str, Any] = {"model": name} if name in models else {}
    if kind is None:
        known = dict.fromkeys([*CODECS, *models])
        raise InputError(f"codec {name!r}: expected one of {', '.join(known)}")
    kinds: dict[str, Any] = {option.name: option.type for option in fields(kind) if option.init}
    if kind is CompressAi and rest and rest.partition("=")[0] not in kinds:
        return Checkpoints(rest)
    own: dict[str, str] = {}  # what only the family of a model of ours knows
    if kind is Ncodec:
        del kinds["options"]
    for part in rest.split(",") if rest else []:
        option, equals, value = part.partition("=")
        if kind is Ncodec and equals and option not in kinds and option not in own:
            own[option] = value
            continue
        if option not in kinds or not equals or option in given:
            raise InputError(
                f"codec {text!r}: expected options {', '.join(k + '=…' for k in kinds if k not in given)}, "
                f"found {part!r}"
            )
        given[option] = _value(value, kinds[option], f"codec {text!r}, {option}")
    if own or (kind is Ncodec and "tune" in given):
        given["options"] = chosen_options(given.get("model", ""), given.get("tune", ""), own)
    return kind(**given)


def codec_name(codec: Codec) -> str:
    """Return the shortest text that `parse_codec` turns into this codec: defaults are left out.

    >>> codec_name(parse_codec("avif:tune=,speed=2"))
    'avif:speed=2'
    """
    if isinstance(codec, Checkpoints):
        return f"compressai:{codec.paths}"
    changed = {
        option.name: getattr(codec, option.name)
        for option in fields(codec)  # type: ignore[arg-type]
        if option.init and getattr(codec, option.name) != option.default
    }  # fmt: skip
    changed |= dict(changed.pop("options", ()))
    name = next(key for key, kind in CODECS.items() if isinstance(codec, kind))
    if name == "ncodec" and changed.get("model") in our_names():
        name = changed.pop("model")
    options = ",".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in changed.items()
    )
    return f"{name}:{options}" if options else name
