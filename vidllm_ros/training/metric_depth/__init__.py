"""Training and evaluation of the convolutional Metric Depth Model on single frames: rendered rooms and real rooms."""
