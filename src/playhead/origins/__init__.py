"""Where bytes come from: each module gives a Tree."""
