"""How training/build_words.py finds the directions of nouns: features, senses, model, corrections."""
