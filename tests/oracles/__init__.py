"""Independent references: one file = one architecture, a plain loop (or sum) written from the paper's equations.

Torch only; nothing of dsf is imported, so that an error in the library cannot hide in its own reference. Every
file has ``run(signals, u) -> (y, final state)``; ``ORACLES`` maps the file's name to it.
"""

import importlib
import pkgutil

ORACLES = {
    module.name: importlib.import_module(f"{__name__}.{module.name}").run
    for module in pkgutil.iter_modules(__path__)
    if not module.name.startswith("_")
}

__all__ = ["ORACLES"]
