"""cohab: call a native engine that runs in a pool of worker processes.

import cohab

with cohab.connect("/run/cohab/spell.sock", timeout=5.0) as client:
    client.call("suggest", "recieve")

with cohab.Pool("spell", workers=4, args=["en_US"]) as pool:
    pool.call("suggest", "recieve")
"""

import logging

from .client import Client, connect
from .errors import (
    Cancelled,
    DeadlineExceeded,
    EngineCrashed,
    EngineError,
    Error,
    InvalidArgument,
    MethodNotFound,
    PermissionDenied,
    ProtocolError,
    Quarantined,
    ResourceExhausted,
    StartError,
    Unavailable,
)
from .pool import Pool

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "EngineCrashed",
    "EngineError",
    "Error",
    "InvalidArgument",
    "MethodNotFound",
    "PermissionDenied",
    "Pool",
    "ProtocolError",
    "Quarantined",
    "ResourceExhausted",
    "StartError",
    "Unavailable",
    "connect",
]

logging.getLogger("cohab").addHandler(logging.NullHandler())
