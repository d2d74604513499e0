"""The tiny base model, made from generated text only: corpus, tokenizer, initialisation and pre-training."""
