"""Trains the embedded model of minikeep from the facts in this folder (see ../README.md)."""
