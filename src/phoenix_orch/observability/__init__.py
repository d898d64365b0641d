"""What Phoenix says of itself: metrics and traces."""
