"""The only wiring: which implementation stands behind each port, for each role.

`create_worker` must not import FastAPI, SQL or a price source: it starts in a fraction of a second, and a test looks at
`sys.modules`. Imports of other roles therefore stand inside their functions.
"""

from gateway.app.desk import Desk, NoWorkers, create_desk, open_local, policy_compiler
from gateway.app.stores import open_books, prepare_store
from gateway.app.whole import create_app
from gateway.app.worker import WorkerParts, create_worker

__all__ = [
    "Desk",
    "NoWorkers",
    "WorkerParts",
    "create_app",
    "create_desk",
    "create_worker",
    "open_books",
    "open_local",
    "policy_compiler",
    "prepare_store",
]
