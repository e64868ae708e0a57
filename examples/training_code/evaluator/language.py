"""A language that nobody knows: words, grammar and stories, drawn anew for every run.

Words are made of syllables and fall into classes; the words of a class follow Zipf's law. A sentence is a sequence of classes, and which kind of sentence comes
next depends on the last one. A story has two names; who is told of takes turns, and words of one class end as the name demands. So there is
something to learn from the last letters, from the word, from the sentence, and from the story.
"""

import numpy as np

LETTERS = 26
SPACE, STOP, END = LETTERS, LETTERS + 1, LETTERS + 2
SYMBOLS = LETTERS + 3
"""Text is numbers below this: letters, the space between words, the stop after a sentence, the end of a story."""


class Language:
    """One language.

    Args:
        rng: a numpy generator; what it draws is the language.
    """

    def __init__(self, rng, classes=7, words=24, kinds=6):
        vowels, consonants = np.split(rng.permutation(LETTERS), [6])
        self.syllables = [
            [int(rng.choice(consonants)), int(rng.choice(vowels)), *rng.choice(consonants, int(rng.random() < 0.3))]
            for _ in range(60)
        ]
        self.names = [self._word(rng, 2, 4) for _ in range(2 * words)]
        self.words = [[self._word(rng, 1, 4) for _ in range(words)] for _ in range(classes)]
        self.often = 1 / np.arange(1, words + 1)
        self.often /= self.often.sum()
        self.endings = [self.syllables[i] for i in rng.integers(len(self.syllables), size=3)]
        self.gender = rng.integers(len(self.endings), size=len(self.names))
        self.sentences = [[-1, *rng.integers(classes, size=rng.integers(3, 8))] for _ in range(kinds)]
        self.next = rng.dirichlet(np.full(kinds, 0.4), size=kinds)

    def _word(self, rng, least, most):
        picked = rng.integers(len(self.syllables), size=rng.integers(least, most))
        return [letter for i in picked for letter in self.syllables[i]]

    def text(self, rng, symbols):
        """Stories, so many symbols of them; an array of uint8."""
        found = []
        while len(found) < symbols:
            found += self.story(rng)
        return np.array(found[:symbols], dtype=np.uint8)

    def story(self, rng):
        """Three to eight sentences about two names."""
        told = rng.integers(len(self.names), size=2)
        kind, found = rng.integers(len(self.sentences)), []
        for turn in range(rng.integers(3, 9)):
            name = told[turn % 2]
            picked = iter(rng.choice(len(self.often), size=len(self.sentences[kind]), p=self.often))
            for one, word in zip(self.sentences[kind], picked):
                found += self.names[name] if one < 0 else self.words[one][word]
                if one == 0:
                    found += self.endings[self.gender[name]]
                found.append(SPACE)
            found[-1] = STOP
            kind = rng.choice(len(self.next), p=self.next[kind])
        return [*found, END]
