"""From a model's folder to what a request passes through."""
