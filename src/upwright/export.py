"""A generation as a directory that other programs load, with a model card that says how it came to be.

Hugging Face weights come out merged, so that plain ``transformers`` loads the directory and knows nothing
of Upwright; any other body comes out as its parts.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upwright.bodies._think import CUE
from upwright.bodies.body import Body
from upwright.bodies.store import Store
from upwright.drafts import recover
from upwright.errors import BodyError, ProjectError, StorageError
from upwright.lineage import read_lineage
from upwright.lines import Comparison, GenerationLine, Lineage, Measure
from upwright.project import Project
from upwright.records import to_json
from upwright.warden.charter import Charter
from upwright.warden.errors import WardenFault

ORIGIN = "model/origin.toml"
"""What ``init`` writes about a model: its name, licence and SHA-256."""
WEIGHTS = (".safetensors", ".bin", ".index.json")


def export(project: Project, generation: str, directory: Path) -> Path:
    """Write ``directory``, whole or not at all; the generation is checked byte for byte first.

    Args:
        generation: its number, ``champion``, or the beginning of its digest.
        directory: a new one, or an empty one.

    Raises:
        ProjectError: there is no such generation, or the directory is not empty.
        StorageError: a stored file no longer matches its digest, or the disk is full.
        MissingExtra: weights are to be merged and torch or transformers is not installed.
    """
    line = read_lineage(project)
    digest = line.resolve(generation)
    target = Path(directory).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ProjectError("the directory to export to is not empty", value=str(target), todo="give a new one")
    store = Store(project.state / "store")
    store.verify(recover(project, store, digest).digest)
    body = Body(store.checkout(digest), digest)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise StorageError(f"cannot export: {error.strerror}", value=str(target), todo="name another place") from None
    try:
        if body.has("model/config.json"):
            _write_hf(body, staged)
        else:
            shutil.copytree(body.root, staged, dirs_exist_ok=True, copy_function=shutil.copyfile)
        (staged / "README.md").write_text(card(project, line, digest, body))
        (staged / "lineage.json").write_text(json.dumps(to_json(line), indent=1, ensure_ascii=False) + "\n")
        staged.chmod(0o755)
        if target.exists():
            target.rmdir()
        staged.rename(target)
    except OSError as error:
        raise StorageError(f"cannot export: {error.strerror or error}", value=str(target), todo="free space") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return target


def _write_hf(body: Body, target: Path) -> None:
    """Config, tokenizer and merged weights at the top; the other parts beside them."""
    model = body.root / "model"
    merged = (model / "adapter" / "adapter_config.json").exists()
    for path in sorted(model.rglob("*")):
        inside = path.relative_to(model)
        if path.is_dir() or inside.parts[0] == "adapter" or (merged and path.name.endswith(WEIGHTS)):
            continue
        (target / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / inside)
    if merged:
        _merge(model, target)
    for path in sorted(body.root.iterdir()):
        if path.name == "model":
            continue
        if path.is_dir():
            shutil.copytree(path, target / path.name, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(path, target / path.name)
    _write_generation_config(body, target / "generation_config.json")


def _merge(model: Path, target: Path) -> None:
    """Base and adapter as one set of safetensors, in the base's own number format."""
    try:
        import torch

        from upwright.bodies.runtimes._weights import load
    except ImportError as error:
        from upwright.errors import MissingExtra

        raise MissingExtra(error.name or "torch", "models") from None
    config = json.loads((model / "config.json").read_text())
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    load(model, getattr(torch, name, torch.float32), torch.device("cpu")).save_pretrained(target)
    shutil.copyfile(model / "config.json", target / "config.json")


def _write_generation_config(body: Body, path: Path) -> None:
    """The body's decoding, as far as a generation config can say it."""
    inference = body.inference
    data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for key in ("do_sample", "temperature", "top_p", "max_length"):
        data.pop(key, None)
    data["max_new_tokens"] = inference.max_tokens + inference.think
    data["do_sample"] = inference.temperature > 0
    if inference.temperature > 0:
        data |= {"temperature": inference.temperature, "top_p": inference.top_p}
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n")


# ---- the model card -----------------------------------------------------------------------------


def card(project: Project, line: Lineage, digest: str, body: Body) -> str:
    """README.md: what this is, how it came to be, the evidence, the licence, the limits."""
    origin = _origin(body)
    found = line.of(digest)
    name = (
        f"{project.root.name}, generation {found.number}" if found else f"{project.root.name}, candidate {digest[:12]}"
    )
    head: dict[str, Any] = {"license": origin.get("licence", "other").lower(), "tags": ["upwright"]}
    if body.has("model/config.json"):
        head["library_name"] = "transformers"
    if "/" in origin.get("name", ""):
        head["base_model"] = origin["name"]
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    sections = [
        f"---\n{front}\n---\n\n# {name}\n\n{_what(line, found)}",
        _use(body),
        _lineage(line, found),
        _evidence(found),
        _limits(project, line, found),
        f"## Licence\n\nBase model: {origin.get('name', 'unknown')}. Its licence: {origin.get('licence', 'unknown; ask its source')}. "
        "What was trained or written on top comes under the same terms.\n",
        f"Digest of the body: `{digest}`. `lineage.json` holds the whole account.\n",
    ]
    return "\n".join(section for section in sections if section)


def _origin(body: Body) -> Mapping[str, str]:
    try:
        return {k: str(v) for k, v in tomllib.loads((body.root / ORIGIN).read_text()).items()}
    except (OSError, tomllib.TOMLDecodeError):
        return {}


def _what(line: Lineage, found: GenerationLine | None) -> str:
    told = f"Made by Upwright, which rebuilds a body and keeps what it can prove. Objective: {line.objective}."
    if found and found.score:
        told += f" Confirmed score: {_score(found.score)}, on {found.score.n} fresh tasks."
    for v in line.vault:
        if found and v.digest == found.digest:
            told += f" Total gain over the first body, on vault tasks: {_gain(v.total.gain)}."
    return told + "\n"


def _use(body: Body) -> str:
    if not body.has("model/config.json"):
        return "## Use\n\nThe parts of the body are in this directory, as Upwright runs them.\n"
    inference = body.inference
    extra = ""
    if inference.think:
        extra = (
            f"\nUpwright asks it to think before it answers ({CUE}) and reads the answer off the marked line: put that sentence "
            "after the instructions.\n"
        )
    if inference.samples > 1 or inference.refine or body.memory:
        extra += (
            f"\nUpwright ran it with {inference.samples} sample(s) per question (chosen by {inference.choose}), {inference.refine} "
            f"round(s) of refinement and {len(body.memory)} entries of memory; plain transformers does none of that, "
            "so expect other scores than those below.\n"
        )
    return (
        "## Use\n\n```python\nfrom pathlib import Path\nfrom transformers import pipeline\n\n"
        'chat = pipeline("text-generation", model=".")\n'
        'messages = [{"role": "system", "content": Path("prompt.md").read_text()}, {"role": "user", "content": "…"}]\n'
        'print(chat(messages)[0]["generated_text"][-1]["content"])\n```\n' + extra
    )


def _lineage(line: Lineage, found: GenerationLine | None) -> str:
    rows = []
    while found is not None:
        gain = _gain(found.confirmation.gain) if found.confirmation else "–"
        rows.append(
            f"| {found.number} | {found.lever or '–'} | {_score(found.score)} | {gain} | {_cell(found.reason)} |"
        )
        found = line.of(found.parent) if found.parent else None
    table = "\n".join(reversed(rows))
    return f"## Lineage\n\n| generation | lever | confirmed score | gain | tried because |\n|---|---|---|---|---|\n{table}\n"


def _evidence(found: GenerationLine | None) -> str:
    if not found or not found.evidence:
        return ""
    e = found.evidence
    told = f"Test {e.test}: {e.reason}. Smallest e-value {e.e_value:.3g}, {e.threshold:.0f} was needed."
    rows = [
        f"| {_cell(c.suite)} | {_claim(c)} | {c.wins} | {c.losses} | {c.ties} | {c.e_value:.3g} |"
        for c in (e.objective, *e.protected)
    ]
    return (
        f"## Evidence\n\n{told}\n\n| suite | claim | won | lost | tied | e-value |\n|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _claim(c: Comparison) -> str:
    claim = "better" if c.margin is None else f"not worse by {100 * c.margin:g} points"
    return claim if c.versus == "champion" else f"{claim} than the last approved generation"


def _limits(project: Project, line: Lineage, found: GenerationLine | None) -> str:
    try:
        charter = Charter.parse(project.charter_path.read_text())
        rate = f"At most {100 * charter.error_rate:g} % of a run's promotions are expected to be no improvement. "
    except (OSError, WardenFault, BodyError):
        rate = ""
    worse = [s.skill for s in found.skills if s.child.mean < s.former.mean] if found and found.number else []
    told = f"In this generation these skills scored lower than before: {', '.join(worse)}. " if worse else ""
    return (
        f"## Limits\n\n{rate}The gain is on {line.objective} as its tasks are drawn here; it says nothing about other work, and "
        f"nothing about safety. {told}Only the protected suites were watched for losses. Small losses within their margins may have happened.\n"
    )


def _cell(text: str) -> str:
    for mark, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(mark, safe)
    return text


def _score(m: Measure | None) -> str:
    return "–" if m is None else f"{100 * m.mean:.1f} % ({100 * m.interval.low:.1f} to {100 * m.interval.high:.1f})"


def _gain(m: Measure) -> str:
    return f"{100 * m.mean:+.1f} points ({100 * m.interval.low:+.1f} to {100 * m.interval.high:+.1f})"
