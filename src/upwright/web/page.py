"""The report as one self-contained HTML page: no script, no other file, nothing from the network.

Everything that a model or a file of the project wrote goes through :func:`html.escape`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from upwright.lines import CandidateLine, Comparison, GenerationLine, Measure, Skill
from upwright.web import programs
from upwright.web.diffs import FileDiff
from upwright.web.facts import Facts, calibration_lines, headline, knowing_told
from upwright.web.frontiers import section
from upwright.web.planned import section as plans
from upwright.web.shapes import picture
from upwright.web.svg import SMALL, Point, curve

Cells = Sequence[str]


def render(facts: Facts) -> str:
    """The whole page."""
    css = (files("upwright") / "web" / "page.css").read_text()
    sections = [_head(facts)]
    if facts.lineage.generations:
        sections += [
            programs.section(facts.lineage, facts.search),
            _curve(facts),
            _generations(facts),
            plans(facts.lineage.plans),
            _worse(facts),
            _rejected(facts.lineage.candidates),
            _totals(facts),
            _trust(facts),
            _reading(),
        ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_t(facts.name)}: Upwright report</title><style>{css}</style></head>"
        f"<body><main>{''.join(sections)}"
        f"<footer>Made by Upwright, {_t(facts.made.replace('T', ' '))}. {_scores(facts)}; brackets are "
        "95 % intervals that hold at every sample size.</footer></main></body></html>\n"
    )


def _scores(facts: Facts) -> str:
    """What a score is, in words."""
    if facts.search is None and programs.objective(facts.lineage) is None:
        return "Scores are shares of right answers"
    return "Scores are the evaluator's metric on a scale where the first program has 50 %"


# ---- the sections -------------------------------------------------------------------------------


def _head(facts: Facts) -> str:
    line = facts.lineage
    champion = line.of(line.champion)
    tiles: list[tuple[str, str, str]] = []
    if champion:
        score = champion.score
        if champion.number and champion.metrics:
            tiles.append(programs.tile(champion.metrics[0]))
        elif score:
            tiles.append(("champion's confirmed score", _pct(score.mean), f"{_span(score)} on {score.n} fresh tasks"))
        elif champion.practice is not None:
            tiles.append(("champion on practice", _pct(champion.practice), "no confirmed score yet"))
        if line.vault and not (champion.metrics and champion.metrics[0].exact):
            total = line.vault[-1].total
            of = line.of(line.vault[-1].digest)
            tiles.append(
                (
                    "total gain on the vault",
                    _points(total.gain.mean),
                    f"{_span(total.gain, signed=True)}, generation {of.number if of else '?'}",
                )
            )
        tiles.append(
            ("kept", f"{len(line.generations) - 1} of {len(line.candidates)}", f"candidates; {line.tests} were tested")
        )
        tiles.append(("spent", _duration(line.spent.seconds), f"{line.spent.tokens:,} tokens".replace(",", " ")))
    if facts.ledger:
        ok = '<span class="good">verifies</span>' if facts.ledger.ok else '<span class="bad">broken</span>'
        tiles.append(("ledger", ok, f"{facts.ledger.entries} entries"))
    body = "".join(f'<div class="tile"><dt>{_t(a)}</dt><dd>{b}<small>{_t(c)}</small></dd></div>' for a, b, c in tiles)
    return f'<h1>{_t(facts.name)}, an Upwright report</h1><p class="headline">{_t(headline(facts))}</p><dl class="tiles">{body}</dl>'


def _curve(facts: Facts) -> str:
    line = facts.lineage
    last = len(line.generations) - 1
    points = [Point(g.number, g.score, g.lever or "", g.rolled_back) for g in line.generations if g.score]
    if not points:
        none = f"<h2>The curve</h2><p>No generation has a confirmed score yet. {_t(facts.trajectory.sentence)}</p>"
        return none + section(line.generations)
    small = "".join(
        f"<figure><figcaption>{_t(skill)} <span>{_pct(measures[-1][1].mean)}</span></figcaption>"
        f"{curve([Point(n, m) for n, m in measures], skill, last, SMALL)}</figure>"
        for skill, measures in facts.curves.items()
    )
    return (
        f"<h2>The curve</h2><p>{_t(facts.trajectory.sentence)}</p>"
        f'<p class="soft">Confirmed score on {_t(line.objective)} in %, each from a fresh draw that decided nothing; bars are 95 % intervals.</p>'
        f"{curve(points, 'Confirmed score by generation', last)}"
        f"{section(line.generations)}"
        f'{"" if facts.search else f"""<h3>By skill</h3><div class="small">{small}</div>"""}'
        f"{_self_knowledge(facts)}"
    )


def _self_knowledge(facts: Facts) -> str:
    told = knowing_told(facts)
    if not told:
        return ""
    items = "".join(f"<li>{_t(sentence)}</li>" for sentence in told)
    return f"<h3>Does it know when it is right?</h3><ul>{items}</ul>"


def _generations(facts: Facts) -> str:
    line = facts.lineage
    cards = [_card(facts, g) for g in reversed(line.generations[1:])]
    none = "<p>Nothing has been promoted yet: the champion is the body that the run started from.</p>"
    return f"<h2>What was kept</h2>{''.join(cards) or none}"


def _card(facts: Facts, g: GenerationLine) -> str:
    badges = [f'<span class="badge">{_t(g.lever or "?")}</span>']
    if g.digest == facts.lineage.champion:
        badges.append('<span class="badge good">champion</span>')
    if g.rolled_back:
        badges.append('<span class="badge warn">rolled back</span>')
    gain = (
        f"{_points(g.confirmation.gain.mean)} points ({_span(g.confirmation.gain, signed=True)})"
        if g.confirmation
        else "gain not confirmed yet"
    )
    seconds, tokens = g.cost.seconds, f"{g.cost.tokens:,}".replace(",", " ")
    parts = [
        f'<article id="generation-{g.number}"><header><b>Generation {g.number}</b>{"".join(badges)}<span>{gain}</span></header>',
        f"<p>Tried because: {_t(g.reason)}</p>",
        f'<p class="soft">Learned from {_t(g.rung or "?")}. Cost {_duration(seconds)} and {tokens} tokens since the generation before, '
        f"of which {_duration(g.build.seconds)} to build it. <code>{_t(g.digest[:16])}</code></p>",
        *_network(facts, g),
        *(_file(f) for f in facts.changes.get(g.digest, ())),
    ]
    if g.evidence:
        parts.append(_evidence(g))
    if g.skills and not g.metrics:
        rows = [_skill(s) for s in sorted(g.skills, key=lambda s: s.former.mean - s.child.mean)]
        table = _table(("skill", "before", "now", "change", "tasks"), rows, numeric=(1, 2, 3, 4))
        parts.append(f"<details><summary>Skills, on fresh tasks</summary>{table}</details>")
    if g.proposal or g.note:
        data = {"settings": dict(g.proposal.settings) if g.proposal else {}, "note": dict(g.note)}
        text = json.dumps(data, indent=2, ensure_ascii=False, default=str)[:20_000]
        parts.append(
            f"<details><summary>The proposal, and what building it noted</summary><pre><span>{_t(text)}</span></pre></details>"
        )
    return "".join([*parts, "</article>"])


def _network(facts: Facts, g: GenerationLine) -> list[str]:
    """The networks of a generation and its parent, side by side, and what of the recipe changed."""
    shapes = facts.shapes.get(g.digest)
    if shapes is None:
        return []
    recipe = f'<p class="soft">Recipe: {_t("; ".join(shapes.recipe))}</p>' if shapes.recipe else ""
    return [f"<figure>{picture(shapes)}</figure>{recipe}"]


def _file(file: FileDiff) -> str:
    if file.lines is None:
        before = "" if file.before_size is None else f"{file.before_size:,} bytes, ".replace(",", " ")
        after = (
            "removed"
            if file.after_size is None
            else f"{file.after_size:,} bytes, <code>{_t((file.after or '')[:16])}</code>".replace(",", " ", 1)
        )
        return f"<p><code>{_t(file.path)}</code> {file.kind}: {before}now {after}</p>"
    kinds = {"+": "add", "-": "del", "@": "at"}
    spans = "".join(f'<span class="{kinds.get(text[:1], "")}">{_t(text) or " "}</span>' for text in file.lines)
    aside = len(file.lines) > 40 or file.path == "improver.toml"  # which every generation brings along
    body = f"<pre>{spans}</pre>"
    title = f"<code>{_t(file.path)}</code> {file.kind}"
    return f"<details{'' if aside else ' open'}><summary>{title}</summary>{body}</details>"


def _evidence(g: GenerationLine) -> str:
    e = g.evidence
    assert e is not None
    rows = [_comparison(c) for c in (e.objective, *e.protected)]
    weight = f"The smallest e-value is {_number(e.e_value)}; {_number(e.threshold)} was needed."
    if e.claim:
        weight = f"{e.weight[0].upper()}{e.weight[1:]}: {e.claim}."
    told = f"Test {e.test}: {_t(e.reason)}. {_t(weight)}"
    columns = ("suite", "claim", "won", "lost", "tied", "mean", "e-value")
    return f"<p>{told}</p><details><summary>Evidence, on sealed tasks</summary>{_table(columns, rows, numeric=(2, 3, 4, 5, 6))}</details>"


def _comparison(c: Comparison) -> Cells:
    claim = "better" if c.margin is None else f"not worse by {100 * c.margin:g} points"
    claim += "" if c.versus == "champion" else " than the last approved"
    mean = "–" if c.mean is None else _points(c.mean)
    weight = _t(c.exactly) or _number(c.e_value)
    return _t(c.suite), claim, str(c.wins), str(c.losses), str(c.ties), mean, weight


def _skill(s: Skill) -> Cells:
    change = s.child.mean - s.former.mean
    told = f'<span class="{"bad" if change < 0 else "good" if change > 0 else ""}">{_points(change)}</span>'
    return (
        _t(s.skill),
        f"{_pct(s.former.mean)} ({_span(s.former)})",
        f"{_pct(s.child.mean)} ({_span(s.child)})",
        told,
        str(s.child.n),
    )


def _worse(facts: Facts) -> str:
    if not facts.worse:
        return "<h2>What got worse</h2><p>Nothing that was measured.</p>"
    rows = []
    for w in facts.worse:
        before, after = ("–" if v is None else _pct(v) for v in (w.before, w.after))
        rows.append(
            (
                str(w.generation),
                _t(w.what),
                before,
                after,
                f'<span class="bad">{_points(w.change)}</span>',
                "yes" if w.certain else "no",
            )
        )
    told = '<p class="soft">Point estimates below the former champion\'s. Most are within chance; the last column says where even the intervals lie apart.</p>'
    return f"<h2>What got worse</h2>{told}{_table(('gen', 'what', 'before', 'after', 'change', 'beyond chance'), rows, numeric=(2, 3, 4))}"


def _rejected(candidates: Iterable[CandidateLine]) -> str:
    rows = []
    kinds = {"REJECT": "bad", "INSUFFICIENT": "warn"}
    for c in candidates:
        if c.why and not c.promoted:
            word = f'<span class="{kinds.get(c.decision or "", "soft")}">{c.decision or "not tested"}</span>'
            gain = "–" if c.gain is None else _points(c.gain)
            rows.append((str(c.round), _t(c.lever), word, gain, _t(c.why), _t(c.reason)))
    if not rows:
        return "<h2>What was rejected</h2><p>Nothing yet.</p>"
    table = _table(
        ("round", "lever", "verdict", "practice", "why not", "why it was tried"), rows, numeric=(0, 3), whole=(1, 2)
    )
    body = table if len(rows) <= 20 else f"<details><summary>All {len(rows)} candidates</summary>{table}</details>"
    return f'<h2>What was rejected</h2><p class="soft">{len(rows)} candidates did not make it.</p>{body}'


def _totals(facts: Facts) -> str:
    line = facts.lineage
    rows = []
    for v in line.vault:
        g = line.of(v.digest)
        t = v.total
        rows.append(
            (
                str(g.number if g else "?"),
                _pct(t.former.mean),
                _pct(t.child.mean),
                f"{_points(t.gain.mean)} ({_span(t.gain, signed=True)})",
                str(t.gain.n),
            )
        )
    table = (
        _table(("gen", "first body", "this generation", "total gain", "tasks"), rows, numeric=(1, 2, 3, 4))
        if rows
        else "<p>It has not been opened.</p>"
    )
    told = '<p class="soft">Tasks that no decision ever used, drawn for the two bodies alone. Each opening is on the ledger.</p>'
    return f"<h2>The vault: total gain</h2>{told}{table}"


def _trust(facts: Facts) -> str:
    line, charter = facts.lineage, facts.charter
    looks = ", ".join(f"{_t(s)} {n}" for s, n in line.looks.items()) or "none"
    items = [
        f"At most {100 * charter.get('error_rate', 0):g} % of promotions are expected to be no improvement ({_t(str(charter.get('error_control', '?')).upper())}), over all {line.tests} tests of this run.",
        f"Sealed tasks drawn: {looks}.",
    ]
    if facts.ledger:
        ok = f"The ledger verifies: {facts.ledger.entries} entries, every hash, signature, threshold and verdict. Root <code>{_t(facts.ledger.root)}</code>."
        broken = f'<b class="bad">The ledger is broken</b> at entry {facts.ledger.index}: {_t(facts.ledger.problem)}.'
        items.append(ok if facts.ledger.ok else broken)
    items += [
        f"Rolled back to <code>{_t(r.digest[:16])}</code> by {_t(r.by)}: {_t(r.why or 'no reason given')}."
        for r in line.rollbacks
    ]
    listed = "".join(f"<li>{item}</li>" for item in items)
    measured = "".join(f"<li>{_t(text)}</li>" for text in calibration_lines(line.calibration or {}))
    none = "<p>Not measured on this machine; <code>upwright calibrate</code> does.</p>"
    return f"<h2>Why believe it</h2><ul>{listed}</ul><h3>Calibration of the gate</h3>{f'<ul>{measured}</ul>' if measured else none}"


def _reading() -> str:
    terms = (
        ("candidate", "a changed body. Most are dropped; one that is kept becomes a generation."),
        (
            "e-value",
            "evidence against “no better”. A body that is no better reaches 20 in at most 1 case of 20, however often one looks.",
        ),
        (
            "confirmed",
            "measured again on fresh tasks after the decision, so that luck in the decision does not flatter the score.",
        ),
        ("sealed, vault", "tasks that the improver never sees; the vault’s are not used for decisions either."),
    )
    listed = "".join(f"<dt><b>{a}</b></dt><dd>{b}</dd>" for a, b in terms)
    return f"<h2>How to read this</h2><dl>{listed}</dl>"


# ---- small pieces -------------------------------------------------------------------------------


def _table(columns: Cells, rows: Iterable[Cells], numeric: Sequence[int] = (), whole: Sequence[int] = ()) -> str:
    """A table; ``numeric`` columns stand to the right, ``whole`` ones are not broken."""

    def cell(tag: str, i: int, text: str) -> str:
        kind = ' class="n"' if i in numeric else ' class="w"' if i in whole else ""
        return f"<{tag}{kind}>{text}</{tag}>"

    head = "".join(cell("th", i, c) for i, c in enumerate(columns))
    body = "".join("<tr>" + "".join(cell("td", i, c) for i, c in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _t(text: str) -> str:
    return escape(text, quote=True)


def _pct(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _span(m: Measure, *, signed: bool = False) -> str:
    form = "{:+.1f}" if signed else "{:.1f}"
    return f"{form.format(100 * m.interval.low)} to {form.format(100 * m.interval.high)}"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}".replace(",", " ") if value < 1e6 else f"{value:.1e}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
