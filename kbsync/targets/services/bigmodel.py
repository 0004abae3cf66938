"""Error codes of Zhipu's open platform, grouped by meaning.

The platform's knowledge API and its models share them. Source: the platform's page of error codes.
"""

from __future__ import annotations

BAD_KEY = frozenset({"1000", "1001", "1002", "1003", "1004"})
BAD_ACCOUNT = frozenset({"1100", "1110", "1111", "1112", "1121"})
"""Codes for an unusable account: inactive, missing, locked or without any permissions."""

NO_MONEY = frozenset({"1113", "1304", "1308", "1309", "1310", "1311", "1313"})
"""Codes for a used-up balance, quota or plan. Most come with HTTP 429, but waiting doesn't help."""

RATE_LIMIT = frozenset({"1302", "1303", "1305", "1312"})
BAD_REQUEST = frozenset({"1210", "1211", "1212", "1213", "1214", "1215", "1261", "1300", "1301"})
"""Codes for an error caused by a parameter or the content."""
