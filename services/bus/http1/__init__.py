"""A small HTTP/1.1 client; see docs/decisions/a-client-of-our-own.md for what it is and is not."""
