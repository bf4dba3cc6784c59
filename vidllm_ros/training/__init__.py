"""The offline training companion; the node never imports it."""
