"""OpenEvolve: a search of so many iterations, two evaluations at once, one model, its other settings as they are."""

import sys

from openevolve import run_evolution
from openevolve.config import Config, LLMModelConfig

if __name__ == "__main__":
    url, folder, scratch, candidates = sys.argv[1:]
    config = Config(max_iterations=int(candidates), log_level="ERROR")
    config.llm.models = [
        LLMModelConfig(name="mock", api_base=url, api_key="none", timeout=30, retries=1, retry_delay=1)
    ]
    config.llm.evaluator_models = list(config.llm.models)
    config.evaluator.parallel_evaluations = 2
    config.evaluator.cascade_evaluation = False
    found = run_evolution(
        f"{folder}/program.py", f"{folder}/evaluator.py", config, iterations=int(candidates), output_dir=scratch
    )
    print(found)
