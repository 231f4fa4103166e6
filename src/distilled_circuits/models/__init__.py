"""Models on disk and in training: tokenizers, strict loading, teachers trained here and students distilled here."""
