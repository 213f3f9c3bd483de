"""Requests that are refused, and why."""

from __future__ import annotations

__all__ = ["RefusedError"]


class RefusedError(Exception):
    """An answer in place of the one that was asked for.

    Args:
        status: Of HTTP.
        reason: A sentence for whoever asked.
        retry_after: Seconds after which to ask again; ``None`` where that changes nothing.
    """

    def __init__(self, status: int, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says beside its sentence."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers
