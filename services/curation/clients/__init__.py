"""What curation reaches outside its process: children that compute, objects kept at hand, language models."""
