"""The parts of `gdrive`: what Drive says of files (items), what is remembered of it (index), how it is asked (calls),
documents as files (exports), and how files get there (uploads)."""
