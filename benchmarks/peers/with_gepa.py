"""GEPA: so many proposals, its other settings as they are. It has no model client of its own installed, so a plain request stands in for one.

A proposal that scores no better is dropped and the parent is measured again for the next one, so proposals are counted here, not evaluations.
"""

import importlib.util
import json
import os
import sys
import time
import urllib.request

from gepa.optimize_anything import EngineConfig, GEPAConfig, ReflectionConfig, optimize_anything


def asked(url):
    """A function that asks the model and stamps the time."""

    def ask(prompt):
        text = prompt if isinstance(prompt, str) else json.dumps(prompt)
        body = json.dumps({"model": "mock", "messages": [{"role": "user", "content": text}]}).encode()
        request = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
        with open(os.environ["STAMPS"], "a") as file:
            file.write(f"{time.monotonic()}\n")
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)["choices"][0]["message"]["content"]

    return ask


def evaluated(folder, scratch):
    """The evaluator as a function of a program's text."""
    spec = importlib.util.spec_from_file_location("evaluator", f"{folder}/evaluator.py")
    evaluator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(evaluator)

    def evaluate(candidate):
        path = f"{scratch}/candidate.py"
        with open(path, "w") as file:
            file.write(candidate)
        return evaluator.whole(path)["combined_score"]

    return evaluate


if __name__ == "__main__":
    url, folder, scratch, candidates = sys.argv[1:]
    with open(f"{folder}/program.py") as file:
        start = file.read()
    engine = EngineConfig(max_candidate_proposals=int(candidates), parallel=False, cache_evaluation=False)
    config = GEPAConfig(
        engine=engine, reflection=ReflectionConfig(reflection_lm=asked(url.replace("/v1", "/whole/v1")))
    )
    found = optimize_anything(start, evaluator=evaluated(folder, scratch), objective="a higher score", config=config)
    print(found)
