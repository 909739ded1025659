"""JSON logs on stderr: never a secret, a name, an address or a full account number."""

import logging
import sys

import structlog

ANSWERING_TOO_MUCH = ("aiokafka", "faust", "mode", "zeep", "uvicorn", "httpx", "asyncio")


def configure(service: str, level: str = "INFO") -> None:
    """Sends structlog's and the standard library's records to stderr as one JSON object a line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
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
                structlog.processors.format_exc_info,
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


def mask_account(account: str) -> str:
    """An account number with all but its last three characters hidden, for logs and errors."""
    return f"***{account[-3:]}" if len(account) > 5 else "***"
