"""Single files of a Hub repository: fetched, known to be absent, or an error."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from threecad.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AbsentError", "check_repository", "download_file"]

WAITS = (1.0, 3.0)
"""Seconds before each further attempt to fetch a file that the Hub could not give."""


class AbsentError(ModelError):
    """A file that is not in a folder or repository, or not to be had from it."""


def check_repository(source: str) -> None:
    """Raise ``ModelError`` unless this could be the name of a repository."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source) or source.startswith((".", "~")):
        raise ModelError(
            f"{source}: no such folder, and not the name of a Hub repository either "
            "(owner/name). Give the run folder that `cfrg train --out` wrote."
        )


def download_file(repository: str, name: str, **options: Any) -> Path:
    """Path of a file of a Hub repository in the local cache.

    Raises:
        AbsentError: The repository has no such file, or it is to be looked for in the cache alone
            and is not there.
        ModelError: It cannot be fetched, after some attempts.
    """
    offline = options["local_files_only"] or constants.HF_HUB_OFFLINE
    for wait in (*WAITS, None):
        try:
            return Path(hf_hub_download(repository, name, **options))
        except LocalEntryNotFoundError as error:  # before its base, which means that it is absent
            if offline or _is_known_absent(repository, name, options):
                raise AbsentError(
                    f"{repository}: no such folder here, and {name} is neither cached nor can the "
                    "Hub be reached. Check the name and the network."
                ) from None
            reason: Exception = error
        except EntryNotFoundError:
            raise AbsentError(f"{repository}: has no {name}") from None
        except RevisionNotFoundError:
            raise ModelError(f"{repository}: no revision {options['revision']!r}") from None
        except RepositoryNotFoundError:
            raise ModelError(
                f"{repository}: no such folder here, and no such repository on the Hub. "
                "If it is private, log in with `hf auth login`."
            ) from None
        except (HfHubHTTPError, OSError) as error:
            reason = error
        if wait is None or not _may_pass(reason):
            break
        time.sleep(wait)
    said = str(reason.__cause__ or reason).splitlines()[0]
    raise ModelError(
        f"{repository}: {name} cannot be fetched from the Hub ({said}). "
        "Check the network, or try again later."
    )


def _may_pass(error: Exception) -> bool:
    """Whether another attempt is sensible: the Hub is overloaded, broken or out of reach."""
    cause = error.__cause__ or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    return status is None or status in (408, 429) or status >= 500


def _is_known_absent(repository: str, name: str, options: Mapping[str, Any]) -> bool:
    """Whether the Hub said earlier that the repository has no such file."""
    path = f"{options['subfolder']}/{name}" if options.get("subfolder") else name
    found = try_to_load_from_cache(
        repository, path, cache_dir=options["cache_dir"], revision=options["revision"]
    )
    return found is not None and not isinstance(found, str)
