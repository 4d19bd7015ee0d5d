"""From a video file to the frames of a clip."""
