"""The HTTP layer of all remote targets: requests are sent with care, and answers are not believed."""

from kbsync.targets.http.account import Account
from kbsync.targets.http.answers import Answer, Judge, by_status
from kbsync.targets.http.client import Client
from kbsync.targets.http.endpoint import Endpoint, Timeouts
from kbsync.targets.http.multipart import Part
from kbsync.targets.http.target import RemoteTarget

__all__ = [
    "Account",
    "Answer",
    "Client",
    "Endpoint",
    "Judge",
    "Part",
    "RemoteTarget",
    "Timeouts",
    "by_status",
]
