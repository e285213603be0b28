"""What the drop-in modules of the compat wheel share."""
