"""Every test process computes with one thread (several share the machine) and keeps its tokens apart."""

import os
import tempfile

import torch

torch.set_num_threads(1)
os.environ["RANKADAPT_CACHE"] = os.path.join(tempfile.gettempdir(), f"rankadapt-tests-{os.getuid()}")
