"""NVIDIA GPUs through libnvidia-ml, by ctypes. Where there is no driver there are no devices.

Also used by the local cluster to find out what can be offered.
"""

from __future__ import annotations

import ctypes
from typing import Any, List, NamedTuple, Optional

_NOT_AVAILABLE = 2**64 - 1


class Device(NamedTuple):
    """One GPU; memory in bytes."""

    number: int
    uuid: str
    name: str
    memory_total: int


class Load(NamedTuple):
    """How one GPU is used now: by everybody, and (``processes``) by whom. Bytes, percent."""

    memory: int
    utilization: int
    processes: "dict[int, int]"


class _Memory(ctypes.Structure):
    _fields_ = [
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class _Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _Process(ctypes.Structure):  # nvmlProcessInfo_t as of ..._v3
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("instance", ctypes.c_uint),
        ("compute", ctypes.c_uint),
    ]


class Nvml:
    """An open library. Use :func:`open_library`; close it when done."""

    def __init__(self, library: Any) -> None:
        self._library = library
        if library.nvmlInit_v2() != 0:
            raise OSError("nvmlInit failed")

    def close(self) -> None:
        """Let the library go."""
        self._library.nvmlShutdown()

    def _handle(self, index: int) -> Optional[ctypes.c_void_p]:
        handle = ctypes.c_void_p()
        failed = self._library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
        return None if failed else handle

    def devices(self) -> List[Device]:
        """All GPUs this process may see."""
        count = ctypes.c_uint()
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        found = []
        for index in range(count.value):
            handle = self._handle(index)
            if handle is None:
                continue
            uuid = ctypes.create_string_buffer(96)
            name = ctypes.create_string_buffer(96)
            memory = _Memory()
            library = self._library
            if library.nvmlDeviceGetUUID(handle, uuid, 96) != 0:
                continue
            library.nvmlDeviceGetName(handle, name, 96)
            library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
            found.append(Device(index, uuid.value.decode(), name.value.decode(), int(memory.total)))
        return found

    def load(self, index: int) -> Optional[Load]:
        """How a GPU is used now, or None when it does not tell."""
        handle = self._handle(index)
        if handle is None:
            return None
        memory, utilization = _Memory(), _Utilization()
        if self._library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) != 0:
            return None
        self._library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(utilization))
        processes = {}
        room = ctypes.c_uint(128)
        table = (_Process * room.value)()
        ask = getattr(self._library, "nvmlDeviceGetComputeRunningProcesses_v3", None)
        if ask is not None and ask(handle, ctypes.byref(room), table) == 0:
            for one in table[: room.value]:
                processes[int(one.pid)] = 0 if one.used == _NOT_AVAILABLE else int(one.used)
        return Load(int(memory.used), int(utilization.gpu), processes)


def open_library(library: Any = None) -> Optional[Nvml]:
    """Open NVML, or return None where there is no NVIDIA driver. ``library`` is for tests."""
    try:
        return Nvml(library or ctypes.CDLL("libnvidia-ml.so.1"))
    except (OSError, AttributeError):
        return None


def devices() -> List[Device]:
    """All GPUs of this machine; empty where there are none."""
    nvml = open_library()
    if nvml is None:
        return []
    try:
        return nvml.devices()
    finally:
        nvml.close()
