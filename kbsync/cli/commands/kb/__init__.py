"""`kbsync kb`: knowledge bases, applications and the account at a service."""
