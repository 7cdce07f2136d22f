"""
What an agent reports of its machine.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys

from tunnelstack.version import VERSION
from tunnelstack.wire.records.agentserver import MachineDocument


def machineDocument() -> MachineDocument:
    """
    @return: the present state of this machine.  What cannot be found out is left empty.
    """
    disk_total, disk_free = _disk()
    release = _release()
    return MachineDocument(
        hostname=platform.node(), os=sys.platform, platform=release.get("ID", ""),
        platform_version=release.get("VERSION_ID", ""), kernel_arch=platform.machine(), cpu_model_name=platform.processor(),
        cpu_count_logical=os.cpu_count() or 0, memory_total=_memory(), disk_total=disk_total, disk_free=disk_free,
        agent_version=f"tunnelstack/{VERSION}", workdir=_workingFolder(),
    )


def _release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def _disk() -> tuple[int, int]:
    try:
        usage = shutil.disk_usage("/")
    except OSError:
        return 0, 0
    return usage.total, usage.free


def _workingFolder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""
