"""Judging agents and markets: policies, performance, realism, audit."""
