"""To come."""

ENTRIES = ()
