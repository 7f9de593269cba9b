"""Where pages of sites become media: each one tracks, to be fetched as any file."""
