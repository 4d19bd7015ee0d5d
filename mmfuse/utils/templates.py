"""The prompt that class names are put into where neither a grid nor a card has another."""

DEFAULT_TEMPLATE = "a video of a person {}."
