"""Experiments on request: does X help on Y? Arms side by side on practice tasks, and an answer in words with an interval.

=================  ==============================================================================
:mod:`.plan`       what is asked: arms, repeats, budget; read from TOML
:mod:`.arms`       each arm as a body: a generation with named changes to its texts
:mod:`.trial`      every arm answers the same tasks with the same seeds
:mod:`.answer`     paired differences, their intervals, and what they say
:mod:`.kept`       the record: a folder under ``.upwright/experiments/``, and a note on the ledger
:mod:`.plain`      a question in plain language, made into a plan by a language model
=================  ==============================================================================

An experiment changes nothing and promotes nothing, and it never sees a sealed task.
"""
