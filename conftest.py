"""Tests step as they say: what they leave open is uncompiled, and no other process compiles meanwhile."""

import os

os.environ["TORCHGYM_COMPILE"] = "0"
