"""Audio files: their containers, and what stands in them about the music."""
