"""Workers in other processes, on this machine or on others: local processes, Ray, Dask."""

from flowerml.engine.executors.facts import machine_facts
from flowerml.engine.executors.local import warm_up
from flowerml.engine.executors.mapping import ordered
from flowerml.engine.executors.place import Place
from flowerml.engine.executors.pool import Pool, Worker, WorkerLost, open_pool
from flowerml.engine.executors.sharing import Shared

__all__ = ["Place", "Pool", "Shared", "Worker", "WorkerLost", "machine_facts", "open_pool", "ordered", "warm_up"]
