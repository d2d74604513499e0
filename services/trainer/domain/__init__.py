"""What the trainer decides, without doing any of it: batch plans, the words spoken with the training process, runs."""
