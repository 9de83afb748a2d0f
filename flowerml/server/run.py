"""From settings to a running server: the packages it needs, its socket, and one process or several."""

import importlib.util
from dataclasses import replace

from flowerml.core.errors import FlowermlError
from flowerml.server.process import Announce, run_process
from flowerml.server.settings import Settings
from flowerml.server.supervisor import Supervisor
from flowerml.web.listening import listen

PACKAGES = ("mlflow", "uvicorn", "httptools", "prometheus_client", "python_multipart")


def serve(settings: Settings, announce: Announce) -> int:
    """Serve until SIGTERM or Ctrl-C and return the exit code: 0 where all accepted requests were answered.

    Raises FlowermlError where a package is missing, the port is taken, or a model cannot be loaded.
    """
    _check_packages()
    with listen(settings.host.strip("[]"), settings.port, what="the models", may_choose=True) as listening:
        settings = replace(settings, port=listening.getsockname()[1])
        if settings.workers > 1:
            return Supervisor(settings, listening, announce).run()
        run_process(settings, listening, announce)
    return 0


def _check_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise FlowermlError(f"serving needs {', '.join(missing)}; run: pip install 'flowerml[serve]'")
