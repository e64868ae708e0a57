"""How the error rate is spent over a run's stream of tests: e-LOND.

Source: Xu & Ramdas 2024, "Online multiple testing with e-values": promote iff
``E_t ≥ 1 / (α γ_t (R_{t−1} + 1))`` with Σ γ_t ≤ 1 holds the false discovery rate at α under any
dependence between tests. ``"fwer"`` drops the factor (R + 1) and holds the family-wise error rate
(a union bound). R counts promotions that were carried out, which is at most the number of PROMOTE
verdicts, so both the promotions and the verdicts are covered. The state is the ledger's and is never reset.

What "any dependence" asks here: each test's e-value is one given all that was known at its commit, R included, because
the gate stops at, and bets for, a threshold in which R stands. Tasks drawn after the commit see to that.
"""

from __future__ import annotations

from typing import Literal

ErrorControl = Literal["fdr", "fwer"]


def gamma(t: int) -> float:
    """Share of the error rate for the t-th test, t = 1, 2, …: ``1 / (t (t + 1))``, which sums to 1."""
    if t < 1:
        raise ValueError(f"tests are counted from 1, got {t!r}")
    return 1.0 / (t * (t + 1))


def threshold(alpha: float, t: int, promotions: int, control: ErrorControl = "fdr") -> float:
    """The e-value that the t-th test must reach.

    Args:
        alpha: error rate of the whole run, in (0, 1).
        t: number of this test, counted from 1 over the whole run.
        promotions: promotions before this test was committed.
    """
    found = promotions + 1 if control == "fdr" else 1
    return 1.0 / (alpha * gamma(t) * found)
