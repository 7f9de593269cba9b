"""What the music is: what files say of themselves, and what is made of it."""
