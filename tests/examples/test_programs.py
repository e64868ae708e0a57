"""The examples of programs: what their starts are worth, that better programs are worth more, and that cheats are worth nothing."""

from __future__ import annotations

import importlib
import importlib.util
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from upwright.evolution.blocks import Scope
from upwright.warden.evaluator import EvaluatorSpec, Judge
from upwright.warden.isolation import IsolationError, strongest_wall

HOME = Path(__file__).parents[2] / "examples"
FILES = {
    "function_minimization": "program.py", "sorting": "program.py", "matrix_multiplication": "program.py",
    "training_code": "train.py",
}  # fmt: skip
Measure = Callable[..., dict[str, float]]


def start_of(name: str) -> str:
    return (HOME / name / FILES[name]).read_text()


def changed(name: str, *edits: tuple[str, str]) -> str:
    """The start with other constants."""
    text = start_of(name)
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return text


def evaluator_of(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    folder = HOME / name / "evaluator"
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location(f"{name}_evaluator", folder / "evaluator.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Run an evaluator here, without isolation: what it thinks of honest and of malformed data."""

    def run(evaluator: ModuleType, program: str, seed: int = 0) -> dict[str, float]:
        path = tmp_path / "candidate.py"
        path.write_text(program)
        random.seed(seed)
        np.random.seed(seed)
        found: dict[str, float] = evaluator.evaluate(str(path))
        return found

    return run


@pytest.mark.parametrize("name", FILES)
def test_what_may_change_is_marked_and_the_spec_can_be_read(name: str) -> None:
    spec = EvaluatorSpec.read(HOME / name / "evaluator")
    assert spec.program == FILES[name]
    assert (HOME / name / "evaluator" / str(spec.entry)).is_file()
    assert not spec.together
    spans = Scope().spans(FILES[name], start_of(name))
    lines = len(start_of(name).splitlines())
    assert len(spans) == 1
    assert lines / 4 < len(spans[0]) < lines


# --- function_minimization


@pytest.fixture
def landscapes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return evaluator_of("function_minimization", monkeypatch)


def test_a_search_that_closes_in_is_nearer(landscapes: ModuleType, measure: Measure) -> None:
    start = [measure(landscapes, start_of("function_minimization"), seed)["closeness"] for seed in range(4)]
    edits = ("NEAR = 0.3", "NEAR = 0.95"), ("REACH = 0.4", "REACH = 0.25"), ("SHRINK = 0.98", "SHRINK = 0.85"), ("BATCH = 25", "BATCH = 10")  # fmt: skip
    better = [measure(landscapes, changed("function_minimization", *edits), seed)["closeness"] for seed in range(4)]
    assert np.mean(start) == pytest.approx(0.17, abs=0.03)
    assert len(set(start)) == 4, "other landscapes and other luck in every run"
    assert all(b > s for b, s in zip(better, start))
    assert np.mean(better) > 0.28


def test_a_landscape_is_zero_at_its_lowest_place_and_nowhere_else(landscapes: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for dimensions in (2, 6):
        lowest, *shape = landscapes.landscape(rng, dimensions)
        assert np.abs(lowest).max() <= landscapes.SIDE
        assert landscapes.heights(lowest[None], lowest, *shape) == pytest.approx(0.0, abs=1e-12)
        assert landscapes.heights(rng.uniform(-5, 5, (2000, dimensions)), lowest, *shape).min() > 1e-3


SUGGEST = "import numpy as np\n{before}\ndef suggest(points, values, left, low, high):\n    {body}\n"


@pytest.mark.parametrize(
    "body",
    [
        "return np.full((1, len(low)), np.nan)",
        "return {'best': 0.0}",
        "return [[0.0] * (len(low) + 1)]",
        "return [['0'] * len(low)]",
        "return np.full((1, len(low)), 1j)",
    ],
)
def test_what_is_no_point_is_refused(landscapes: ModuleType, measure: Measure, body: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        measure(landscapes, SUGGEST.format(before="", body=body))


@pytest.mark.parametrize(
    "body",
    [
        "return []",
        "return np.zeros((left, len(low)))",
        "values[:] = -9; points[:] = 0; return np.ones((1, len(low)))",
        "return np.full((left, len(low)), 1e300)",
        "return np.array([[5.0] * len(low), [-5.0] * len(low)])",
    ],
    ids=["no-op", "constant", "writes into what it is told", "far away", "corners"],
)
def test_a_search_that_does_not_search_finds_nothing(landscapes: ModuleType, measure: Measure, body: str) -> None:
    start = measure(landscapes, start_of("function_minimization"))["closeness"]
    assert measure(landscapes, SUGGEST.format(before="", body=body))["closeness"] < start


def test_no_more_looks_than_there_are(
    landscapes: ModuleType, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    heights = landscapes.heights
    monkeypatch.setattr(landscapes, "heights", lambda points, *shape: looked.append(len(points)) or heights(points, *shape))  # fmt: skip
    measure(landscapes, SUGGEST.format(before="", body="return np.random.uniform(low, high, (5000, len(low)))"))
    assert sorted(looked) == sorted(n for n in landscapes.LOOKS.values() for _ in range(landscapes.EACH))


# --- sorting


BATCHER = """
def network(n):
    found, p = [], 1
    while p < n:
        k = p
        while k:
            for j in range(k % p, n - k, 2 * k):
                for i in range(j, min(j + k, n - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        found.append((i, i + k))
            k //= 2
        p *= 2
    return found
"""


@pytest.fixture
def sorter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return evaluator_of("sorting", monkeypatch)


def test_bubble_sort_takes_28_comparators_and_batchers_network_19(sorter: ModuleType, measure: Measure) -> None:
    assert measure(sorter, start_of("sorting")) == {"comparators": 28, "depth": 13}
    assert measure(sorter, BATCHER) == {"comparators": 19, "depth": 6}


def test_without_any_one_of_its_comparators_it_does_not_sort(sorter: ModuleType, measure: Measure) -> None:
    """Nineteen is least, so none of them can be spared; and the check sees it."""
    for i in range(19):
        with pytest.raises(ValueError, match="not sorted by these 18"):
            measure(sorter, BATCHER + f"whole = network\ndef network(n):\n    return [p for i, p in enumerate(whole(n)) if i != {i}]\n")  # fmt: skip


def test_the_check_by_zeros_and_ones_agrees_with_sorting(sorter: ModuleType) -> None:
    rng = random.Random(0)
    pairs = [(i, j) for i in range(8) for j in range(i + 1, 8)]
    agreed = {True: 0, False: 0}
    for length in [30, 60, 90, 120] * 10:
        network = [rng.choice(pairs) for _ in range(length)]
        sorts = True
        for _ in range(300):
            numbers = rng.sample(range(100), 8)
            for i, j in network:
                numbers[i], numbers[j] = min(numbers[i], numbers[j]), max(numbers[i], numbers[j])
            sorts = sorts and numbers == sorted(numbers)
        if sorter.unsorted(network) == 0:
            assert sorts
        agreed[sorter.unsorted(network) == 0] += 1
    assert all(agreed.values()), "both kinds were tried"


@pytest.mark.parametrize(
    "given",
    [
        "[]", "None", "0", "'no'", "[(0, 1)] * 10", "[(float('nan'), 1)]", "[(0, 1.0)]", "[(False, True)]", "[(1, 0)]",
        "[(0, 8)]", "[(-1, 3)]", "[(0, 0)]", "[(0, 1, 2)]", "[[[0], [1]]]", "[(0, 1)] * 100000", "{(0, 1): 1}",
    ],
)  # fmt: skip
def test_what_is_no_sorting_network_has_no_score(sorter: ModuleType, measure: Measure, given: str) -> None:
    with pytest.raises(ValueError):
        measure(sorter, f"def network(n):\n    return {given}\n")


# --- matrix_multiplication


STRASSEN = """
def decompose(n, m, p):
    u = [[1,0,0,1], [0,0,1,1], [1,0,0,0], [0,0,0,1], [1,1,0,0], [-1,0,1,0], [0,1,0,-1]]
    v = [[1,0,0,1], [1,0,0,0], [0,1,0,-1], [-1,0,1,0], [0,0,0,1], [1,1,0,0], [0,0,1,1]]
    w = [[1,0,0,1], [0,0,1,-1], [0,1,0,1], [1,0,1,0], [-1,1,0,0], [0,0,0,1], [1,0,0,0]]
    return {change}
"""
SCHOOL = """
import numpy as np
def decompose(n, m, p):
    rows = [[np.eye(n * m)[i * m + j], np.eye(m * p)[j * p + k], np.eye(n * p)[i * p + k]]
            for i in range(n) for j in range(m) for k in range(p)][{left_out}:]
    return tuple(np.array(f) for f in zip(*rows))
"""


@pytest.fixture
def multiplier(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return evaluator_of("matrix_multiplication", monkeypatch)


def strassen(change: str = "u, v, w") -> str:
    return STRASSEN.replace("{change}", change)


def test_strassens_seven_products_are_worth_more_than_the_start(multiplier: ModuleType, measure: Measure) -> None:
    start = measure(multiplier, start_of("matrix_multiplication"))
    assert start["cost"] == pytest.approx(8.01, abs=0.05)
    assert start["products"] == 9
    assert measure(multiplier, SCHOOL.format(left_out=0)) == {"cost": 8.0, "products": 8, "error": 0.0}
    assert measure(multiplier, strassen()) == {"cost": 7.0, "products": 7, "error": 0.0}


def test_what_the_tensor_says_is_matrix_multiplication(multiplier: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiplier, "SHAPE", (2, 3, 4))
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (2, 3)), rng.integers(-9, 9, (3, 4))
    product = np.einsum("abc,a,b->c", multiplier.tensor(), a.ravel(), b.ravel())
    assert (product.reshape(2, 4) == a @ b).all()


def test_the_nearer_the_cheaper_and_never_as_cheap_as_a_product_saved(multiplier: ModuleType, measure: Measure) -> None:
    def near(wrong: float) -> float:
        return measure(multiplier, strassen(f"[[x + {wrong} for x in r] for r in u], v, w"))["cost"]

    costs = [near(wrong) for wrong in (0.9, 0.6, 0.4, 0.3)]
    assert costs == sorted(costs, reverse=True)
    assert near(0.2) == 7.0, "what is exact once it is rounded to halves is exact"
    rng = np.random.default_rng(0)
    for rank in range(8):
        exact = (np.array(f) for f in zip(*rng.normal(size=(rank, 3, 4)))) if rank else np.zeros((3, 0, 4))
        assert multiplier.measured(*exact)["cost"] > 7.0
    halves = [np.array(f, dtype=float) for f in _factors(strassen())]
    halves[0][0] += 0.5 + 1e-9  # rounds to another half: near in error, and wrong
    assert multiplier.measured(*halves)["cost"] > 7.0
    assert multiplier.measured(*halves)["products"] == 9
    third = [np.cbrt(1 / 3) * f for f in halves]
    assert multiplier.measured(*third)["products"] == 9


def _factors(program: str) -> Any:
    scope: dict[str, Any] = {}
    exec(program, scope)
    return scope["decompose"](2, 2, 2)


@pytest.mark.parametrize("left_out", [1, 2, 7])
def test_leaving_products_out_saves_nothing(multiplier: ModuleType, measure: Measure, left_out: int) -> None:
    assert measure(multiplier, SCHOOL.format(left_out=left_out))["cost"] == pytest.approx(8.0)


@pytest.mark.parametrize(
    "change",
    [
        "None", "7", "u, v", "u, v, w[:6]", "[r[:3] for r in u], v, w", "[[float('nan')] * 4] * 7, v, w",
        "[[float('inf')] * 4] * 7, v, w", "[[1e200] * 4] * 7, v, w", "[['1'] * 4] * 7, v, w", "u * 9, v * 9, w * 9",
        "[[1j] * 4] * 7, v, w",
    ],
)  # fmt: skip
def test_what_are_no_factors_has_no_score(multiplier: ModuleType, measure: Measure, change: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        measure(multiplier, strassen(change))


@pytest.mark.parametrize("change", ["[], [], []", "[[0] * 4], [[0] * 4], [[0] * 4]", "[[1] * 4] * 7, v, w"])
def test_a_constant_decomposition_gains_nothing(multiplier: ModuleType, measure: Measure, change: str) -> None:
    if change.startswith("[], "):
        change = "__import__('numpy').zeros((3, 0, 4)).tolist()"
    try:
        assert measure(multiplier, strassen(change))["cost"] >= 8.0
    except ValueError:
        assert change.endswith("tolist()"), "only rows that are not there have no width"


# --- training_code


@pytest.fixture
def school(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The evaluator with little text and time."""
    module = evaluator_of("training_code", monkeypatch)
    for name, value in {"SECONDS": 0.6, "TEXT": 20_000, "PIECES": 384, "CALL": 128}.items():
        monkeypatch.setattr(module, name, value)
    return module


COUNTS = """
import numpy as np
KNOWN = {}
def train(text, symbols, seconds):
    KNOWN['counts'] = np.bincount(text, minlength=symbols) + 0.1
    KNOWN['pairs'] = np.full((symbols, symbols), 0.1)
    np.add.at(KNOWN['pairs'], (text[:-1], text[1:]), 1)
def predict(pieces):
    return {answer}
"""


def counted(answer: str) -> str:
    return COUNTS.replace("{answer}", answer)


def test_a_better_recipe_needs_fewer_bits(school: ModuleType, measure: Measure) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch._dynamo")  # which an optimiser loads when it is made, and that counts
    threads = torch.get_num_threads()
    try:
        torch.manual_seed(0)
        start = measure(school, start_of("training_code"))["bits_per_byte"]
        edits = ("torch.optim.SGD", "torch.optim.AdamW"), ("RATE = 0.02", "RATE = 0.01")
        better = measure(school, changed("training_code", *edits))["bits_per_byte"]
    finally:
        torch.set_num_threads(threads)
    assert better < start - 0.2


def test_bits_are_those_of_the_probabilities_that_an_answer_stands_for(school: ModuleType, measure: Measure) -> None:
    uniform = measure(school, counted("np.zeros((len(pieces), 29))"))["bits_per_byte"]
    assert uniform == pytest.approx(np.log2(29))
    single = measure(school, counted("np.tile(np.log(KNOWN['counts']), (len(pieces), 1))"))["bits_per_byte"]
    shifted = measure(school, counted("np.tile(np.log(KNOWN['counts']) + 1e6, (len(pieces), 1))"))["bits_per_byte"]
    pairs = measure(school, counted("np.log(KNOWN['pairs'])[pieces[:, -1]]"))["bits_per_byte"]
    assert shifted == pytest.approx(single), "an answer cannot claim more than one in all"
    assert pairs < single < uniform
    assert pairs == pytest.approx(2.7, abs=0.3)


def test_every_run_speaks_another_language(school: ModuleType) -> None:
    language = importlib.import_module("language")
    texts = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        texts.append(language.Language(rng).text(rng, 20_000))
    once = texts[0]
    assert once.max() < language.SYMBOLS
    table = np.full((29, 29), 0.1)
    np.add.at(table, (once[:-1], once[1:]), 1)
    table /= table.sum(axis=1, keepdims=True)
    own, foreign = (-np.log2(table[t[:-1], t[1:]]).mean() for t in texts)
    assert own < 3
    assert foreign > np.log2(29), "what one language taught is worse than nothing in another"


@pytest.mark.parametrize(
    "answer",
    [
        "np.full((len(pieces), 29), np.nan)",
        "np.full((len(pieces), 29), np.inf)",
        "np.where(np.arange(29) == 3, 0.0, -np.inf) * np.ones((len(pieces), 1))",
        "np.zeros((len(pieces), 30))",
        "np.zeros((len(pieces) - 1, 29))",
        "np.zeros(29)",
        "0.0",
        "{'bits_per_byte': 0.0}",
        "None",
        "np.full((len(pieces), 29), '0')",
        "np.full((len(pieces), 29), 1j)",
    ],
)
def test_what_is_no_answer_is_refused(school: ModuleType, measure: Measure, answer: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        measure(school, counted(answer))


def test_no_piece_shows_what_follows_another(school: ModuleType, measure: Measure) -> None:
    """A program that looks for the end of each piece inside of the others learns what the text that it trained on would have told it."""
    peek = (
        counted("found(pieces)")
        + """
def found(pieces):
    numbers = np.log(KNOWN['pairs'])[pieces[:, -1]]
    places = {bytes(p[i - 24:i]): p[i] for p in pieces for i in range(24, len(p))}
    for row, piece in zip(numbers, pieces):
        if bytes(piece[-24:]) in places:
            row[places[bytes(piece[-24:])]] += 50
            KNOWN['hits'] = KNOWN.get('hits', 0) + 1
    assert KNOWN.get('hits', 0) < len(pieces) / 20
    return numbers
"""
    )
    pairs = measure(school, counted("np.log(KNOWN['pairs'])[pieces[:, -1]]"))["bits_per_byte"]
    assert measure(school, peek)["bits_per_byte"] > pairs - 0.1


# --- all of them, in isolation


@pytest.fixture(scope="module")
def judges() -> Iterator[Callable[[str], Judge]]:
    """One warm judge for each example, with cells of the isolation that holds here."""
    try:
        strongest_wall()
    except IsolationError as error:
        pytest.skip(f"no isolation: {error}")
    made: dict[str, Judge] = {}

    def judge(name: str) -> Judge:
        if name not in made:
            made[name] = Judge(HOME / name / "evaluator", size=1)
        return made[name]

    yield judge
    for one in made.values():
        one.close()


EDITS = """
import gc, sys
_tables = [vars(m) for m in list(sys.modules.values()) if hasattr(m, "__dict__")]
for _table in _tables + [o for o in gc.get_objects() if type(o) is dict]:
    for _name in ("searched", "heights", "unsorted", "measured", "surprise", "checked", "LOOKS", "CONTEXT"):
        if _name in _table and _table is not globals():
            _table[_name] = lambda *given, **more: 0
for _file in ("metrics.json", "correct.json", "conftest.py", "sitecustomize.py"):
    try:
        open(_file, "w").write('{"closeness": 1.0, "comparators": 1, "cost": 1.0, "correct": true}')
    except OSError:
        pass
print('{"closeness": 1.0, "comparators": 1, "cost": 1.0}')
"""


@pytest.mark.parametrize(
    ("name", "metric", "value"),
    [("function_minimization", "closeness", 0.17), ("sorting", "comparators", 28), ("matrix_multiplication", "cost", 8.01)],
)  # fmt: skip
def test_a_program_that_edits_all_that_it_can_reach_is_worth_what_it_was(
    judges: Callable[[str], Judge], name: str, metric: str, value: float
) -> None:
    honest = judges(name).judge({"program.py": start_of(name)}, 5)
    edited = judges(name).judge({"program.py": EDITS + start_of(name)}, 5)
    assert honest.metrics[metric] == pytest.approx(value, rel=0.25)
    assert edited.metrics == honest.metrics
    assert edited.score == honest.score


FORESEES = """
import numpy as np
rng = np.random.default_rng(np.random.randint(2**31, size=4))
LOWEST = []
for _dimensions in [2] * 4 + [6] * 4:
    np.linalg.qr(rng.standard_normal((_dimensions, _dimensions)))
    LOWEST.append(rng.uniform(-4.0, 4.0, _dimensions))
    rng.uniform(-0.5, 0.5, _dimensions), rng.uniform(), rng.uniform()
def suggest(points, values, left, low, high):
    return [x for x in LOWEST if len(x) == len(low)] if not len(points) else []
"""


def test_what_an_evaluator_will_draw_cannot_be_foreseen(
    judges: Callable[[str], Judge], landscapes: ModuleType, tmp_path: Path
) -> None:
    np.random.seed(5)
    state = np.random.get_state()
    (tmp_path / "program.py").write_text(f"import numpy as np\nnp.random.seed(5)\n{FORESEES}")
    np.random.set_state(state)
    known = landscapes.evaluate(str(tmp_path / "program.py"))
    assert known["closeness"] == 1.0, "who knows the seed knows it all"
    judged = judges("function_minimization").judge({"program.py": FORESEES}, 5)
    assert judged.score is not None, judged.why
    assert judged.score < 0.2


LIES = {
    "sorting": """
class Short(list):
    def __len__(self): return 0
    def __iter__(self): return iter(())
class Zero(int):
    def __lt__(self, other): return True
    def __le__(self, other): return True
""" + start_of("sorting").replace("return found", "return Short((Zero(i), Zero(j)) for i, j in found)"),
    "matrix_multiplication": """
import numpy as np
class Equal(np.ndarray):
    def __eq__(self, other): return np.ones((4, 4, 4), dtype=bool)
    def __array_ufunc__(self, *given, **more): return np.ones((4, 4, 4), dtype=bool)
    def __len__(self): return 0
def decompose(n, m, p):
    return tuple(np.ones((1, 4)).view(Equal) for _ in range(3))
""",
    "function_minimization": """
import numpy as np
class Low(float):
    def __float__(self): return 0.0
    def __lt__(self, other): return True
def suggest(points, values, left, low, high):
    return [[Low(5.0) for _ in low]]
""",
}  # fmt: skip
HONEST = {"sorting": 28, "matrix_multiplication": 8.0, "function_minimization": 0.17}


@pytest.mark.parametrize("name", LIES)
def test_objects_that_lie_arrive_as_what_they_hold(judges: Callable[[str], Judge], name: str) -> None:
    judged = judges(name).judge({"program.py": LIES[name]}, 5)
    if judged.score is not None:
        sign = EvaluatorSpec.read(HOME / name / "evaluator").of().sign
        assert sign * judged.metrics[EvaluatorSpec.read(HOME / name / "evaluator").metric] <= sign * HONEST[name]
