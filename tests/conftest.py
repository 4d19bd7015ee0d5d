"""What all tests share."""

import torch

torch.set_num_threads(1)  # the towers of the tests are too small to share among threads
