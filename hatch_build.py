"""What a wheel carries beside the source: the programs in the folder that TORCHGYM_PROGRAMS names, as `make wheel` sets it.

Without the variable a wheel carries none, and is for every platform.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Programs(BuildHookInterface[Any]):
    """Puts the programs into the package, and the platform into the wheel's name."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built."""
        given = os.environ.get("TORCHGYM_PROGRAMS")
        if not given or version == "editable":
            return
        if not list(Path(given).glob("*/program.json")):
            raise FileNotFoundError(f"TORCHGYM_PROGRAMS is {given!r}, where there are no programs")
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["force_include"][given] = "torchgym/programs"
        # The kernels use neither Python nor torch, so any Python will do.
        build_data["pure_python"], build_data["tag"] = False, f"py3-none-{platform}"
