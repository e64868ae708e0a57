"""Language models behind OpenAI-compatible endpoints as proposers, chosen between by what they gained for what they cost.

An endpoint is written ``URL#MODEL``, with settings behind a question mark where it needs any:
``https://api.example.org/v1#large?api_key_env=EXAMPLE_KEY&price_in=0.5&price_out=1.5`` (the names are those of
:class:`~upwright.bodies.runtimes.openai.Endpoint`; prices are per million tokens; the key itself is never written).

Which one is asked is drawn by Thompson sampling: the share of gains in its drafts over what one of them costs, seconds and money
together (:class:`~upwright.evolution.bandit.Bandit`). A gain is a score above the parent's, as the evaluator measured it. A reply that cannot be applied goes
back once with the reason; one that is refused again counts against its model, and its reason is in the next prompt. An endpoint that
cannot be reached rests, each time twice as long.

Departure from other proposers' contract: the same brief brings the same drafts only as far as the endpoints repeat themselves.
"""

from __future__ import annotations

import random
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl

import msgspec
import tomli_w

from upwright.bodies.body import Body
from upwright.bodies.runtimes.base import Completion, Message, Request, Runtime
from upwright.bodies.runtimes.openai import Endpoint, OpenAIRuntime
from upwright.errors import BuildError, RuntimeFailure
from upwright.evolution.bandit import Bandit
from upwright.evolution.edits import EditError, apply, parse_reply
from upwright.evolution.proposers.base import Brief, Draft, Program, Result
from upwright.evolution.proposers.prompts import again, messages, summary
from upwright.evolution.records import program_digest

TEMPERATURE = 0.8
TOKENS = 1500
"""Most tokens of one reply."""
AT_ONCE = 2
"""Replies asked for at once."""
MONEY = 1000.0
"""Seconds that one unit of money is worth, where time and money are weighed."""
PRIOR_SECONDS, PRIOR_TOKENS = 8.0, (2500, 500)
"""What a draft costs as long as nothing is known: seconds, and tokens read and written."""
TIMEOUT = 300.0
"""Seconds for one request, where the endpoint's settings name no other limit."""
REASONS = 3
LONGEST_REST = 64
"""Asks that an endpoint rests at most."""


@dataclass(frozen=True, slots=True)
class Account:
    """What an endpoint did and cost.

    Attributes:
        replies: all, ``lost`` ones without a text among them; ``sent_back``: could not be applied at first, ``refused``: nor then.
        drafts: made of replies; ``gains``: drafts that were better than their parent.
        read, written: tokens; ``money``: by the endpoint's prices; ``seconds``: of waiting.
        trouble: what went wrong last with the endpoint itself, else empty.
    """

    replies: int = 0
    lost: int = 0
    sent_back: int = 0
    refused: int = 0
    drafts: int = 0
    gains: int = 0
    read: int = 0
    written: int = 0
    money: float = 0.0
    seconds: float = 0.0
    trouble: str = ""


def endpoint_of(text: str) -> Endpoint:
    """An endpoint as it is written in settings.

    Raises:
        BuildError: no model is named, or a setting is unknown or of the wrong type.
    """
    url, _, rest = text.partition("#")
    model, _, settings = rest.partition("?")
    if not url.startswith(("http://", "https://")) or not model:
        raise BuildError(
            "this is no endpoint", value=text, todo="write it as URL#MODEL, like http://127.0.0.1:8080/v1#qwen"
        )
    try:
        given = dict(parse_qsl(settings, strict_parsing=True)) if settings else {}
        if unknown := sorted(set(given) - set(Endpoint.__dataclass_fields__)):
            raise ValueError(f"unknown: {', '.join(unknown)}")
        table = {"timeout": TIMEOUT, "concurrency": AT_ONCE, "retries": 1, **given, "url": url, "model": model}
        return msgspec.convert(table, type=Endpoint, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        known = ", ".join(sorted(set(Endpoint.__dataclass_fields__) - {"url", "model"}))
        raise BuildError(
            f"an endpoint's settings cannot be read: {error}", value=text, todo=f"known: {known}"
        ) from None


def connected(endpoint: Endpoint) -> Runtime:
    """What asks an endpoint.

    Raises:
        ModelError: the environment variable with its key is not set.
    """
    with tempfile.TemporaryDirectory(prefix="upwright-endpoint-") as folder:
        (Path(folder) / "model.toml").write_text(tomli_w.dumps(asdict(endpoint)), "utf-8")
        return OpenAIRuntime(Body(Path(folder)))


@dataclass(slots=True)
class _Model:
    """An endpoint, and how it stands."""

    endpoint: Endpoint
    runtime: Runtime
    account: Account
    rests: int = 0
    next_rest: int = 1


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply, and what came of it: a program, or why not."""

    text: str
    program: Program | None
    why: str
    chat: tuple[Message, ...]


class LanguageModels:
    """The ``llm`` proposer.

    Args:
        endpoints: ``URL#MODEL``, see above.
        connect: how to ask one.

    Raises:
        BuildError: there are none, one is malformed, or two have the same name. ModelError: a key is not set.
    """

    name = "llm"
    cost = PRIOR_SECONDS

    def __init__(self, endpoints: Sequence[str], connect: Callable[[Endpoint], Runtime] = connected) -> None:
        found = {f"{e.model} at {e.url}": e for e in map(endpoint_of, endpoints)}
        if not found or len(found) < len(endpoints):
            raise BuildError(
                "language models need endpoints, each once", value=list(endpoints), todo="[search] endpoints"
            )
        self._models = {name: _Model(e, connect(e), Account()) for name, e in found.items()}
        self._bandit = Bandit({name: _prior(e) for name, e in found.items()}, measured=True)
        self._asked: dict[str, tuple[str, float, float]] = {}
        """Draft's digest → model, its parent's score, what it cost."""
        self._scores: dict[str, float] = {}
        self._reasons: deque[str] = deque(maxlen=REASONS)

    @property
    def accounts(self) -> Mapping[str, Account]:
        """Every endpoint's account."""
        return {name: model.account for name, model in self._models.items()}

    def propose(self, brief: Brief) -> Sequence[Draft]:
        """Drafts of one endpoint, those whose first reply could not be applied after a second one."""
        if brief.parent.score is None or (name := self._choose(brief.rng)) is None:
            return []
        before = self._models[name].account
        try:
            replies = self._replies(self._models[name], brief)
        except RuntimeFailure as error:
            self._rest(name, error)
            return []
        self._models[name].next_rest = 1
        after = self._models[name].account
        spent = after.seconds - before.seconds + MONEY * (after.money - before.money)
        return self._drafts(name, replies, brief, spent / max(1, len(replies)))

    def told(self, draft: Draft, result: Result) -> None:
        """Learn which model's drafts are better than their parents."""
        digest = program_digest(draft.program)
        known = self._asked.pop(digest, None)
        if result.score is not None:
            self._scores[digest] = result.score
        if known is None:  # from before an interruption
            name = next((n for n in self._models if draft.note.startswith(f"{n}: ")), None)
            before = self._scores.get(draft.parents[0]) if draft.parents else None
            if name is None or (before is None and result.score is not None):
                return
            known = name, before or 0.0, 0.0
        name, score, cost = known
        gain = max(0.0, result.score - score) if result.score is not None else 0.0
        self._bandit.learn(name, gain, cost)
        self._note(name, gains=int(gain > 0))

    def _choose(self, rng: random.Random) -> str | None:
        """The endpoint to ask; ``None`` while all of them rest."""
        for model in self._models.values():
            model.rests = max(0, model.rests - 1)
        for _ in range(8 * len(self._models)):
            name = self._bandit.choose(rng)
            if not self._models[name].rests:
                return name
        return next((name for name, model in self._models.items() if not model.rests), None)

    def _rest(self, name: str, error: RuntimeFailure) -> None:
        model = self._models[name]
        model.rests, model.next_rest = model.next_rest + 1, min(LONGEST_REST, 2 * model.next_rest)
        model.account = replace(model.account, trouble=error.what)

    def _replies(self, model: _Model, brief: Brief) -> list[_Reply]:
        """Replies, the ones that could not be applied sent back once."""
        chat, n = messages(brief, tuple(self._reasons)), min(brief.n, AT_ONCE)
        said = self._ask(model, [Request(chat, brief.rng.getrandbits(31), n, TEMPERATURE, max_tokens=TOKENS)])
        found = [_reply(text, chat, brief) for text in said]
        wrong = [reply for reply in found if reply.program is None]
        if not wrong:
            return found
        model.account = replace(model.account, sent_back=model.account.sent_back + len(wrong))
        requests = [
            Request(again(r.chat, r.text, r.why), brief.rng.getrandbits(31), 1, TEMPERATURE, max_tokens=TOKENS)
            for r in wrong
        ]
        return [r for r in found if r.program is not None] + [
            _reply(text, chat, brief) for text in self._ask(model, requests)
        ]

    def _ask(self, model: _Model, requests: Sequence[Request]) -> list[str]:
        """The texts that come back, those of lost replies left out, all on the account."""
        completions = [c for some in model.runtime.generate(requests) for c in some]
        model.account = _added(model.account, completions)
        return [c.text for c in completions if c.failure is None]

    def _drafts(self, name: str, replies: Sequence[_Reply], brief: Brief, cost: float) -> list[Draft]:
        drafts: dict[str, Draft] = {}
        if not replies:
            self._bandit.learn(name, 0.0, cost)
        for reply in replies:
            digest = program_digest(reply.program) if reply.program is not None else ""
            if reply.program is None or digest in drafts or digest in self._asked:
                self._bandit.learn(name, 0.0, cost)
                if reply.why:
                    self._reasons.append(reply.why)
                    self._note(name, refused=1)
                continue
            said = summary(reply.text)
            drafts[digest] = Draft(reply.program, self.name, f"{name}: {said}", (brief.parent.digest,), said)
            assert brief.parent.score is not None
            self._asked[digest] = name, brief.parent.score, cost
            self._note(name, drafts=1)
        return list(drafts.values())

    def _note(self, name: str, drafts: int = 0, gains: int = 0, refused: int = 0) -> None:
        account = self._models[name].account
        self._models[name].account = replace(
            account, drafts=account.drafts + drafts, gains=account.gains + gains, refused=account.refused + refused
        )


def _reply(text: str, chat: tuple[Message, ...], brief: Brief) -> _Reply:
    try:
        return _Reply(text, apply(brief.parent.program, parse_reply(text), brief.scope), "", chat)
    except EditError as error:
        return _Reply(text, None, error.why, chat)


def _added(account: Account, completions: Sequence[Completion]) -> Account:
    """An account with some replies more."""
    lost = [c.failure.message for c in completions if c.failure is not None]
    return replace(
        account,
        replies=account.replies + len(completions),
        lost=account.lost + len(lost),
        read=account.read + sum(c.prompt_tokens for c in completions),
        written=account.written + sum(c.completion_tokens for c in completions),
        money=account.money + sum(c.money for c in completions),
        seconds=account.seconds + sum(c.seconds for c in completions),
        trouble=lost[-1] if lost else account.trouble,
    )


def _prior(endpoint: Endpoint) -> float:
    """What one draft costs, in seconds, before anything is known."""
    read, written = PRIOR_TOKENS
    return PRIOR_SECONDS + MONEY * (read * endpoint.price_in + written * endpoint.price_out) / 1e6
