"""The parts of `gdrive`: what Drive says of files (items), what is remembered of it (index), where paths lead (folders),
how it is asked (calls), documents as files (exports), and how files get there (uploads). And who is let in: tokens, of
accounts (accounts), asked for through google-auth (exchange), granted at a login (granted)."""
