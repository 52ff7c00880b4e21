"""What the dispatcher tells about itself: metrics and log lines."""
