"""What a trained model says of videos, and which frames decided."""
