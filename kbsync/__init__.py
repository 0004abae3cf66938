"""kbsync keeps a folder of documents mirrored into a knowledge base."""

import os

__version__ = "0.1.0"


def revision() -> str:
    """The commit that this was built from; "" for an editable install, and for a build that did not know."""
    place = os.path.join(os.path.dirname(__file__), "REVISION")  # noqa: PTH120 (pathlib takes long to load)
    try:
        with open(place, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def version_and_revision() -> str:
    """As people are told: `0.1.0 (5c343f7d01ab)`."""
    built_from = revision()
    return f"{__version__} ({built_from})" if built_from else __version__
