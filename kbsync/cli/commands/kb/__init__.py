"""`kbsync kb`: manages a service's knowledge bases, applications and account."""
