"""Small searches with all that they result in, as plain data that can be compared."""

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from torch import nn

from flowerml.engine.executors.pool import Pool
from flowerml.search.driver import Workers
from flowerml.search.networks import Networks, Winner
from flowerml.search.search import SearchStorage, run_search
from flowerml.search.trial import Trial
from flowerml.tasks.pipelines import load_pipeline
from tests.support.drawn_pool import DrawnPool
from tests.support.project import REPOSITORY
from tests.support.recorded_runs import key_of

EXPERIMENT = "small"
RATES = {"low": 0.0001, "high": 0.3, "log": True}
SPACE = {"learning_rate": RATES, "dropout": {"low": 0.0, "high": 0.8}}


class Silent:
    """A display that shows nothing, and that Ctrl-C ends after so many epochs."""

    def __init__(self, epochs: int | None = None) -> None:
        self.left = epochs

    @contextmanager
    def __call__(self, plan: Any) -> Any:
        yield self

    def epoch(self, trial: Trial, epoch: Any) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def trial(self, trial: Trial) -> None:
        pass


def section_of(search: dict[str, Any], **values: Any) -> Any:
    """Return the section `train` of flowers with this search, whose first trial is not its best."""
    section = load_pipeline("flowers", REPOSITORY / "params.yaml").train
    search = {"prune": True, "space": SPACE, "ahead": 1, **search}
    return section.with_values({"epochs": 9, "seed": 1, "learning_rate": 0.1, **values, "search": search})


@dataclass(frozen=True)
class Outcome:
    """What a search results in but for times: its trials, the bits of its networks, and its runs in MLflow."""

    trials: list[dict[str, Any]]
    networks: list[dict[str, Any]]
    runs: dict[str, dict[str, Any]]


def searched(
    section: Any,
    networks: Networks,
    *,
    pool: Pool | None = None,
    factory: str = "",
    display: Silent | None = None,
    finish: bool = True,
    folder: Path = Path("checkpoint"),
) -> Outcome:
    """Run a search and the trainings after it, in workers of the pool if there is one."""
    storage = SearchStorage(EXPERIMENT, folder, "key")
    workers = None
    if isinstance(pool, DrawnPool):
        workers = Workers(pool, factory, (), pool.wait)
    elif pool is not None:
        workers = Workers(pool, factory, ())
    result = run_search(
        section,
        networks,
        storage,
        parameters=lambda trial: {"train.learning_rate": trial.section.learning_rate, "train.seed": trial.section.seed},
        tags={},
        datasets=[],
        show_progress=display or Silent(),
        workers=workers,
    )
    winners = [result.winner, *result.repeats]
    if finish:
        storage.finish(result)
    return Outcome([_trial(trial) for trial in result.search.trials], [_network(each) for each in winners], runs())


def runs() -> dict[str, dict[str, Any]]:
    """Return the runs of the last search by their names; a name is there once, or this fails."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"], max_results=1000)
    parent = [run.info.run_id for run in found if run.info.run_name == "search"][-1]
    runs = [run for run in found if parent in (run.info.run_id, run.data.tags.get("mlflow.parentRunId"))]
    names = [key_of(run) for run in runs]
    assert len(set(names)) == len(names), f"a run is there twice: {sorted(names)}"
    return {
        key_of(run): {
            "status": run.info.status,
            "params": run.data.params,
            "tags": {name: value for name, value in run.data.tags.items() if name in ("pruned", "mixed_processors")},
            "metrics": {name: value for name, value in run.data.metrics.items() if "seconds" not in name},
            "epochs": sorted({row.step: row.value for row in client.get_metric_history(run.info.run_id, "valid_loss")}),
        }
        for run in runs
    }


def _trial(trial: Trial) -> dict[str, Any]:
    epochs = [{name: value for name, value in asdict(epoch).items() if name != "seconds"} for epoch in trial.epochs]
    # Without the space and the number of trials, which differ where a search is extended.
    section = trial.section.model_dump(exclude={"search"})
    return {"kind": trial.kind, "section": section, "state": trial.state, "reason": trial.reason, "epochs": epochs}


def _network(winner: Winner) -> dict[str, Any]:
    def bits(network: nn.Module | None) -> dict[str, Any] | None:
        return network and {name: tensor.tolist() for name, tensor in network.state_dict().items()}

    return {
        "trial": winner.trial.name,
        "members": [(member.trial.name, member.count) for member in winner.members],
        "network": bits(winner.network),
        "refitted": bits(winner.refitted),
    }
