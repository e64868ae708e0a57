"""Every task is a training seed: reach the loss from that seed, at as little cost as you can.

The answer is what the training engine measured. The score is linear in the logarithm of the cost: 1 at BEST or less, 0 at WORST or more and where
the loss was not reached. Half the cost is a sixth more, wherever one begins: the gate bets on differences in [-1, 1], so a wider scale, on which
half the cost counts for less, needs more trainings to prove the same.
"""

import json
import math
import random

LOSS = 0.9  # held-out loss to reach, in nats per character; a uniform guess over the 31 characters has 3.4
WORST = 6.4e11  # training FLOPs from which on nothing is given
BEST = WORST / 64
MEASURE = "flops"  # or "tokens", or "seconds": wall time, which other work on the machine disturbs


def generate(seed):
    """A training seed as a task."""
    asked = {"seed": random.Random(seed).getrandbits(62), "loss": LOSS, "flops": WORST}
    return {"input": json.dumps(asked), "answer": "-", "skill": "time to quality", "scorer": {"kind": "python"}}


def score(text, task):
    """1 at BEST or less, 0 at WORST or more, by the logarithm of the cost; 0 where the loss was not reached."""
    told = json.loads(text)
    if told.get("reached") is not True:
        return 0.0
    spent = float(told[MEASURE])
    return min(1.0, max(0.0, math.log(WORST / max(spent, 1e-9)) / math.log(WORST / BEST)))
