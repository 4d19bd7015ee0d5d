"""The recognizer: two towers, their methods and a fusion as one LightningModule."""
