"""Rules that operators set while hbtd runs, such as thresholds; the store keeps them."""
