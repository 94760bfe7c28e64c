"""Instruments: keys and bytes in, bytes out. The only room that imports `cryptography`; it knows no person and no purpose."""
