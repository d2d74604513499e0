"""What an answer is worth, what a report says and what live evidence shows; pure."""
