"""What can be known of GPUs without one, and, marked `gpu`, what only a GPU can tell (`make gpu`)."""
