"""Tests of what brings a log between files and a database."""
