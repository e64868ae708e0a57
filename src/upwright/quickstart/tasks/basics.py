"""Basics: short questions of general knowledge that a body should not forget while it learns.

A *protected* suite: it guards against getting worse elsewhere, it is not the objective.
``generate(seed)`` gives one task as a dict with the keys ``input``, ``answer``, ``skill``,
``difficulty`` (1 to 3: common, less common, rare), ``scorer`` and ``check`` (always ``None``: any
wording of a right answer counts). The same seed gives the same task; seven skills are equally likely.

Facts are combined with wordings, so each skill has thousands of distinct inputs, but only some
dozens of facts: the suite shows whether known facts can still be told, not whether new ones were
learned. An answer counts when it names the right word as a whole word; where the question offers
two choices, the one named first must be the right one. Standard library only.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

Draw = tuple[str, str, str]
"""A question, its answer, and a regular expression that a right answer matches."""


def _pairs(text: str) -> list[tuple[str, str]]:
    """``"a:b c_d:e"`` → ``[("a", "b"), ("c d", "e")]``."""
    return [(a.replace("_", " "), b.replace("_", " ")) for a, b in (item.split(":") for item in text.split())]


def _words(text: str) -> list[str]:
    """``"a|b"`` → ``["a", "b"]``."""
    return text.split("|")


CAPITALS = {
    1: _pairs(
        "France:Paris Italy:Rome Spain:Madrid Germany:Berlin England:London Japan:Tokyo Russia:Moscow China:Beijing "
        "Greece:Athens Ireland:Dublin Portugal:Lisbon Egypt:Cairo Canada:Ottawa Austria:Vienna"
    ),
    2: _pairs(
        "Norway:Oslo Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen Poland:Warsaw Hungary:Budapest Belgium:Brussels "
        "Cuba:Havana Peru:Lima Thailand:Bangkok Iran:Tehran Iraq:Baghdad Kenya:Nairobi Australia:Canberra Argentina:Buenos_Aires "
        "Turkey:Ankara Scotland:Edinburgh"
    ),
    3: _pairs(
        "Chile:Santiago Romania:Bucharest Bulgaria:Sofia Croatia:Zagreb Serbia:Belgrade Morocco:Rabat Lebanon:Beirut "
        "Nepal:Kathmandu Vietnam:Hanoi Iceland:Reykjavik Venezuela:Caracas Ethiopia:Addis_Ababa Jordan:Amman Ghana:Accra "
        "Uruguay:Montevideo Colombia:Bogota"
    ),
}
OPPOSITES = {
    1: _pairs(
        "hot:cold big:small up:down fast:slow good:bad old:new|young day:night happy:sad|unhappy open:closed|close|shut|closing "
        "left:right top:bottom black:white in:out early:late"
    ),
    2: _pairs(
        "rich:poor strong:weak heavy:light full:empty dry:wet clean:dirty loud:quiet|soft|silent hard:soft|easy "
        "begin:end|finish|stop win:lose buy:sell true:false north:south push:pull near:far love:hate"
    ),
    3: _pairs(
        "increase:decrease|reduce arrive:depart|leave accept:reject|refuse|decline deep:shallow wide:narrow "
        "sharp:blunt|dull ancient:modern|recent|contemporary victory:defeat|loss guilty:innocent maximum:minimum "
        "include:exclude build:destroy|demolish"
    ),
}
PLURALS = {
    1: _pairs(
        "cat:cats dog:dogs book:books car:cars tree:trees table:tables apple:apples house:houses bird:birds hand:hands"
    ),
    2: _pairs(
        "box:boxes bus:buses city:cities baby:babies dish:dishes watch:watches story:stories class:classes fox:foxes "
        "party:parties lady:ladies"
    ),
    3: _pairs(
        "child:children man:men woman:women mouse:mice foot:feet tooth:teeth goose:geese knife:knives leaf:leaves wolf:wolves "
        "wife:wives person:people|persons"
    ),
}
KINDS = {
    1: {
        "fish": "shark herring tuna trout",
        "bird": "eagle parrot duck owl robin",
        "fruit": "apple banana grape pear",
        "tool": "hammer saw screwdriver wrench",
        "colour": "red blue green yellow",
    },
    2: {
        "vegetable": "carrot cabbage onion spinach",
        "insect": "ant bee butterfly mosquito",
        "instrument": "violin piano guitar trumpet drum",
        "country": "Spain Japan Brazil Canada",
        "metal": "iron copper gold silver",
    },
    3: {
        "planet": "Mars Venus Saturn Jupiter",
        "language": "French Arabic Spanish Russian",
        "sport": "tennis football hockey basketball",
        "season": "winter summer autumn spring",
        "continent": "Africa Asia Europe Antarctica",
    },
}
COLOURS = {
    1: _pairs("grass:green snow:white blood:red coal:black milk:white a_banana:yellow a_clear_sky:blue a_lemon:yellow"),
    2: _pairs(
        "a_carrot:orange a_ripe_tomato:red a_polar_bear:white a_strawberry:red spinach:green chocolate:brown a_crow:black "
        "a_pea:green"
    ),
    3: _pairs(
        "an_emerald:green a_ruby:red a_sapphire:blue ivory:white|cream a_flamingo:pink an_aubergine:purple broccoli:green"
    ),
}
WEEK = _pairs(
    "Monday:Tuesday Tuesday:Wednesday Wednesday:Thursday Thursday:Friday Friday:Saturday Saturday:Sunday Sunday:Monday"
)
YEAR = _pairs(
    "January:February February:March March:April April:May May:June June:July July:August August:September "
    "September:October October:November November:December December:January"
)
COPY = _words(
    "anchor|apple|basket|blanket|bottle|bridge|button|camera|candle|carpet|castle|coffee|cotton|desert|doctor|engine|"
    "finger|flower|forest|garden|guitar|hammer|harbour|hello|honey|island|jacket|kettle|kitten|ladder|lemon|letter|"
    "magnet|market|mirror|mountain|music|needle|number|ocean|orange|paper|pencil|pepper|pillow|planet|pocket|rabbit|"
    "river|rocket|saddle|school|silver|spider|spoon|summer|table|ticket|valley|window|winter"
)
HELLO = ("", "Question: ", "Please answer: ", "A short question. ", "Can you tell me this? ", "Here is a question: ")
DO_THIS = ("", "Please: ", "A small exercise. ", "Do this: ", "Next: ")
CLOSE = ("", " Answer briefly.", " Answer in a few words.", " Keep it short.", " Give a short answer.", " Thank you.")


def _named(answer: str) -> str:
    """Matches a text that names one of the words in ``answer`` (separated by ``|``)."""
    words = "|".join(re.escape(word) for word in answer.split("|"))
    return rf"(?is)^.*\b({words})\b.*$"


def _first(right: str, wrong: str) -> str:
    """Matches a text that names ``right`` before any ``wrong``."""
    return rf"(?is)^(?:(?!\b{_kind(wrong)}\b).)*?\b{_kind(right)}\b.*$"


def _kind(word: str) -> str:
    """Matches one of the words of ``KINDS``, in either spelling, singular or plural."""
    return "countr(?:y|ies)" if word == "country" else word.replace("colour", "colou?r") + "(?:e?s)?"


def _asked(rng: random.Random, wordings: tuple[str, ...], fact: tuple[str, str]) -> Draw:
    question = rng.choice(wordings).format(fact[0])
    return question, fact[1].split("|")[0], _named(fact[1])


def capitals(rng: random.Random, difficulty: int) -> Draw:
    """The capital of a country."""
    wordings = (
        "What is the capital of {}?",
        "What is the capital city of {}?",
        "Which city is the capital of {}?",
        "Name the capital of {}.",
        "The capital of {} is which city?",
    )
    return _asked(rng, wordings, rng.choice(CAPITALS[difficulty]))


def opposites(rng: random.Random, difficulty: int) -> Draw:
    """The opposite of a word."""
    wordings = (
        'What is the opposite of "{}"?',
        "What is the opposite of the word {}?",
        'Give the opposite of "{}".',
        'Which word means the opposite of "{}"?',
        'Name the antonym of "{}".',
    )
    return _asked(rng, wordings, rng.choice(OPPOSITES[difficulty]))


def plurals(rng: random.Random, difficulty: int) -> Draw:
    """The plural of a noun."""
    wordings = (
        'What is the plural of "{}"?',
        "What is the plural form of the word {}?",
        'Give the plural of "{}".',
        'How do you write "{}" in the plural?',
        'One {}, two ... what? Give the plural of "{0}".',
    )
    return _asked(rng, tuple(w.replace("{}", "{0}") for w in wordings), rng.choice(PLURALS[difficulty]))


def categories(rng: random.Random, difficulty: int) -> Draw:
    """Which of two kinds a thing is."""
    kinds = KINDS[difficulty]
    right, wrong = rng.sample(sorted(kinds), 2)
    thing = rng.choice(kinds[right].split())
    a, b = rng.sample((right, wrong), 2)
    wording = rng.choice(
        (
            'Is "{t}" a kind of {a} or a kind of {b}?',
            'Which is "{t}": {a} or {b}?',
            'Does the word "{t}" name a {a} or a {b}?',
            'Choose the right group for "{t}": {a} or {b}.',
        )
    )
    question = re.sub(r"\ba (?=[aei])", "an ", wording.format(t=thing, a=a, b=b))
    return question, right, _first(right, wrong)


def colours(rng: random.Random, difficulty: int) -> Draw:
    """The usual colour of a thing."""
    wordings = (
        "What colour is {} usually?",
        "What color is {}, normally?",
        "Which colour does {} usually have?",
        "Name the usual colour of {}.",
        "Think of {}. What colour is it?",
    )
    return _asked(rng, wordings, rng.choice(COLOURS[difficulty]))


def calendar(rng: random.Random, difficulty: int) -> Draw:
    """The next day, the next month, or the one before."""
    after, before = (("Which {k} comes right after {}?", "What {k} follows {}?", "Name the {k} after {}."),
                     ("Which {k} comes right before {}?", "What {k} is just before {}?", "Name the {k} before {}."))  # fmt: skip
    week = difficulty == 1 or (difficulty == 3 and rng.random() < 0.5)
    kind, facts = ("day", WEEK) if week else ("month", YEAR)
    fact = rng.choice(facts)
    if difficulty == 3:
        fact = (fact[1], fact[0])
    return _asked(rng, tuple(w.replace("{k}", kind) for w in (before if difficulty == 3 else after)), fact)


def copying(rng: random.Random, difficulty: int) -> Draw:
    """Say a word once, twice or three times; keep the order of words."""
    words = rng.sample(COPY, difficulty)
    if rng.random() < 0.5:
        many = ("once", "twice", "three times")[difficulty - 1]
        question = rng.choice(('Write the word "{w}" {m}.', 'Say the word "{w}" {m}.', 'Repeat "{w}" {m}.'))
        said = [words[0]] * difficulty
        return question.format(w=words[0], m=many), " ".join(said), _named_in_order(said)
    listed = ", ".join(words)
    question = rng.choice(("Copy this: {}.", "Repeat after me: {}.", "Write exactly this: {}."))
    return question.format(listed), listed, _named_in_order(words)


def _named_in_order(words: list[str]) -> str:
    return r"(?is)^\W*" + r"\W+".join(rf"{re.escape(word)}" for word in words) + r"\W*$"


SKILLS: dict[str, Callable[[random.Random, int], Draw]] = {
    "capitals": capitals,
    "opposites": opposites,
    "plurals": plurals,
    "categories": categories,
    "colours": colours,
    "calendar": calendar,
    "copying": copying,
}
"""Skill → how a task is drawn."""


def generate(seed: int) -> dict[str, Any]:
    """One task; ``seed`` is any integer. See the module's docstring for the keys."""
    rng = random.Random(seed)
    skill = rng.choice(list(SKILLS))
    difficulty = rng.randint(1, 3)
    question, answer, pattern = SKILLS[skill](rng, difficulty)
    if skill == "copying":
        question = rng.choice(DO_THIS) + question
    else:
        question = rng.choice(HELLO) + question + rng.choice(CLOSE)
    return {
        "input": question,
        "answer": answer,
        "skill": skill,
        "difficulty": difficulty,
        "scorer": {"kind": "regex", "pattern": pattern},
        "check": None,
    }
