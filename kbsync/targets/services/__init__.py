"""Clients of services that make vectors and put texts in order, whatever dialect they speak."""

from __future__ import annotations
