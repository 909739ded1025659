"""JSON logs on stderr: never a secret, a name, an address or a full account number."""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

ANSWERING_TOO_MUCH = ("aiokafka", "faust", "mode", "zeep", "uvicorn", "httpx", "asyncio")
WORDED_FOR_LOGS = ("services", "aiokafka")
"""Packages whose exceptions' texts hold no customer's data."""


def configure(service: str, level: str = "INFO") -> None:
    """Sends structlog's and the standard library's records to stderr as one JSON object a line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            name_fault,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.__stderr__),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                name_fault,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_logger_name,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in ANSWERING_TOO_MUCH:
        logging.getLogger(name).setLevel(logging.WARNING)


def name_fault(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """In place of an exception its kind and frames; its text only where it is of our own making."""
    told = line.pop("exc_info", None)
    if told is True:
        told = sys.exc_info()
    error = told[1] if isinstance(told, tuple) else told
    if not isinstance(error, BaseException):
        return line
    line.setdefault("error", type(error).__name__)
    line.setdefault("where", where(error))
    if type(error) is LookupError or type(error).__module__.partition(".")[0] in WORDED_FOR_LOGS:
        line.setdefault("reason", str(error))
    return line


def where(error: BaseException) -> list[str]:
    """The frames of an error as file:line function; its text may hold a customer's data, so is left out."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]


def mask_account(account: str) -> str:
    """An account number with all but its last three characters hidden, for logs and errors."""
    return f"***{account[-3:]}" if len(account) > 5 else "***"
