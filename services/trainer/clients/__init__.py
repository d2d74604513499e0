"""What the trainer reaches out to: its training processes, its directories, object storage."""
