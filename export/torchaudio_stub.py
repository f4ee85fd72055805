"""Let SpeechBrain import where no torchaudio fits the installed torch.

SpeechBrain 1.x imports ``torchaudio`` at the top of modules on the way to its ECAPA-TDNN, but on
16 kHz mono tensors it calls nothing in it. PyPI's torchaudio links CUDA and follows torch's
releases at a distance, so a CPU environment often has none that loads. :func:`install` puts an
empty stand-in in its place; whatever is really asked of it raises and says why.

Call it before the first ``import speechbrain``::

    from export import torchaudio_stub

    torchaudio_stub.install()
    from speechbrain.inference.speaker import EncoderClassifier
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

# SpeechBrain parses the version, and from 2.9 on it asks torchaudio for no list of backends.
_STUB_VERSION = "2.9.0"
_MODULES = ("torchaudio", "torchaudio.transforms", "torchaudio.functional")


class TorchaudioMissingError(AttributeError):
    """Something was asked of torchaudio that the stand-in doesn't have."""


def install() -> bool:
    """Put a stand-in for torchaudio into ``sys.modules`` unless a working torchaudio is there.

    Also imports SpeechBrain, where it is installed, and forgets its aliases of old module names.
    Calling it again changes nothing.

    Returns:
        True when the stand-in is in place, False when the real torchaudio was imported.
    """
    replaced = _replace()
    _forget_old_names()
    return replaced


def _replace() -> bool:
    present = sys.modules.get("torchaudio")
    if present is not None:
        return _is_stub(present)
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):  # absent, or linked against libraries that are not here
        for name in _MODULES:
            sys.modules[name] = _empty_module(name)
        for name in _MODULES[1:]:
            setattr(sys.modules["torchaudio"], name.rpartition(".")[2], sys.modules[name])
        return True
    return False


def _forget_old_names() -> None:
    """Drop SpeechBrain's redirections of modules that moved.

    They are modules that import others, and warn, as soon as anybody looks at them; whoever walks
    ``sys.modules`` (pytest's and hypothesis' bookkeeping, torch's exporter) sets them off.
    """
    if importlib.util.find_spec("speechbrain") is None:
        return
    from speechbrain.utils.importutils import DeprecatedModuleRedirect

    aliases = [n for n, m in sys.modules.items() if isinstance(m, DeprecatedModuleRedirect)]
    for name in aliases:
        del sys.modules[name]


def _is_stub(module: ModuleType) -> bool:
    return module.__spec__ is not None and module.__spec__.loader is None


def _empty_module(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, loader=None, is_package=name == "torchaudio")
    if name == "torchaudio":
        module.__dict__["__version__"] = _STUB_VERSION

    def refuse(attribute: str) -> NoReturn:
        raise TorchaudioMissingError(
            f"{name}.{attribute} was asked for, but this environment has no torchaudio: "
            "give SpeechBrain 16 kHz mono samples, or install a torchaudio that fits torch"
        )

    module.__dict__["__getattr__"] = refuse
    return module
