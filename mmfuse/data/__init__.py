"""From annotation files and videos to batches of frames. Knows nothing of models."""
