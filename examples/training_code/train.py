"""Trains a tiny language model for a few seconds of processor time, on text that it has never seen, and predicts what comes next."""

import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)
MODEL = None

# EVOLVE-BLOCK-START
CONTEXT = 8
EMBEDDED = 16
HIDDEN = 128
BATCH = 64
RATE = 0.02
SHARE = 0.8


class Model(nn.Module):
    """One hidden layer over the last symbols, all their features side by side."""

    def __init__(self, symbols):
        super().__init__()
        self.embed = nn.Embedding(symbols, EMBEDDED)
        self.hidden = nn.Linear(CONTEXT * EMBEDDED, HIDDEN)
        self.out = nn.Linear(HIDDEN, symbols)

    def forward(self, x):
        """Logits of what follows; x: symbols, shape (n, CONTEXT)."""
        return self.out(torch.tanh(self.hidden(self.embed(x).flatten(1))))


def fit(text, symbols, seconds):
    """Train until a share of the time is over."""
    end = time.process_time() + SHARE * seconds
    model = Model(symbols)
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE)
    places = torch.arange(CONTEXT)
    while time.process_time() < end:
        starts = torch.randint(len(text) - CONTEXT, (BATCH, 1))
        loss = F.cross_entropy(model(text[starts + places]), text[starts[:, 0] + CONTEXT])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def logits(model, pieces):
    """What follows each piece, shape (pieces, symbols)."""
    return model(pieces[:, -CONTEXT:])


# EVOLVE-BLOCK-END


def train(text, symbols, seconds):
    """Learn from a text.

    Args:
        text: numbers below ``symbols``, uint8, shape (length,).
        seconds: of processor time, from this call to the last answer.
    """
    global MODEL
    MODEL = fit(torch.from_numpy(text.astype(np.int64)), symbols, seconds)


def predict(pieces):
    """A number for every symbol that could follow each piece: unnormalised log-probabilities, shape (pieces, symbols).

    Args:
        pieces: symbols, uint8, shape (pieces, length).
    """
    with torch.inference_mode():
        return logits(MODEL, torch.from_numpy(pieces.astype(np.int64))).numpy()
