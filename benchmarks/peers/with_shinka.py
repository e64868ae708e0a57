"""ShinkaEvolve: so many generations, two evaluations at once, diffs alone, no embeddings; its other settings as they are."""

import sys

from shinka.core import EvolutionConfig, ShinkaEvolveRunner
from shinka.database import DatabaseConfig
from shinka.launch import LocalJobConfig

EVALUATE = """import os
import time

from shinka.core import run_shinka_eval


def main(program_path, results_dir):
    run_shinka_eval(
        program_path=program_path, results_dir=results_dir, experiment_fn_name="answer", num_runs=1, get_experiment_kwargs=lambda i: {},
        aggregate_metrics_fn=lambda results: {"combined_score": float(results[0])},
    )
    with open(os.environ["STAMPS"], "a") as file:
        file.write(f"{time.monotonic()}\\n")


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--program_path")
    parser.add_argument("--results_dir")
    given = parser.parse_args()
    main(given.program_path, given.results_dir)
"""

if __name__ == "__main__":
    url, folder, scratch, candidates = sys.argv[1:]
    with open(f"{folder}/evaluate.py", "w") as file:
        file.write(EVALUATE)
    evolution = EvolutionConfig(
        num_generations=int(candidates), patch_types=["diff"], patch_type_probs=[1.0], llm_models=[f"local/mock@{url}"],
        llm_dynamic_selection=None, meta_rec_interval=None, embedding_model=None, init_program_path=f"{folder}/program.py",
        results_dir=f"{scratch}/results",
    )  # fmt: skip
    runner = ShinkaEvolveRunner(
        evo_config=evolution, job_config=LocalJobConfig(eval_program_path=f"{folder}/evaluate.py"),
        db_config=DatabaseConfig(db_path="search.sqlite"), max_evaluation_jobs=2, max_proposal_jobs=2, verbose=False,
    )  # fmt: skip
    runner.run()
