"""Clients of services that make vectors and rank texts, in every dialect."""

from __future__ import annotations
