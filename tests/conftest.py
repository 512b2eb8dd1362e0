"""Every test process computes with one thread: several of them share the machine."""

import torch

torch.set_num_threads(1)
