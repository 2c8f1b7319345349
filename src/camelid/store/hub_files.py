"""Which files of a Hugging Face repository a name means: a GGUF file by its quantization, or the safetensors.

Separate because it is plain choosing among names: nothing is fetched here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from camelid.errors import NotFound, RegistryError

from .names import DEFAULT_TAG, Name

SAFETENSORS = "safetensors"
MAX_FILES = 4096
# What is taken where a name says nothing: the first of these that is there, else the first file.
PREFERRED = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q5_K_S", "Q6_K", "Q8_0", "Q4_1", "IQ4_XS", "IQ4_NL", "Q3_K_M")
COMPANIONS = frozenset(
    ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model")
) | frozenset(("special_tokens_map.json", "chat_template.jinja", "model.safetensors.index.json"))
LICENSES = ("LICENSE", "LICENSE.txt", "LICENSE.md")

_QUANT = re.compile(
    r"(?:^|[-._/])((?:I?Q[1-8]|TQ[12]|BF16|F16|FP16|F32|MXFP4)(?:_[A-Z0-9]+)*)(?=[-./]|$)", re.IGNORECASE
)
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?:gguf|safetensors)")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. `sha256` is known of large files (LFS); `git` is the id of its blob in git."""

    path: str
    size: int
    sha256: str | None
    git: str

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Chosen:
    """The files of one model. `weights` are GGUF files (all shards), or safetensors."""

    label: str  # the quantization, or `safetensors`
    weights: tuple[HubFile, ...]
    companions: tuple[HubFile, ...] = ()

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are GGUF."""
        return self.label != SAFETENSORS


def choose(name: Name, files: Sequence[HubFile]) -> Chosen:
    """Return the files that a name's tag means: a quantization, the name of a file, `safetensors`, or the best of all.

    Raises NotFound, with what there is, and RegistryError where shards are missing.
    """
    variants = variants_of(files)
    tag = name.tag
    if tag == DEFAULT_TAG:
        wanted = next((label for label in PREFERRED if label in variants), next(iter(variants), None))
    else:
        wanted = next((label for label, found in variants.items() if _is_meant(tag, label, found)), None)
    if wanted is None:
        listed = ", ".join(variants) or "neither GGUF files nor safetensors"
        hint = f"write one of them behind a colon: hf.co/{name.repository}:{next(iter(variants))}" if variants else None
        raise NotFound(f"hf.co/{name.repository} has no {tag!r}; it has {listed}", hint=hint)
    return variants[wanted]


def variants_of(files: Sequence[HubFile]) -> dict[str, Chosen]:
    """Return the models that a repository holds, by label: its quantizations, and its safetensors."""
    found: dict[str, list[HubFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        if file.path.endswith(".gguf") and "mmproj" not in file.file_name.lower():
            found.setdefault(_label(file), []).append(file)
    variants = {label: Chosen(label, _one_model(label, group)) for label, group in found.items()}
    tensors = [file for file in files if _is_weights(file)]
    if tensors:
        beside = [file for file in files if file.path in COMPANIONS]
        variants[SAFETENSORS] = Chosen(SAFETENSORS, tuple(sorted(tensors, key=lambda file: file.path)), tuple(beside))
    return variants


def license_of(files: Sequence[HubFile]) -> HubFile | None:
    """Return the file that holds the licence, if there is one."""
    return next((file for file in files if file.path in LICENSES), None)


def _is_weights(file: HubFile) -> bool:
    is_plain = file.path == "model.safetensors" or file.path.startswith("model-")
    return is_plain and file.path.endswith(".safetensors")


def _label(file: HubFile) -> str:
    found = _QUANT.findall(file.path.removesuffix(".gguf"))
    return str(found[-1]).upper() if found else file.file_name.removesuffix(".gguf")


def _one_model(label: str, group: list[HubFile]) -> tuple[HubFile, ...]:
    """Return the files of one model: a whole file where there is one, else the shards of one set."""
    whole = [file for file in group if not _SHARD.fullmatch(file.file_name)]
    if whole:
        return (whole[0],)
    first = _SHARD.fullmatch(group[0].file_name)
    stem, count = (first["stem"], int(first["count"])) if first else ("", 0)
    shards = [file for file in group if file.file_name.startswith(f"{stem}-")]
    if len(shards) != count:
        raise RegistryError(f"{label} has {len(shards)} of its {count} shards in the repository")
    return tuple(shards)


def _is_meant(tag: str, label: str, found: Chosen) -> bool:
    return tag.upper() == label.upper() or tag.lower() in {file.file_name.lower() for file in found.weights}
