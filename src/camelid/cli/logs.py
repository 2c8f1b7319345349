"""Where log lines go and what they look like: standard error, as sentences or as JSON objects."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from camelid.settings import LogSettings


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (RFC 3339, UTC), level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logs(settings: LogSettings, *, quiet: bool = False) -> None:
    """Send Camelid's log to standard error. `quiet` keeps to warnings: a person at the console asked for an answer."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if settings.log_json else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logger = logging.getLogger("camelid")
    logger.handlers[:] = [handler]
    logger.propagate = False
    level = getattr(logging, settings.log_level.upper())
    logger.setLevel(max(level, logging.WARNING) if quiet else level)
