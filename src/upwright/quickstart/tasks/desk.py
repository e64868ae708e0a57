"""Desk: short clerical work that a person would do at a desk, made afresh from every seed.

``generate(seed)`` gives one task as a dict with the keys ``input``, ``answer``, ``skill``,
``difficulty`` (1 to 3), ``scorer`` and ``check`` (a public format rule that needs no answer, or
``None``). The same seed gives the same task. Eight skills are equally likely, and so are the three
difficulties within each; every skill has well over 5,000 distinct inputs.

How it was chosen: the skills are everyday clerical chores (copying a date into a form, filing a
record, comparing and adding amounts, tidying names and codes) and difficulty grows as it does at a
desk, with longer numbers and more fields. The mix was fixed once by what such work is like, before
any model had been run on it, and is not tuned to what a model can or cannot do.

Every question says in its own words what form the answer should have, so that a person who reads
only the question can answer it fully. Standard library only: the warden runs this file alone.
"""

from __future__ import annotations

import calendar
import random
from collections.abc import Callable
from typing import Any

Draw = tuple[str, Any, str]
"""A question, its answer, and the public format of an answer as a regular expression."""


def _words(text: str, separator: str | None = None) -> list[str]:
    return text.split(separator)


GIVEN = _words(
    "Ada Amir Anna Ben Carla Chen Clara Daniel Diego Elena Emma Erik Fatima Felix Grace Hana Hugo Ines Ivan Jack "
    "Jana Jonas Julia Kenji Laila Leo Lina Lucas Lucy Maria Mark Mei Mina Nadia Noah Nora Omar Oscar Paul Petra "
    "Priya Rosa Ruth Sam Sara Simon Sofia Tariq Tess Tomas Uma Vera Victor Wei Yara Yusuf Zoe"
)
SURNAMES = _words(
    "Adams Ahmed Baker Bauer Bell Brandt Brown Carter Castro Clark Costa Cruz Dahl Davies Diaz Dubois Evans Fischer "
    "Foster Garcia Grant Green Haddad Hall Hansen Hill Ito Jensen Jones Kaya Keller Khan Kim King Klein Kumar Lang "
    "Lopez Martin Mendes Meyer Moore Mori Nagy Novak Okafor Olsen Park Patel Price Reyes Rossi Santos Schmidt Silva "
    "Singh Smith Sousa Suzuki Tanaka Turner Varga Walker Ward Weber White Wong Young"
)
CITIES = _words(
    "Athens Berlin Boston Bristol Cairo Chicago Cork Dallas Delhi Denver Dublin Geneva Lagos Leeds Lima Lisbon London "
    "Lyon Madrid Miami Milan Mumbai Nairobi Naples Oslo Osaka Paris Porto Prague Rome Seattle Seoul Sydney Tokyo "
    "Toronto Turin Vienna Warsaw York Zurich"
)
JOBS = _words(
    "accountant baker carpenter chemist cook dentist designer driver editor electrician engineer farmer gardener "
    "librarian manager mechanic nurse painter pilot plumber teacher tailor translator waiter writer"
)
ITEMS = _words(
    "binder|calculator|calendar|chair|clipboard|desk lamp|diary|envelope box|eraser|fan|folder|glue stick|key ring|"
    "label roll|marker|mouse pad|notebook|paper tray|pen set|pencil case|rubber stamp|ruler|scissors pack|stapler|"
    "tape dispenser|wall clock",
    "|",
)
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words("January February March April May June July August September October November December")

AMOUNT = r"^\s*\$?\d[\d,]*(\.\d+)?\s*$"
"""Format of a number or an amount of dollars."""


def ordinal(day: int) -> str:
    """``1`` → ``1st``, ``12`` → ``12th``, ``23`` → ``23rd``."""
    ending = "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def dates(rng: random.Random, difficulty: int) -> Draw:
    """A date as people write it, to be written year first."""
    year, month = rng.randint(1950, 2035), rng.randint(1, 12)
    day = rng.randint(1, calendar.monthrange(year, month)[1])
    name = MONTHS[month - 1]
    written = rng.choice(
        {
            1: (f"{name} {day}, {year}", f"{day} {name} {year}"),
            2: (f"{name[:3]} {day}, {year}", f"the {ordinal(day)} of {name} {year}", f"{name} {ordinal(day)}, {year}"),
            3: (f"{month}/{day}/{year} (month first)", f"{day}/{month}/{year} (day first)"),
        }[difficulty]
    )
    ask = rng.choice(
        (
            "Write the date {d} in the form YYYY-MM-DD. Answer with the date only.",
            "Convert this date to the form YYYY-MM-DD: {d}. Give only the date.",
            "A form wants dates as YYYY-MM-DD. How do you enter {d}? Answer with the date only.",
            "A letter is dated {d}. Give that date as year-month-day (YYYY-MM-DD) and nothing else.",
            "What is {d} in YYYY-MM-DD format? Reply with only the date.",
        )
    )
    return ask.format(d=written), f"{year:04d}-{month:02d}-{day:02d}", r"^\s*\d{4}-\d{2}-\d{2}\s*$"


def _person(rng: random.Random) -> str:
    return f"{rng.choice(GIVEN)} {rng.choice(SURNAMES)}"


def records(rng: random.Random, difficulty: int) -> Draw:
    """A sentence, to be filed as a JSON record with two, three or four named fields."""
    name, city, day = _person(rng), rng.choice(CITIES), rng.choice(DAYS)
    number = rng.randint(1000, 9999)
    staff = {"name": name, "city": city, "job": rng.choice(JOBS), "age": rng.randint(19, 67)}
    visit = {"name": name, "day": day, "room": rng.randint(101, 499), "city": city}
    order = {"name": name, "item": rng.choice(ITEMS), "order": number, "day": day}
    sentences = (
        (staff, ("{name} lives in {city}", "{name} works as: {job}", "{name} is {age} years old")),
        (visit, ("{name} is coming on {day}", "the room is {room}", "{name} travels from {city}")),
        (order, ("{name} ordered one {item}", "the order number is {order}", "delivery is on {day}")),
    )
    fields, parts = rng.choice(sentences)
    said = [part.format(**fields) for part in parts[:difficulty]]
    keys = [key for key in fields if any("{" + key + "}" in part for part in parts[:difficulty])]
    if difficulty == 1:
        keys = list(dict.fromkeys(["name", *keys]))
    sentence = "; ".join(said)
    listed = ", ".join(f"{k} (a number)" if isinstance(fields[k], int) else k for k in keys)
    ask = rng.choice(
        (
            'Read this note: "{s}." Write it as a JSON object with these keys: {k}. Answer with the JSON only.',
            "{s}. Put this into a JSON object with these keys: {k}. Reply with only the JSON.",
            "Make a JSON record from this sentence. Keys: {k}. Sentence: {s}. Give only the JSON.",
            "File this as one JSON object (keys: {k}): {s}. Answer with the JSON object and nothing else.",
        )
    )
    form = r"(?s)^\s*\{" + "".join(f'(?=.*"{key}")' for key in keys) + r".*\}\s*$"
    return ask.format(s=sentence[0].upper() + sentence[1:], k=listed), {key: fields[key] for key in keys}, form


def _two(rng: random.Random, difficulty: int) -> tuple[str, str]:
    if difficulty == 1:
        a, b = rng.sample(range(10, 1000), 2)
        return str(a), str(b)
    if difficulty == 2:
        a, b = rng.sample(range(1000, 100000), 2)
        return str(a), str(b)
    whole = rng.randint(10, 999)
    a, b = rng.sample(range(100), 2)
    other = whole if rng.random() < 0.5 else whole + rng.choice((-1, 1))
    return f"{whole}.{a:02d}", f"{other}.{b:02d}"


def compare(rng: random.Random, difficulty: int) -> Draw:
    """Which of two numbers is larger, or smaller."""
    a, b = _two(rng, difficulty)
    large = rng.random() < 0.5
    ask = rng.choice(
        (
            "Which number is {w}: {a} or {b}? Answer with the number only.",
            "Two invoices are for {a} and {b} dollars. Which amount is {w}? Answer with the amount only.",
            "Here are two numbers: {a}, {b}. Give only the {w} one.",
            "One office counted {a} and another {b}. Which figure is {w}? Reply with only that number.",
        )
        if difficulty < 3
        else (
            "Which number is {w}: {a} or {b}? Answer with the number only.",
            "Two invoices are for {a} and {b} dollars. Which amount is {w}? Answer with the amount only.",
            "Here are two prices: {a}, {b}. Give only the {w} one.",
            "One parcel costs {a} dollars and another {b} dollars. Which price is {w}? Reply with only that number.",
        )
    )
    answer = (max if large else min)(a, b, key=float)
    return ask.format(a=a, b=b, w="larger" if large else "smaller"), answer, AMOUNT


def largest(rng: random.Random, difficulty: int) -> Draw:
    """The largest of four, five or six numbers."""
    low, high = {1: (10, 99), 2: (100, 999), 3: (1000, 9999)}[difficulty]
    numbers = rng.sample(range(low, high + 1), difficulty + 3)
    ask = rng.choice(
        (
            "What is the largest of these numbers: {n}? Answer with the number only.",
            "Find the highest number in this list: {n}. Reply with only the number.",
            "The monthly sales were {n}. What was the highest figure? Give only the number.",
            "These are page counts: {n}. Which is the biggest? Answer with the number only.",
        )
    )
    return ask.format(n=", ".join(map(str, numbers))), str(max(numbers)), AMOUNT


def _a(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def totals(rng: random.Random, difficulty: int) -> Draw:
    """The total of a small order, or the change due."""
    a, b, c = rng.sample(ITEMS, 3)
    if difficulty == 1:
        p, q = rng.randint(2, 40), rng.randint(2, 40)
        bought, total = f"{_a(a)} for ${p} and {_a(b)} for ${q}", p + q
    elif difficulty == 2:
        p, q, r = (rng.randint(5, 60) for _ in range(3))
        bought, total = f"{_a(a)} for ${p}, {_a(b)} for ${q} and {_a(c)} for ${r}", p + q + r
    else:
        p, q = rng.randint(5, 45), rng.randint(5, 45)
        ask = rng.choice(
            (
                "A customer buys {a} for ${p} and {b} for ${q} and pays with $100. How many dollars of change are "
                "due? Answer with the number only.",
                "You pay $100 for {a} (${p}) and {b} (${q}). How much change do you get, in dollars? Give only "
                "the number.",
                "Paid: $100. Bought: {a} at ${p}, {b} at ${q}. What is the change in dollars? Reply with only "
                "the number.",
            )
        )
        return ask.format(a=_a(a), b=_a(b), p=p, q=q), str(100 - p - q), AMOUNT
    ask = rng.choice(
        (
            "A customer buys {x}. What is the total in dollars? Answer with the number only.",
            "Add up this order: {x}. Give only the total in dollars, as a number.",
            "The order is {x}. How many dollars is that together? Reply with only the number.",
        )
    )
    return ask.format(x=bought), str(total), AMOUNT


def times(rng: random.Random, difficulty: int) -> Draw:
    """Unit price times quantity."""
    many, price = {
        1: (rng.randint(2, 9), rng.randint(2, 10)),
        2: (rng.randint(3, 9), rng.randint(11, 30)),
        3: (rng.randint(11, 25), rng.randint(11, 40)),
    }[difficulty]
    ask = rng.choice(
        (
            "One {i} costs ${p}. What do {m} of them cost, in dollars? Answer with the number only.",
            "An order is for {m} pieces at ${p} each (item: {i}). What is the total in dollars? Give only the number.",
            "Item: {i}. Price: {p} dollars. Quantity: {m}. What is the total price? Reply with only the number.",
            "{who} buys {m} of the same {i} at ${p} apiece. How many dollars is that? Answer with the number only.",
            "{who} orders {m} pieces at {p} dollars. What is {m} times {p}? Answer with the number only.",
        )
    )
    return ask.format(i=rng.choice(ITEMS), p=price, m=many, who=_person(rng)), str(many * price), AMOUNT


def names(rng: random.Random, difficulty: int) -> Draw:
    """A person's name in the form that a list wants it."""
    given, middle = rng.sample(GIVEN, 2)
    surname = rng.choice(SURNAMES)
    if difficulty == 1:
        written, answer = f"{given} {surname}", f"{surname}, {given}"
        form, check = "surname, comma, given name", r"^\s*[A-Za-z]+, [A-Za-z]+\s*$"
    elif difficulty == 2:
        written, answer = f"{surname}, {given} {middle}", f"{given} {middle} {surname}"
        form, check = "given names first, surname last, no comma", r"^\s*[A-Za-z]+( [A-Za-z]+)+\s*$"
    else:
        written, answer = f"{given} {middle} {surname}", f"{surname}, {given[0]}. {middle[0]}."
        form = 'surname, comma, initials of the given names, as in "Poe, E. A."'
        check = r"^\s*[A-Za-z]+,( [A-Z]\.)+\s*$"
    ask = rng.choice(
        (
            "Write the name {w} in this form: {f}. Answer with the name only.",
            "A list gives names in this form: {f}. How does {w} appear? Reply with only the name.",
            "Rewrite this name ({f}): {w}. Give only the rewritten name.",
            "Enter {w} in a register that uses this form: {f}. Answer with the entry only.",
        )
    )
    return ask.format(w=written, f=form), answer, check


def codes(rng: random.Random, difficulty: int) -> Draw:
    """A telephone number or a reference code in a stated form."""
    if difficulty < 3:
        a, b, c = rng.randint(200, 999), rng.randint(100, 999), rng.randint(0, 9999)
        plain = (f"{a} {b} {c:04d}", f"{a}.{b}.{c:04d}")
        harder = (f"{a}{b}{c:04d}", f"({a}) {b} {c:04d}", f"{a}/{b}{c:04d}")
        written, answer = rng.choice(plain if difficulty == 1 else harder), f"{a}-{b}-{c:04d}"
        kind, form, check = "telephone number", "000-000-0000", r"^\s*\d{3}-\d{3}-\d{4}\s*$"
    else:
        letters = "".join(rng.choice("abcdefghjkmnpqrstuvwxyz") for _ in range(2))
        digits, last = f"{rng.randint(0, 9999):04d}", rng.choice("abcdefghjkmnpqrstuvwxyz")
        join = rng.choice(("", " ", "/", "."))
        written, answer = join.join((letters, digits, last)), f"{letters}-{digits}-{last}".upper()
        kind, form, check = "reference code", "AA-0000-A, in capital letters", r"^\s*[A-Z]{2}-\d{4}-[A-Z]\s*$"
    ask = rng.choice(
        (
            "Write the {k} {w} in the form {f}. Answer with it only.",
            "Our files keep every {k} in the form {f}. How is {w} filed? Reply with only the result.",
            "Put this {k} into the form {f}: {w}. Give only the result.",
            "A {k} was noted as {w}. Rewrite it in the form {f} and give nothing else.",
        )
    )
    return ask.format(k=kind, w=written, f=form), answer, check


SKILLS: dict[str, tuple[Callable[[random.Random, int], Draw], str]] = {
    "dates": (dates, "exact"),
    "records": (records, "json"),
    "compare": (compare, "number"),
    "largest": (largest, "number"),
    "totals": (totals, "number"),
    "times": (times, "number"),
    "names": (names, "exact"),
    "codes": (codes, "exact"),
}
"""Skill → how a task is drawn, and the kind of its scorer."""


def generate(seed: int) -> dict[str, Any]:
    """One task; ``seed`` is any integer. See the module's docstring for the keys."""
    rng = random.Random(seed)
    skill = rng.choice(list(SKILLS))
    difficulty = rng.randint(1, 3)
    draw, scorer = SKILLS[skill]
    question, answer, check = draw(rng, difficulty)
    return {
        "input": question,
        "answer": answer,
        "skill": skill,
        "difficulty": difficulty,
        "scorer": {"kind": scorer},
        "check": {"kind": "regex", "pattern": check},
    }
