"""The parts of `gdrive`: what Drive says of files (items), what is remembered of it (index), where paths go (folders),
how it is asked (calls), documents as files (exports), how files get there (uploads). And who is let in: tokens, of an
account (accounts), asked for through google-auth (exchange), granted at a login (granted)."""
