"""What Pillow itself lacks: its plugins for HEIF and JPEG XL, where they are installed."""

import importlib

from ncodec.errors import InputError

PLUGINS = {"HEIF": ("pillow_heif", "pillow-heif"), "JPEG XL": ("pillow_jxl", "pillow-jxl-plugin")}
FORM_OF_SUFFIX = {".heic": "HEIF", ".heif": "HEIF", ".jxl": "JPEG XL"}


def add_plugin(form: str) -> None:
    """Have Pillow read and write a format.

    Raises:
        InputError: its plugin is not installed.
    """
    module, package = PLUGINS[form]
    try:
        plugin = importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{form} takes a plugin of Pillow: pip install {package}") from error
    if form == "HEIF":  # the other one registers itself
        plugin.register_heif_opener()


def reason(error: Exception) -> str:
    """Return what another library's exception says, by its name where it says nothing."""
    return str(error) or type(error).__name__
