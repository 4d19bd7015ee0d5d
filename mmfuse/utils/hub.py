"""Requests to the Hugging Face hub, whose refusals are told in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session, validate_repo_id

from mmfuse.errors import MmfuseError, one_line

REACHED_WITHIN = 10  # seconds for the hub's first answer
DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"


def why_unreachable() -> str | None:
    """Why the hub cannot be reached; `None` where it answers. One request with a time limit, and no second try."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=REACHED_WITHIN)
    except Exception as error:  # the kind depends on which HTTP library the hub's client is built on
        return one_line(error)
    return None


def repository_id(name: str) -> str:
    """A repository's name, checked before any request.

    Raises:
        MmfuseError: it is none of the form owner/name.
    """
    try:
        validate_repo_id(name)
        owner, _, model = name.partition("/")
        if not owner or not model:
            raise HFValidationError("it has no owner")
    except HFValidationError as error:
        raise MmfuseError(
            f"{name!r:.100} is no repository of the hub ({one_line(error, most=150)}); it is written owner/name"
        ) from None
    return name


@contextmanager
def hub_errors(repository: str, *, revision: str | None = None, doing: str = "read") -> Iterator[None]:
    """Say in one line why a request about a repository fails.

    Args:
        repository: owner/name.
        revision: the branch, tag or commit that was asked for.
        doing: "read" or "written".

    Raises:
        MmfuseError: what the hub says, and what to do.
    """
    try:
        yield
    except MmfuseError:
        raise
    except Exception as error:  # also those of the HTTP library, whichever it is
        raise MmfuseError(_told(error, repository, revision, doing)) from error


def _told(error: Exception, repository: str, revision: str | None, doing: str) -> str:
    status: Any = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return f"{repository} asks for an agreement to its terms: accept them on its page, and {LOG_IN}"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no repository {repository}, or it is private: check its name, and {LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no branch, tag or commit {revision!r}; see which it has on its page"
    if status in (401, 403):
        return f"the hub does not let {repository} be {doing} with this token ({_said(error)}); {LOG_IN}"
    if isinstance(error, BadRequestError):
        return f"the hub refuses {repository}: {_said(error)}; change what it names"
    if isinstance(error, OSError) and error.errno in DISK:
        return f"{repository} cannot be kept in the hub's cache: {one_line(error)}; set HF_HOME to another folder"
    if isinstance(error, HfHubHTTPError) and status is not None:
        return f"the hub failed at {repository} ({status}: {_said(error)}); try again later"
    if isinstance(error, (KeyError, TypeError, AttributeError)):
        return f"the hub answered about {repository} in a way that its client does not know ({error!r:.100}); update it"
    return f"{repository} cannot be {doing}: the hub cannot be reached ({one_line(error)}); try again later"


def _said(error: Exception) -> str:
    """What the server itself says, without addresses and numbers of requests."""
    return one_line(getattr(error, "server_message", None) or type(error).__name__, most=200)
